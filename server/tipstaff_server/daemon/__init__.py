"""The running server: its gRPC endpoint, the loops beside it, and when they are due."""
