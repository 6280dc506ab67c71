"""python-tuf's own client, unmodified, reads each view over HTTP: any TUF client and any static
file server will do.
"""

from __future__ import annotations

import functools
import http.server
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater

from tests.support.signing import Deployment
from tipstaff_signing.model import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def updater(url: str, deployment: Deployment, audience: str, folder: Path) -> Updater:
    for name in ("metadata", "targets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Updater(
        str(folder / "metadata"),
        f"{url}/{audience}/metadata/",
        str(folder / "targets"),
        f"{url}/{audience}/targets/",
        bootstrap=deployment.root,
    )


def test_python_tufs_client_reads_each_view(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, clock=utc_now)
    for audience in ("aviation", "rail"):
        deployment.listing(f"{audience} filter".encode(), audience)
        deployment.relief(f"{audience} relief".encode(), audience)
    with served(deployment.path) as url:
        for audience in ("aviation", "rail"):
            wanted = {
                "catalogue": b"catalogue 1",
                f"listing/{audience}/filter": f"{audience} filter".encode(),
                f"listing/{audience}/parameters": f"parameters of {audience} filter".encode(),
                f"relief/{audience}/1-9": f"{audience} relief".encode(),
            }
            client = updater(url, deployment, audience, tmp_path / "client" / audience)
            for path, content in wanted.items():
                info = client.get_targetinfo(path)
                assert info is not None
                assert Path(client.download_target(info)).read_bytes() == content
            assert client.get_targetinfo(f"listing/{audience}/nothing") is None

        deployment.relief(b"newer")
        client = updater(url, deployment, "aviation", tmp_path / "client" / "aviation")
        info = client.get_targetinfo("relief/aviation/1-9")
        assert info is not None
        assert Path(client.download_target(info)).read_bytes() == b"newer"

        client = updater(url, deployment, "hotel", tmp_path / "client" / "hotel")
        with pytest.raises(DownloadHTTPError):
            client.refresh()
