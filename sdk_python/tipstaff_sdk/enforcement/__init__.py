"""What follows a decision: coverage counts, reports in an outbox, disputes and remedies.

Nothing here opens a network connection; `sync` sends what waits in the outbox.
"""
