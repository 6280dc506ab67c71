"""What the registry's commands share: opening it, who is acting, printing JSON."""

from __future__ import annotations

import json
import os
import pwd
from typing import TYPE_CHECKING, Annotated

import typer

from tipstaff_server.config import Config
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.registry.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "IdArgument",
    "JsonOption",
    "ReasonOption",
    "identity_of",
    "open_registry",
    "print_json",
    "this_operator",
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
IdArgument = Annotated[str, typer.Argument(help="The restriction's id, 32 hexadecimal digits.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; goes into the audit log, encrypted.")
]


def open_registry(config: Path | None) -> Registry:
    """The registry of a configuration."""
    return Registry.open(Config.load(config))


def this_operator() -> Actor:
    """Who runs the command, by the name of the system's account: that is what the audit log keeps."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid-{uid}"
    return Actor.operator(name[:64])


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def identity_of(text: str) -> bytes:
    """A restriction's id. Raises InvalidRequestError."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidRequestError(
            "a restriction's id has 32 hexadecimal digits, as decisions and reports show it"
        ) from None
