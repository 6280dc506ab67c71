"""What prepared.py has imported before it forks; never imported by tests."""

import os
from importlib import import_module

# As the command does it before it imports grpc. Not in the tests' own process, whose clients choose
# for themselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ["GRPC_SSL_CIPHER_SUITES"] = "PSK"

for part in import_module("tipstaff_server.commands.app").PARTS:
    import_module(f"tipstaff_server.commands.{part.module}")
