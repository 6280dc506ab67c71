"""`tipstaff-server mirror`: a static copy of one audience's view."""

from pathlib import Path
from typing import Annotated

import typer

from tipstaff_sdk.settings import is_mirror_url
from tipstaff_sdk.sync.mirror import MirrorFetcher
from tipstaff_server.clock import utc_now
from tipstaff_server.commands.options import ConfigOption, config_file
from tipstaff_server.config import Config
from tipstaff_server.errors import PublicationError
from tipstaff_server.repository.keyring import open_repository
from tipstaff_signing.reader.fetchers import DirectoryFetcher, Fetcher
from tipstaff_signing.reader.mirror import mirror as bring_up_to_date
from tipstaff_signing.reader.mirror import survey

__all__ = ["app"]

app = typer.Typer()


@app.command()
def mirror(
    audience: Annotated[str, typer.Argument(help="Whose view.")],
    folder: Annotated[
        Path, typer.Argument(help="Where the copy is; any static file server may serve it.")
    ],
    config: ConfigOption = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="https://… of another mirror, instead of the repository here; needs --root.",
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="The root to trust, from a provider's kit, with --from.")
    ] = None,
) -> None:
    """Bring a mirror in step: artefacts first, the timestamp last, nothing removed that a client may still want. Run it from a timer."""
    fetcher: Fetcher
    if source is not None:
        if root is None or not root.is_file() or not is_mirror_url(source):
            raise PublicationError(
                "--from needs an https address, and --root a root.json from a provider's kit"
            )
        fetcher, trusted = MirrorFetcher(source), root.read_bytes()
    else:
        repository, _ = open_repository(Config.load(config_file(config)))
        trusted = repository.metadata_path(audience, "1.root.json").read_bytes()
        fetcher = DirectoryFetcher(repository.path / audience)
    copy = survey(fetcher, trusted, audience)
    fresh = bring_up_to_date(copy, fetcher, folder, now=utc_now())
    typer.echo(f"{audience}: version {copy.version} in {folder}, {fresh} new files")
