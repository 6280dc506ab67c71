"""What providers are told and sent: the feed of an audience's changes to its watchers, buckets of a
pack, and how far each watcher has come.
"""
