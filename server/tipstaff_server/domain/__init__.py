"""The vocabulary: states, events, acts, parties, bounds. No I/O and no database."""
