"""Where listings come from: the operator's server, a mirror, both, or a folder."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from tipstaff_sdk.errors import ConfigurationError
from tipstaff_sdk.settings import is_mirror_url
from tipstaff_sdk.sync.mirror import MirrorFetcher
from tipstaff_signing import DirectoryFetcher
from tipstaff_signing.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tipstaff_signing import Fetcher

__all__ = ["MirroredFetcher", "choose", "mirror_at"]


class MirroredFetcher:
    """Metadata, which are small, from the server, so that nothing is older than it need be;
    artefacts from the mirror while it has them.
    """

    def __init__(self, server: Fetcher, mirror: Fetcher) -> None:
        self._server = server
        self._mirror = mirror

    def metadata(self, name: str, max_bytes: int) -> bytes:
        """See Fetcher."""
        return self._server.metadata(name, max_bytes)

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        """See Fetcher.

        A mirror that is down, behind, or breaks off in the middle is made up for by the server.
        """
        have = offset
        try:
            for chunk in self._mirror.artefact(path, offset):
                have += len(chunk)
                yield chunk
        except FetchError:
            yield from self._server.artefact(path, have)


def mirror_at(url: str, *, ca_file: Path | None, timeout: float) -> MirrorFetcher:
    """The mirror of a URL.

    Its certificate is accepted from the system's authorities, and from those in `ca_file`.

    Raises:
        ConfigurationError: not such a URL, or `ca_file` cannot be used.
    """
    if not is_mirror_url(url):
        raise ConfigurationError(
            "mirror must be an https address without query and credentials, https://mirror.example.net/aviation"
        )
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(
                f"ca_file: {ca_file} holds no certificates that can be used; copy it from your kit"
            ) from error
    return MirrorFetcher(url, context=context, timeout=timeout)


def choose(
    *,
    server: Callable[[], Fetcher] | None,
    mirror: str | None,
    mirror_dir: Path | None,
    ca_file: Path | None,
    timeout: float,
) -> Fetcher:
    """The fetcher for what is configured.

    Raises:
        ConfigurationError: nothing is.
    """
    far = mirror_at(mirror, ca_file=ca_file, timeout=timeout) if mirror is not None else None
    if server is not None:
        return MirroredFetcher(server(), far) if far is not None else server()
    if far is not None:
        return far
    if mirror_dir is not None:
        return DirectoryFetcher(mirror_dir)
    raise ConfigurationError(
        "nowhere to fetch from: set server or mirror, or mirror_dir for a site without a network"
    )
