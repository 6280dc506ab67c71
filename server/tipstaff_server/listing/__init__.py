"""Builds the listing of an audience from the registry, and publishes it once it is signed off.

`build` is the whole procedure; `incremental`, `last_build` and `changed_subjects` spare it work.
"""
