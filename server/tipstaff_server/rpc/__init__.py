"""What every call passes through: admission, limits, streams, and errors as gRPC statuses.

It knows callers, and nothing of the registry.
"""
