"""The running server: its endpoint, and the loops beside it that act when something is due."""
