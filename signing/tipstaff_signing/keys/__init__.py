"""Keys: files of them, modules that hold them, and the addresses that name either."""
