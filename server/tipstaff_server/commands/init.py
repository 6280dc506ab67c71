"""`tipstaff-server init`, `tipstaff-server provider add` and `revoke`."""

from pathlib import Path
from typing import Annotated

import typer

from tipstaff_server.commands import provider as members
from tipstaff_server.commands.options import ConfigOption, config_file
from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.workdir.kits import add_provider
from tipstaff_server.workdir.layout import Provider, WorkDirPlan
from tipstaff_server.workdir.make import initialise
from tipstaff_server.workdir.revoke import revoke_provider
from tipstaff_server.workdir.wrapping_keys import read_public

__all__ = ["app", "provider_app"]

app = typer.Typer()
provider_app = typer.Typer(help="Providers and their kits.", no_args_is_help=True)
provider_app.add_typer(members.app)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    audience: Annotated[
        list[str] | None,
        typer.Option(help="An audience; may be repeated.", show_default="the usual four"),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AUDIENCE/ID",
            help="A provider; may be repeated.",
            show_default="one for each audience",
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the server will listen.")
    ] = "127.0.0.1:7443",
    stretch_n: Annotated[
        int,
        typer.Option(
            min=2,
            max=1 << 20,
            help=(
                "Cost of stretching an identifier (scrypt N), a power of two; `keys change-stretch`"
                " changes it."
            ),
        ),
    ] = 1 << 12,
) -> None:
    """Make a working directory: configuration, development certificates, keys, registry, repository, provider kits."""
    providers = [Provider.parse(text) for text in provider or []]
    plan = WorkDirPlan.of(audience or [], providers, listen, stretch_n)
    config = initialise(folder, plan)
    typer.echo(
        f"{config.folder / CONFIG_NAME}: audiences {', '.join(plan.audiences)}; listens on {listen}"
    )
    for item in plan.providers:
        typer.echo(f"{config.folder / 'providers' / item.id}: kit of {item.id} ({item.audience})")
    typer.echo(
        "Next: tipstaff-server import, tipstaff-server publish, tipstaff-server serve; each with"
        " --config. "
    )


@provider_app.callback()
def _providers() -> None:
    """Providers and their kits."""


@provider_app.command()
def add(
    provider: Annotated[str, typer.Argument(metavar="AUDIENCE/ID")], config: ConfigOption = None
) -> None:
    """Make another provider known, and a kit for it with the development CA."""
    kit = add_provider(Config.load(config_file(config)), Provider.parse(provider))
    typer.echo(f"{kit}: kit of {kit.name}")


@provider_app.command("wrapping-key")
def wrapping_key(
    provider: Annotated[str, typer.Argument(metavar="ID")],
    key: Annotated[
        Path,
        typer.Argument(
            help="The provider's X25519 key (PEM); the public half is enough, and better."
        ),
    ],
    config: ConfigOption = None,
) -> None:
    """Register the key that a provider's epoch keys are sealed to, instead of the one in its kit: a stolen certificate then yields none."""
    loaded = Config.load(config_file(config))
    try:
        pem = key.read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"{key} cannot be read: {error.strerror}") from error
    public = read_public(pem)
    with Deployment(loaded) as runtime:
        runtime.registry.providers.register_wrapping_key(
            provider, public, actor=Actor.operator("command")
        )
    typer.echo(f"{provider}: epoch keys are sealed to this key only from now on")


@provider_app.command()
def revoke(
    provider: Annotated[str, typer.Argument(metavar="ID")],
    config: ConfigOption = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="The certificate, when it is not the one in the kit.", show_default="the kit's"
        ),
    ] = None,
) -> None:
    """Revoke a provider's certificate; a running server ends its streams and refuses its calls within a second."""
    loaded = Config.load(config_file(config))
    serial = revoke_provider(loaded, provider, certificate)
    typer.echo(f"{loaded.server.client_crl_file}: certificate {serial:x} of {provider} is revoked")
