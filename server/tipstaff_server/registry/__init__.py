"""The registry: everything that may be done to what it keeps, each act by one ritual (`unit.py`).

restrictions   entering, approving, ending, correcting, exempting, searching; remedies
subjects       who is meant: numbers, names, posts; merging and splitting
disputes       opening, answering, following
keys           rotating the keys at rest; another stretch
"""
