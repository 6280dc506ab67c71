"""Restrictions, from the entry to the end, and the remedies that follow a wrongful one."""
