"""The `tipstaff` command. Needs the extra `cli` (typer and rich); without it, one line says so.

Exit status: 0 clear (or done), 10 restricted, 11 review, 12 unknown, 2 wrong use or wrong input, 1
trouble. `screen` exits with the gravest verdict among its rows: 10 before 11 before 12 before 0;
rows with wrong input count as 2 only when nothing graver was found.
"""

from __future__ import annotations

import importlib
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line and exits."""
    try:
        for name in ("rich", "typer"):
            importlib.import_module(name)
    except ImportError:
        sys.stderr.write(
            "tipstaff: the command line is an extra; install it with: pip install 'tipstaff[cli]'\n"
        )
        sys.exit(1)
    from tipstaff_sdk.cli.app import run  # noqa: PLC0415  imports typer

    run()
