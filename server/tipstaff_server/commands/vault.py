"""`tipstaff-server vault`: the registry's keys, what wraps them, and changing them while servers
run.
"""

from pathlib import Path
from typing import Annotated

import typer

from tipstaff_server.commands.options import (
    ConfigOption,
    JsonOption,
    open_registry,
    print_json,
    this_operator,
)
from tipstaff_server.registry.keys import rotation as rekeying
from tipstaff_server.registry.keys.reencryption import BATCH
from tipstaff_server.registry.keys.reencryption import reencrypt as encrypt_anew
from tipstaff_server.vault.wrapping import create_key

__all__ = ["app"]

app = typer.Typer(help="The registry's keys at rest.", no_args_is_help=True)


@app.command("new-key")
def new_key(
    file: Annotated[
        Path, typer.Argument(help="The file to make, mode 0600; never over an existing one.")
    ],
) -> None:
    """Make a key file that can wrap the registry's keys. Keep a sealed copy of it apart from the database and its backups."""
    typer.echo(f"{create_key(file).id}  {file}")


@app.command()
def status(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """The registry's keys, what wraps them, and how many values are under each."""
    with open_registry(config) as registry:
        keys = rekeying.status(registry.store)
    if as_json:
        print_json(
            [
                {
                    "purpose": key.purpose,
                    "version": key.version,
                    "wrapper": key.wrapper,
                    "created_at": key.created_at and key.created_at.isoformat(),
                    "replaced_at": key.replaced_at and key.replaced_at.isoformat(),
                    "values": key.values,
                }
                for key in keys
            ]
        )
        return
    for key in keys:
        state = f"replaced {key.replaced_at:%Y-%m-%d}" if key.replaced_at else "in use"
        typer.echo(
            f"{key.purpose:<7} {key.version:>3}  {state:<20} {key.values:>12,} values "
            f" {key.wrapper}"
        )


@app.command()
def rewrap(config: ConfigOption = None) -> None:
    """Wrap the registry's keys by the configured key; those among other_keys may have wrapped them before. Servers may run."""
    with open_registry(config) as registry:
        done = rekeying.rewrap(registry.store, actor=this_operator())
        wrapper = registry.store.vault.wrappers[0].id
    typer.echo(
        f"{done} keys wrapped anew by {wrapper}"
        if done
        else f"all keys are wrapped by {wrapper} already"
    )


@app.command()
def rotate(config: ConfigOption = None) -> None:
    """Begin a new key for encrypted columns. Servers take it up with their next act; run re-encrypt afterwards."""
    with open_registry(config) as registry:
        version = rekeying.rotate(registry.store, actor=this_operator())
    typer.echo(
        f"column key {version} is in use; run `tipstaff-server vault re-encrypt` to bring over what"
        " is under the ones before"
    )


@app.command("re-encrypt")
def reencrypt(
    config: ConfigOption = None,
    batch: Annotated[
        int,
        typer.Option(
            min=1, max=20_000, help="Values in one transaction; acts wait for one at most."
        ),
    ] = BATCH,
) -> None:
    """Bring everything under the newest key, then destroy keys that nothing is under. Servers may run; killed, it can be run again."""
    with open_registry(config) as registry:
        done = sum(encrypt_anew(registry.store, batch=batch))
        gone = rekeying.retire(registry.store, actor=this_operator())
    destroyed = f"; column key {', '.join(map(str, gone))} destroyed" if gone else ""
    typer.echo(f"{done:,} values encrypted anew{destroyed}")


@app.command()
def reindex(config: ConfigOption = None) -> None:
    """Begin a new index key, in one transaction that acts wait for, and on a large registry time out on: best while servers are stopped."""
    with open_registry(config) as registry:
        done = rekeying.reindex(registry.store, actor=this_operator())
    typer.echo(f"{done:,} identifiers and names are looked up under a new key")
