"""All commands in one. An error becomes one line on standard error that says what to do."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

import typer

from tipstaff_sdk.errors import TipstaffError
from tipstaff_server import logs
from tipstaff_server.errors import ServerError
from tipstaff_signing.errors import SigningError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PARTS", "CommandModule", "make", "run"]


class CommandModule(NamedTuple):
    """Commands of one module. `words`: what they are called, or the group that they are in."""

    words: tuple[str, ...]
    module: str
    app: str = "app"
    is_group: bool = False


def _group(name: str, module: str = "", app: str = "app") -> CommandModule:
    return CommandModule((name,), module or name, app, is_group=True)


# In the order of the help. A test holds the words to what the modules have.
PARTS: Final = (
    CommandModule(("init",), "init"),
    CommandModule(("serve",), "serve"),
    CommandModule(("build", "sign-off", "publish"), "publish"),
    CommandModule(("mirror",), "mirror"),
    CommandModule(("prune",), "prune"),
    CommandModule(("import",), "registry.import_list"),
    CommandModule(("generate",), "generate"),
    CommandModule(("stats",), "stats"),
    CommandModule(("release", "repair", "revoke"), "registry.end"),
    CommandModule(("remedies",), "registry.remedies"),
    CommandModule(("migrate",), "audit", "upkeep_app"),
    _group("provider", "init", "provider_app"),
    _group("administration"),
    _group("authority"),
    _group("keys"),
    _group("dispute", "registry.dispute"),
    _group("restriction", "registry.restriction"),
    _group("subject", "registry.subject"),
    _group("audit"),
    _group("vault"),
    _group("retention", "registry.retention"),
)


def make(arguments: Sequence[str] = ()) -> typer.Typer:
    """The commands; of a command line, only those of the module that it names, or all of them where
    it names none.

    What all modules need takes half as long again to import as what one of them needs, and
    importing is most of a short command.
    """
    app = typer.Typer(
        name="tipstaff-server",
        help="The operator's side of Tipstaff: registry, listings, relief, statistics.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    named = [part for part in PARTS if arguments and arguments[0] in part.words]
    for part in named or PARTS:
        commands = getattr(import_module(f"tipstaff_server.commands.{part.module}"), part.app)
        app.add_typer(commands, name=part.words[0] if part.is_group else None)
    return app


def run() -> None:
    """Runs the command line of this process and exits."""
    logs.configure("error")
    try:
        make(sys.argv[1:])()
    except (ServerError, SigningError, TipstaffError) as error:
        sys.exit(f"tipstaff-server: {error}")
