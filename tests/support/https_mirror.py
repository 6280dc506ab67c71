"""A static file server over HTTPS that knows ranges, or misbehaves."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tipstaff_server.certificates.development_ca import CertificateAuthority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StaticServer:
    """Serves `root`. `fault` is how it misbehaves; `log` has what was asked, with the range."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fault = ""
        self.log: list[tuple[str, str | None]] = []
        self.url = ""
        self.ca = b""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.log.append((handler.path, asked))
        file = self.root / handler.path.lstrip("/")
        if self.fault == "down":
            handler.send_error(503)
        elif self.fault.startswith("redirect "):
            handler.send_response(302)
            handler.send_header("Location", self.fault.removeprefix("redirect "))
            handler.end_headers()
        elif not file.is_file():
            handler.send_error(403 if self.fault == "object store" else 404)
        else:
            self._file(handler, file.read_bytes(), asked)

    def _file(self, handler: BaseHTTPRequestHandler, data: bytes, asked: str | None) -> None:
        start = (
            int(asked.removeprefix("bytes=").rstrip("-"))
            if asked and self.fault != "no ranges"
            else 0
        )
        handler.send_response(206 if start else 200)
        if start:
            begins = start - 1 if self.fault == "wrong range" else start
            handler.send_header("Content-Range", f"bytes {begins}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(
            data[start : len(data) // 2] if self.fault == "breaks off" else data[start:]
        )


@contextmanager
def https_mirror(root: Path) -> Iterator[StaticServer]:
    """Runs a server on a free port, with a certificate of an authority of its own."""
    site = StaticServer(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that does not like our certificate hangs up: that is its right."""

    authority = CertificateAuthority.create()
    issued = authority.issue_server(["localhost", "127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = root.parent / "https_mirror.pem"
    pair.write_bytes(issued.private_key + issued.certificate)
    context.load_cert_chain(pair)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    site.url, site.ca = f"https://localhost:{server.server_port}", authority.certificate
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
