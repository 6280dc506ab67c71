"""`tipstaff-server keys`: signing keys, their ceremonies and expiry, and epochs."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from tipstaff_server.clock import utc_now
from tipstaff_server.commands import ceremony
from tipstaff_server.commands.options import ConfigOption, chosen_audiences, config_file
from tipstaff_server.commands.stretch import change_stretch
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.repository.keyring import Ring, open_repository, roles_of
from tipstaff_server.workdir.layout import DEFAULT_AUDIENCES
from tipstaff_signing.ceremony.rotation import Rotation
from tipstaff_signing.keys.files import SCHEMES, create_key, create_key_files
from tipstaff_signing.repository.expiry import expiries

__all__ = ["app"]

EXPIRING = 4
"""Exit status of `keys expiry` when something is due."""

app = typer.Typer(help="Signing keys and epoch keys.", no_args_is_help=True)
app.command("export")(ceremony.export)
app.command("sign")(ceremony.sign)
app.command("import")(ceremony.import_)
app.command("change-stretch")(change_stretch)
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
PassphraseOption = Annotated[
    str | None,
    typer.Option(
        envvar="TIPSTAFF_KEY_PASSPHRASE", help="Encrypts the private keys.", show_envvar=True
    ),
]


@app.command()
def init(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Where the key files go; made if it is missing. Existing keys are never touched."
        ),
    ],
    audience: Annotated[
        list[str] | None,
        typer.Option(help="An audience; may be repeated.", show_default="the usual four"),
    ] = None,
    ml_dsa: Annotated[
        list[str] | None,
        typer.Option(help="A key to make as ML-DSA-65, root-3 for example; may be repeated."),
    ] = None,
    passphrase: PassphraseOption = None,
) -> None:
    """Make the signing keys alone, for a ceremony: carry root, targets and sign-off keys to where they belong, then remove them here."""
    keys = create_key_files(
        folder,
        audiences=audience or list(DEFAULT_AUDIENCES),
        passphrase=passphrase.encode() if passphrase else None,
        ml_dsa=ml_dsa or [],
    )
    for name in keys.names():
        typer.echo(f"{name}  {keys.public(name).keyid}")


@app.command()
def new(
    name: Annotated[
        str, typer.Argument(help="The key's name: timestamp, root-2, listing-aviation-builder.")
    ],
    folder: Annotated[
        Path, typer.Option("--folder", "-f", help="Where its two files go; made if it is missing.")
    ],
    scheme: Annotated[str, typer.Option(help=" or ".join(SCHEMES))] = "ed25519",
    passphrase: PassphraseOption = None,
) -> None:
    """Make one key, as a replacement or for another audience. Its public half goes into the draft; the private one stays here."""
    keys = create_key(
        folder, name, scheme=scheme, passphrase=passphrase.encode() if passphrase else None
    )
    typer.echo(f"{name}  {keys.public(name).keyid}")


@app.command()
def show(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Roles, thresholds and keys that the repository names, and which of the keys are here."""
    loaded = Config.load(config_file(config))
    ring = Ring.of(loaded)
    repository, _ = open_repository(loaded)
    current = Rotation(repository).in_force()
    names, here = ring.names(), ring.held()
    rows = [
        {
            "role": role,
            "threshold": threshold,
            "name": names.get(keyid, ""),
            "keyid": keyid,
            "here": names.get(keyid, "") in here,
        }
        for role, (threshold, keyids) in roles_of(*current).items()
        for keyid in keyids
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        typer.echo(
            f"{row['role']:<22} {row['threshold']}  {row['name']:<28}"
            f" {row['keyid']}{'' if row['here'] else '  elsewhere'}"
        )


@app.command()
def expiry(
    config: ConfigOption = None,
    within: Annotated[
        int,
        typer.Option(
            help="Days before their end that root, targets and certificates are due.", min=0
        ),
    ] = 30,
    *,
    as_json: JsonOption = False,
) -> None:
    """When signed metadata and certificates end. Exit status 4: something is due, or over."""
    loaded = Config.load(config_file(config))
    now, ahead = utc_now(), timedelta(days=within)
    repository, _ = open_repository(loaded)
    rows = [
        {
            "audience": item.audience,
            "what": item.role,
            "version": item.version,
            "expires": _text(item.expires),
            "due": item.due,
        }
        for item in expiries(repository, now, ahead)
    ]
    rows += [
        {
            "audience": "",
            "what": str(file),
            "version": 0,
            "expires": _text(end),
            "due": end - now < ahead,
        }
        for file, end in _certificates(loaded)
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        for row in rows:
            typer.echo(
                f"{row['expires']}  {row['audience']:<12}"
                f" {row['what']}{'  DUE' if row['due'] else ''}"
            )
    if any(row["due"] for row in rows):
        raise typer.Exit(EXPIRING)


@app.command("rotate-epoch")
def rotate_epoch(
    audience: Annotated[str, typer.Option("--audience", "-a", help="Whose epoch.")],
    config: ConfigOption = None,
    lead_hours: Annotated[
        float,
        typer.Option(
            help=(
                "Hours until listings use it: longer than providers' keys_interval. 0: the next"
                " listing does."
            ),
            min=0,
            max=2_160,
        ),
    ] = 2,
) -> None:
    """Begin the next epoch of an audience: providers get its key at once, listings use it after the lead, and the epoch before stays in use
    for a listing's lifetime more."""
    loaded = Config.load(config_file(config))
    with Deployment(loaded) as runtime:
        chosen_audiences(runtime, [audience])
        overlap, lead = (
            timedelta(seconds=loaded.publication.listing_lifetime_seconds),
            timedelta(hours=lead_hours),
        )
        epoch = runtime.epochs.rotate(audience, overlap, lead)
    typer.echo(
        f"{audience}: epoch {epoch.number}; listings built from {_text(epoch.valid_from)} on use it"
    )


def _certificates(config: Config) -> list[tuple[Path, datetime]]:
    ends: list[tuple[Path, datetime]] = []
    for file in (config.server.certificate_file, config.server.client_ca_file):
        try:
            certificates = x509.load_pem_x509_certificates(config.path(file).read_bytes())
        except (OSError, ValueError):
            continue  # the server itself says what is wrong with them
        ends += [(file, min(certificate.not_valid_after_utc for certificate in certificates))]
    return ends


def _text(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
