"""The decision about one person and one use, the evidence it looks at, and the policy after it.

Does no I/O: it works on one consistent version of listing, relief, catalogue and keys.
"""
