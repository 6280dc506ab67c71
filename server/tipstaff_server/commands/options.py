"""Options that several commands share, and how they end."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import InvalidRequestError, PublicationError
from tipstaff_server.registry.registry import Registry

if TYPE_CHECKING:
    from tipstaff_server.deployment import Deployment

__all__ = [
    "REFUSED",
    "AudienceOption",
    "ConfigOption",
    "IdArgument",
    "JsonOption",
    "ReasonOption",
    "chosen_audiences",
    "config_file",
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

REFUSED = 3
"""Exit status when a sign-off refused something; 1 is any other failure, 2 a wrong command line."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help=f"{CONFIG_NAME}, or the folder that holds it.",
        show_default="the current folder",
    ),
]
AudienceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--audience", "-a", help="Only this audience; may be repeated.", show_default="all"
    ),
]


def config_file(config: Path | None) -> Path:
    """The configuration's file, absolute. Raises ConfigurationError when it cannot be used."""
    given = config or Path()
    Config.load(given)
    return (given / CONFIG_NAME if given.is_dir() else given).resolve()


def chosen_audiences(runtime: Deployment, audiences: list[str] | None) -> list[str]:
    """What was asked for, or all audiences of the repository.

    Raises PublicationError for one that it does not have.
    """
    known = runtime.repository.audiences()
    if unknown := sorted(set(audiences or []) - set(known)):
        raise PublicationError(
            f"there is no audience {', '.join(unknown)}; audiences are {', '.join(known)}"
        )
    return list(dict.fromkeys(audiences or known))


def open_registry(config: Path | None) -> Registry:
    """The registry of a configuration."""
    return Registry.open(Config.load(config))


def this_operator() -> Actor:
    """Who runs the command: the name of the system's account, which the audit log keeps."""
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
