"""Whom a question is about: numbers and names in their one canonical form.

First on the way of the data: everything later works on the packed identifiers made here.
"""
