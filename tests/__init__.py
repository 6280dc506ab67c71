"""A package of its own, because a dependency may ship a top-level package of this name, which would go before a folder without this file."""
