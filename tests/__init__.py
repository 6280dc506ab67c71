"""A package of its own: a dependency may ship a top-level `tests`, which would go before a folder
without this file.
"""
