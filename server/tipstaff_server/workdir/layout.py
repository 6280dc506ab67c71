"""What a new work folder holds, and for whom: the plan, checked before anything is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tipstaff_server.administration.document import Administration
from tipstaff_server.certificates.development_ca import CertificateAuthority
from tipstaff_server.errors import WorkDirError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tipstaff_server.config import Config

__all__ = [
    "DEFAULT_AUDIENCES",
    "EVERY_ADDRESS",
    "Provider",
    "WorkDirPlan",
    "development_authority",
    "make_private_folder",
    "split_listen",
]

DEFAULT_AUDIENCES = ("aviation", "rail", "hospitality", "banking")
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_LISTEN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
EVERY_ADDRESS = {"0.0.0.0", "[::]"}  # noqa: S104  compared with, not listened on
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider and the audience that it belongs to."""

    audience: str
    id: str

    @classmethod
    def parse(cls, text: str) -> Provider:
        """From `audience/id`. Raises WorkDirError."""
        audience, _, name = text.partition("/")
        if not (_WORD.fullmatch(audience) and _WORD.fullmatch(name)):
            raise WorkDirError(
                f"{text[:100]!r} is not audience/id: write for example aviation/skyline-air (a-z,"
                " 0-9 and -, at most 40 each)"
            )
        return cls(audience, name)


@dataclass(frozen=True, slots=True)
class WorkDirPlan:
    """What to make. `listen` is host:port; `stretch_n` the cost of scrypt, a power of two."""

    audiences: tuple[str, ...] = DEFAULT_AUDIENCES
    providers: tuple[Provider, ...] = ()
    listen: str = "127.0.0.1:7443"
    stretch_n: int = 1 << 12

    @classmethod
    def of(
        cls, audiences: Sequence[str], providers: Sequence[Provider], listen: str, stretch_n: int
    ) -> WorkDirPlan:
        """Fills in what was left out: the usual four audiences and those of the providers, and one
        provider for each audience without.

        Raises WorkDirError: an unknown audience, the same provider twice, an address without a
        port.
        """
        known = [audience.id for audience in Administration.load().audiences]
        named = dict.fromkeys(
            [*(audiences or DEFAULT_AUDIENCES), *(provider.audience for provider in providers)]
        )
        if unknown := sorted(set(named) - set(known)):
            raise WorkDirError(
                f"there is no audience {', '.join(unknown)}; audiences are {', '.join(known)}"
            )
        served = {provider.audience for provider in providers}
        everybody = [
            *providers,
            *(Provider(audience, f"{audience}-1") for audience in named if audience not in served),
        ]
        if len({provider.id for provider in everybody}) < len(everybody):
            raise WorkDirError(
                "two providers have the same id; ids are unique in a deployment, choose another one"
            )
        split_listen(listen)
        return cls(tuple(named), tuple(everybody), listen, stretch_n)


def development_authority(config: Config) -> CertificateAuthority:
    """The authority that `init` made. Raises WorkDirError when it is not here."""
    tls = config.folder / "tls"
    try:
        return CertificateAuthority.load(tls / "ca.pem", tls / "ca.key")
    except (OSError, ValueError) as error:
        raise WorkDirError(
            f"the development CA in {tls} cannot be used ({error}); issue and revoke certificates"
            " with your own authority"
        ) from error


def make_private_folder(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def split_listen(listen: str) -> tuple[str, str]:
    match = _LISTEN.fullmatch(listen)
    if match is None or not 0 < int(match["port"]) <= _MAX_PORT:
        raise WorkDirError(f"{listen[:100]!r} is not host:port; write for example 127.0.0.1:7443")
    return match["host"], match["port"]
