"""The signed repository as the server uses it: a snapshot of what is published, relief, key
rotation, and the history of builds.
"""
