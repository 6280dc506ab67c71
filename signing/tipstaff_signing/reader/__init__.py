"""Reading a repository: verified, locked, never going back, also while offline.

`Reader` is for our own repositories, `PlainReader` for any that follows the TUF specification.
"""
