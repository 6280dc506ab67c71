"""What the operator runs: the registry, its publications, and the gRPC service over mutual TLS.

A folder is a domain, named after the way of the data: importing, registry, listing, signoff,
repository, distribution, enforcement. docs/architecture.md is the map.
"""
