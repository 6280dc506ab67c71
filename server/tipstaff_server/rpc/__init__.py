"""What every call passes before its service sees it: identity, admission, limits, errors.

Nothing here knows the registry.
"""
