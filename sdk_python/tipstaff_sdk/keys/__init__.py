"""Where a provider keeps its epoch master keys: in memory, a keyring, a token or a file.

Without the key of its epoch a listing cannot be read.
"""
