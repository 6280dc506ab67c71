"""Writing a repository: first version, proposals, listings, relief, bundles, pruning."""
