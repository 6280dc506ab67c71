"""The commands that act on what the registry keeps: restrictions, subjects, disputes, remedies."""
