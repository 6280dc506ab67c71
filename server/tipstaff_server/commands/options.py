"""Options that several commands share, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.errors import PublicationError

if TYPE_CHECKING:
    from tipstaff_server.deployment import Runtime

__all__ = ["REFUSED", "AudienceOption", "ConfigOption", "chosen_audiences", "config_file"]

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


def chosen_audiences(runtime: Runtime, audiences: list[str] | None) -> list[str]:
    """What was asked for, or all audiences of the repository.

    Raises PublicationError for one that it does not have.
    """
    known = runtime.repository.audiences()
    if unknown := sorted(set(audiences or []) - set(known)):
        raise PublicationError(
            f"there is no audience {', '.join(unknown)}; audiences are {', '.join(known)}"
        )
    return list(dict.fromkeys(audiences or known))
