"""`tipstaff-server keys export`, `sign` and `import`: changes of keys, signed offline by carrying
files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tipstaff_server.commands.options import ConfigOption, config_file
from tipstaff_server.config import Config
from tipstaff_server.repository.keyring import Ring, open_repository, public_of, roles_of
from tipstaff_signing.ceremony.draft import Draft, complete, sign_parts, signatures_to_bytes
from tipstaff_signing.ceremony.rotation import Changes, Rotation
from tipstaff_signing.errors import KeyFileError, ProposalError, RepositoryError
from tipstaff_signing.files import storage_errors, write_atomic
from tipstaff_signing.keys.files import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tipstaff_signing.tuf_names import Key

__all__ = ["export", "import_", "sign"]

_PASSPHRASE = "TIPSTAFF_KEY_PASSPHRASE"  # noqa: S105  the name of a variable


def export(
    draft: Annotated[Path, typer.Argument(help="The file to write: it is carried to the signers.")],
    config: ConfigOption = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(help="OLD=NEW.pub: a key (its name or key id) and its replacement."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="A key (its name or key id) that goes.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(help="ROLE=NEW.pub: another key for a role.")
    ] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="ROLE=NUMBER: how many keys must sign.")
    ] = None,
    renew: Annotated[
        list[str] | None, typer.Option(help="root or targets: sign again with a new expiry.")
    ] = None,
    audience: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: another audience; its three public keys are there."),
    ] = None,
) -> None:
    """Make the draft of a change of keys. Nothing changes until it is signed and imported."""
    loaded = Config.load(config_file(config))
    ring = Ring.of(loaded)
    changes = Changes(
        replace={
            ring.keyid(old): public_of(Path(new)) for old, new in _pairs(replace, "OLD=NEW.pub")
        },
        remove=[ring.keyid(old) for old in remove or []],
        add=[(role, public_of(Path(new))) for role, new in _pairs(add, "ROLE=NEW.pub")],
        thresholds={role: _number(count) for role, count in _pairs(threshold, "ROLE=NUMBER")},
        renew=_renewals(renew or []),
        audiences={
            name: _audience_keys(name, Path(folder))
            for name, folder in _pairs(audience, "NAME=FOLDER")
        },
    )
    repository, lives = open_repository(loaded)
    made = Rotation(repository, lifetimes=lives).draft(changes)
    _write(draft, made.to_bytes())
    _tell(made)


def sign(
    draft: Annotated[Path, typer.Argument(help="The draft that was carried here.")],
    name: Annotated[str, typer.Argument(help="The key to sign with: root-1.")],
    folder: Annotated[
        Path,
        typer.Option(
            "--folder", "-f", help="Where the key is; its keys.toml may name a hardware module."
        ),
    ] = Path(),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to carry back.", show_default="DRAFT.NAME.signature"
        ),
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    passphrase: Annotated[
        str | None, typer.Option(envvar=_PASSPHRASE, help="Of the key file.", show_envvar=True)
    ] = None,
) -> None:
    """Show what a draft changes and sign it. Needs neither network nor configuration, only the draft and the key."""
    made = _read_draft(draft)
    _tell(made)
    signer = KeyFolder.load(folder, passphrase=passphrase.encode() if passphrase else None).signer(
        name
    )
    if not yes:
        typer.confirm(f"Sign this with {name}?", abort=True)
    signatures = sign_parts(made, signer)
    place = output or draft.with_name(f"{draft.name}.{name}.signature")
    _write(place, signatures_to_bytes(signatures))
    typer.echo(f"signed {', '.join(str(item['role']) for item in signatures)}: carry {place} back")


def import_(
    draft: Annotated[Path, typer.Argument(help="The draft, as it was exported.")],
    signatures: Annotated[
        list[Path] | None, typer.Argument(help="The files that came back.")
    ] = None,
    config: ConfigOption = None,
    new_keys: Annotated[
        Path | None,
        typer.Option(
            help="The folder with new keys that this machine will use; they are installed."
        ),
    ] = None,
) -> None:
    """Publish a draft with the signatures that came back, and install the new keys. May be repeated after it broke off."""
    loaded = Config.load(config_file(config))
    made = _read_draft(draft)
    with storage_errors("reading signatures"):
        complete(made, [path.read_bytes() for path in signatures or []])
    ring = Ring.of(loaded, new_keys)
    repository, lives = open_repository(loaded)
    audiences = Rotation(repository, lifetimes=lives).publish(made, ring.signer)
    for installed in ring.install(roles_of(made.new_root, made.new_targets)):
        typer.echo(f"installed {installed}")
    typer.echo(f"published for {', '.join(audiences)}")


def _tell(draft: Draft) -> None:
    for line in draft.describe():
        typer.echo(line)
    for role, count in draft.missing().items():
        typer.echo(f"{role} needs {count} more signature{'s' if count > 1 else ''}")


def _read_draft(path: Path) -> Draft:
    try:
        return Draft.from_bytes(path.read_bytes())
    except OSError as error:
        raise ProposalError(
            f"{path} cannot be read: {error.strerror}; give the draft that `keys export` made"
        ) from error


def _write(path: Path, data: bytes) -> None:
    with storage_errors(f"writing {path}"):
        write_atomic(path, data)


def _pairs(values: Sequence[str] | None, form: str) -> list[tuple[str, str]]:
    pairs = [value.partition("=") for value in values or []]
    for left, _, right in pairs:
        if not (left and right):
            raise RepositoryError(f"{left[:80]!r} is not of the form {form}")
    return [(left, right) for left, _, right in pairs]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise RepositoryError(f"{text[:80]!r} is not a number of keys")
    return int(text)


def _renewals(roles: list[str]) -> list[str]:
    if wrong := sorted(set(roles) - {"root", "targets"}):
        raise RepositoryError(
            f"{wrong[0]!r} cannot be renewed by hand: only root and targets are; the others renew"
            " themselves"
        )
    return roles


def _audience_keys(audience: str, folder: Path) -> tuple[Key, Key, Key]:
    names = (f"listing-{audience}-builder", f"listing-{audience}-signoff", f"relief-{audience}")
    if missing := [name for name in names if not (folder / f"{name}.pub").is_file()]:
        raise KeyFileError(
            f"{folder} lacks {missing[0]}.pub: make it with `tipstaff-server keys new {missing[0]}"
            f" --folder {folder}`"
        )
    keys = KeyFolder.load(folder)
    return keys.public(names[0]), keys.public(names[1]), keys.public(names[2])
