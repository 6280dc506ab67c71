"""The file of sealed records: built, read, changed by deltas, merged, and served by buckets.

A pack knows locators and sizes, and never opens a record.
"""
