"""Whole columns of numbers and names, read from NumPy, Arrow or plain sequences.

Does for many rows at once what `identity` does for one.
"""
