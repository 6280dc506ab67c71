"""What prepared.py has imported before it forks; never imported by tests."""

from importlib import import_module

from tipstaff_server.commands.app import PARTS

for part in PARTS:
    import_module(f"tipstaff_server.commands.{part.module}")
