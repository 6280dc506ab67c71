"""The independent sign-off: a second process with a second key reads the registry for itself.

It imports nothing of `listing`, so that one mistake there cannot pass here too.
"""
