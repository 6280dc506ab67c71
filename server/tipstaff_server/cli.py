"""The command `tipstaff-server`.

Needs the extra `server`; without it, one line says how to get it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

__all__ = ["main"]

_EXTRA = ("alembic", "grpc_health", "pydantic_settings", "rich", "sqlalchemy", "typer", "yaml")


def main() -> None:
    """Runs the command line.

    Exit status: 0 done, 1 failed (the reason is on standard error), 2 wrong command line, 3
    refused.
    """
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        sys.exit(
            f"tipstaff-server needs {', '.join(missing)}; install it with: pip install"
            " 'tipstaff[server]'"
        )
    # gRPC writes lines of its own kind to standard error; ours are JSON. Set it to INFO to look
    # into handshakes.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Before grpc is imported; says why where it is explained (server_tls).
    os.environ["GRPC_SSL_CIPHER_SUITES"] = "PSK"
    import_module("tipstaff_server.commands.app").run()
