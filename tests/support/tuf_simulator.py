"""A TUF repository in memory, of any shape and as wrong as a test wants, over HTTP; and the
conformance client run against it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from tipstaff_signing.files import Disk

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime.now(UTC).replace(microsecond=0)
TOP = ("root", "timestamp", "snapshot", "targets")
CLIENT = Path(__file__).parents[1] / "conformance" / "client"


class Simulator:
    """`roles` and `signers` are changed freely; `publish` signs and puts in reach; `files` are what
    is served, and may be tampered with.
    """

    def __init__(self) -> None:
        self.roles: dict[str, Any] = {
            "root": Root(expires=NOW + timedelta(days=30), consistent_snapshot=True),
            "timestamp": Timestamp(expires=NOW + timedelta(days=30)),
            "snapshot": Snapshot(expires=NOW + timedelta(days=30), meta={}),
            "targets": Targets(expires=NOW + timedelta(days=30)),
        }
        self.signers: dict[str, list[Any]] = {
            role: [CryptoSigner.generate_ed25519()] for role in TOP
        }
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.hashes = False
        for role in TOP:
            self.root.add_key(self.signers[role][0].public_key, role)
        self.publish("root", "targets", "snapshot", "timestamp", bump=False)

    def __getattr__(self, name: str) -> Any:
        if name in TOP:
            return self.roles[name]
        raise AttributeError(name)

    def publish(self, *roles: str, bump: bool = True) -> None:
        """Sign with whatever signers a role has, under the next version, and tell of it in the
        snapshot or timestamp in preparation.
        """
        for role in roles:
            signed = self.roles[role]
            signed.version += bump
            self.put(role, signed.version, self.sign(role))

    def sign(self, role: str, signers: Sequence[Any] | None = None) -> bytes:
        metadata = Metadata(self.roles[role])
        for signer in self.signers[role] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def put(self, role: str, version: int, data: bytes) -> None:
        name = quote(role, "")
        self.files[f"metadata/{version}.{name}.json"] = data
        self.files[f"metadata/{name}.json"] = data
        described = (
            MetaFile.from_data(version, data, ["sha256"]) if self.hashes else MetaFile(version)
        )
        if role == "snapshot":
            self.timestamp.snapshot_meta = described
        elif role not in {"root", "timestamp"}:
            self.snapshot.meta[f"{role}.json"] = described

    def everything(self) -> None:
        self.publish("root", "targets", "snapshot", "timestamp")

    def newest(self, role: str) -> bytes:
        return self.files[f"metadata/{quote(role, '')}.json"]

    def tamper(self, role: str, change: Any) -> None:
        """Change a published file without signing it again."""
        content = json.loads(self.newest(role))
        change(content)
        data = json.dumps(content).encode()
        self.files[f"metadata/{self.roles[role].version}.{quote(role, '')}.json"] = data
        self.files[f"metadata/{quote(role, '')}.json"] = data

    def add_key(self, role: str, signer: Any = None) -> Any:
        signer = signer or CryptoSigner.generate_ed25519()
        self.root.add_key(signer.public_key, role)
        self.signers[role].append(signer)
        return signer

    def rotate(self, role: str) -> None:
        self.root.roles[role].keyids.clear()
        self.signers[role].clear()
        for _ in range(self.root.roles[role].threshold):
            self.add_key(role)

    def artefact(
        self, role: str, path: str, data: bytes, hashes: Sequence[str] = ("sha256",)
    ) -> TargetFile:
        target = TargetFile.from_data(path, data, list(hashes))
        self.roles[role].targets[path] = target
        head, slash, name = path.rpartition("/")
        for digest in target.hashes.values():
            self.files[f"targets/{head}{slash}{digest}.{name}"] = data
        self.files[f"targets/{path}"] = data
        return target

    def delegate(
        self, parent: str, name: str, *, signer: Any = None, days: int = 30, **fields: Any
    ) -> Any:
        """Delegate paths (default: all) to a role, which comes to be with it."""
        delegator = self.roles[parent]
        if delegator.delegations is None:
            delegator.delegations = Delegations({}, roles={})
        fields = {"threshold": 1, "terminating": False, **fields}
        if "path_hash_prefixes" not in fields:
            fields.setdefault("paths", ["*"])
        delegator.delegations.roles[name] = DelegatedRole(name, [], **fields)
        signer = (
            signer
            or next(iter(self.signers.get(name, [])), None)
            or CryptoSigner.generate_ed25519()
        )
        delegator.add_key(signer.public_key, name)
        self.roles.setdefault(name, Targets(expires=NOW + timedelta(days=days)))
        self.signers.setdefault(name, [signer])
        return signer

    def delegate_bins(self, bits: int, prefix: str) -> None:
        signer = CryptoSigner.generate_ed25519()
        bins = SuccinctRoles([], 1, bits, prefix)
        self.targets.delegations = Delegations({}, succinct_roles=bins)
        self.targets.add_key(signer.public_key)
        for name in bins.get_roles():
            self.roles[name] = Targets(expires=NOW + timedelta(days=30))
            self.signers[name] = [signer]
            self.publish(name, bump=False)

    def asked(self, kind: str = "metadata") -> list[str]:
        """Returns what was asked for since the last call, in order, without its folder."""
        found = [
            path.removeprefix(f"{kind}/").removesuffix(".json")
            for path in self.requests
            if path.startswith(kind)
        ]
        self.requests.clear()
        return found


class Host:
    """Serves simulators."""

    def __init__(self) -> None:
        self.repositories: dict[str, Simulator] = {}
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, _, path = self.path.lstrip("/").partition("/")
                repository = host.repositories[name]
                repository.requests.append(path)
                data = repository.files.get(path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, simulator: Simulator) -> str:
        name = str(id(simulator))
        self.repositories[name] = simulator
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def load_client() -> Any:
    """Loads the executable as a module: the same code, without a process for each call."""
    loader = importlib.machinery.SourceFileLoader("conformance_client", str(CLIENT))
    spec = importlib.util.spec_from_loader("conformance_client", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class Unsynced(Disk):
    """A disk that does not wait for `fsync`."""

    def fsync(self, descriptor: int) -> None:
        """Does nothing."""


class Client:
    """The client under test, with its folders, on one repository."""

    def __init__(self, module: Any, folder: Path, url: str) -> None:
        self._module = module
        self.folder = folder
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        self.url = url
        self.day = 0.0

    def init(self, root: bytes) -> int:
        (self.folder / "initial.json").write_bytes(root)
        return self._run("init", str(self.folder / "initial.json"))

    def refresh(self) -> int:
        return self._run("--metadata-url", f"{self.url}/metadata", "refresh")

    def download(self, *names: str) -> int:
        wanted = [argument for name in names for argument in ("--target-name", name)]
        places = ["--target-base-url", f"{self.url}/targets/", "--target-dir", str(self.targets)]
        return self._run("--metadata-url", f"{self.url}/metadata/", *wanted, *places, "download")

    def trusted(self) -> dict[str, int]:
        """Versions by role name, as encoded."""
        return {
            path.name.removesuffix(".json"): json.loads(path.read_bytes())["signed"]["version"]
            for path in self.metadata.glob("*.json")
        }

    def bytes_of(self, role: str) -> bytes:
        return (self.metadata / f"{role}.json").read_bytes()

    def downloaded(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.targets)): path.read_bytes()
            for path in self.targets.rglob("*")
            if path.is_file()
        }

    def _run(self, *arguments: str) -> int:
        # The real clock goes on during a test run: never judge before the simulator's own
        # beginning.
        clock = lambda: max(NOW, datetime.now(UTC)) + timedelta(days=self.day)  # noqa: E731
        return int(
            self._module.run(
                ["--metadata-dir", str(self.metadata), *arguments], clock=clock, disk=Unsynced()
            )
        )
