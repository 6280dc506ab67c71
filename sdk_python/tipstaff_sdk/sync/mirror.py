"""Fetches from a plain HTTPS mirror or CDN: any static file server that carries an audience's
folder. Standard library only.

    https://mirror.example.net/aviation/metadata/timestamp.json
    https://mirror.example.net/aviation/targets/listing/aviation/<sha256>.filter

Nothing that comes is trusted; the reader verifies it as it verifies the operator's own server. A
download that broke is resumed with `Range` (RFC 9110, 14); a server that knows no ranges sends the
whole again, and what is there already is passed over.
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from tipstaff_sdk.settings import LOOPBACK_HOSTS
from tipstaff_signing.errors import FetchError, NotFoundError, TooLargeError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPMessage
    from typing import IO

__all__ = ["MirrorFetcher"]

_CHUNK: Final = 256 * 1024
_ABSENT: Final = frozenset({403, 404, 410})  # object stores say 403 of what is not there
_PARTIAL: Final = 206


class MirrorFetcher:
    """A `tipstaff_signing.Fetcher` over HTTPS. Threads may share it; it keeps no connection."""

    def __init__(
        self,
        url: str,
        *,
        targets_url: str | None = None,
        context: ssl.SSLContext | None = None,
        timeout: float = 30.0,
        total: float = 300.0,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: the folder that holds `metadata/` and `targets/`; with `targets_url`, the metadata
                folder itself.
            targets_url: where artefacts are, if elsewhere.
            context: how to verify the server; default: the system's authorities.
            timeout: seconds that a connection and each pause may take.
            total: seconds that one metadata file may take. Artefacts are bounded by the reader.
        """
        base = url.rstrip("/")
        self._metadata = f"{base}/metadata/" if targets_url is None else f"{base}/"
        self._targets = f"{base}/targets/" if targets_url is None else f"{targets_url.rstrip('/')}/"
        self._timeout = timeout
        self._total = total
        parts = urlsplit(url)
        handlers: list[urllib.request.BaseHandler] = [_SafeRedirects()]
        if parts.scheme == "https":  # reading the system's authorities takes a while
            handlers.append(
                urllib.request.HTTPSHandler(context=context or ssl.create_default_context())
            )
        if parts.hostname in LOOPBACK_HOSTS:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def metadata(self, name: str, max_bytes: int) -> bytes:
        """See Fetcher."""
        deadline = time.monotonic() + self._total
        data = bytearray()
        for chunk in self._get(self._metadata + name, name, 0):
            data += chunk
            if len(data) > max_bytes:
                raise TooLargeError(
                    f"{name} is larger than {max_bytes} bytes: the mirror does not carry what it"
                    " should"
                )
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{name} took over {self._total:g} s: check the mirror, or use another"
                )
        return bytes(data)

    def artefact(self, path: str, offset: int) -> Iterator[bytes]:
        """See Fetcher."""
        # A target path is a path-relative URL already; only what no URL may hold is encoded.
        return self._get(self._targets + quote(path, safe="/:@!$&'()*+,;=~%"), path, offset)

    def _get(self, url: str, name: str, offset: int) -> Iterator[bytes]:
        try:
            with closing(self._open(url, offset)) as response:
                skip = _skip(response, offset, name)
                expected = response.length
                have = 0
                while chunk := response.read1(_CHUNK):
                    have += len(chunk)
                    passed, skip = chunk[skip:], max(0, skip - len(chunk))
                    if passed:
                        yield passed
                if expected is not None and have < expected:
                    raise UnavailableError(
                        f"{name} broke off at {have} of {expected} bytes: try again"
                    )
        except FetchError:
            raise
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _ABSENT:
                raise NotFoundError(f"the mirror has no {name}") from error
            raise UnavailableError(
                f"the mirror answers {error.code} for {name}: try again later, or use another"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise UnavailableError(
                f"{name} cannot be had from the mirror ({_describe(reason)}): check its address,"
                " its certificate and the network"
            ) from error

    def _open(self, url: str, offset: int) -> http.client.HTTPResponse:
        headers = {"User-Agent": "tipstaff", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  the schemes are checked, see is_mirror_url and _SafeRedirects
        response: object = self._opener.open(request, timeout=self._timeout)
        if not isinstance(response, http.client.HTTPResponse):
            raise UnavailableError("the mirror's address is not an HTTP address: correct it")
        return response


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to HTTPS, or on within one unencrypted host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme != "https" and (old.scheme, old.hostname) != (new.scheme, new.hostname):
            raise UnavailableError(
                "the mirror redirects to an address without encryption: use another"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _skip(response: http.client.HTTPResponse, offset: int, name: str) -> int:
    """How many of the bytes that come are there already."""
    if response.status != _PARTIAL:
        return offset
    begins = (response.getheader("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
    if begins != str(offset):
        raise UnavailableError(
            f"the mirror sends another part of {name} than was asked for: use another"
        )
    return 0


def _describe(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {reason.verify_message}"
    if isinstance(reason, OSError):
        return reason.strerror or type(reason).__name__
    return type(reason).__name__
