"""Disputes: opening one, answering it, following it by its case number."""
