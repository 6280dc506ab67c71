"""Decisions for many rows at once, all on one version of the data.

The clear rows are settled as columns; the few hits are proved one by one.
"""
