"""The runbook, executed: every `sh` block of docs/operations.md in order, and clients that slept
through it all.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.support.server import enter, entry
from tipstaff_sdk.sync.loaded import role_names
from tipstaff_server.commands.app import make
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_signing import DirectoryFetcher, Reader, RollbackError, SigningError

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[str]:
    return _BLOCK.findall(DOCUMENT.read_text("utf-8"))


def perform(block: str, folder: Path) -> None:
    """Our own command in this process, everything else in a shell."""
    for line in block.splitlines():
        words = shlex.split(line)
        if words[0] != "tipstaff-server":
            # `python3` of the runbook is whichever runs this; its folder comes first.
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            subprocess.run(
                ["sh", "-ec", line], cwd=folder, check=True, env={**os.environ, "PATH": path}
            )
            continue
        arguments = [
            found
            for word in words[1:]
            for found in (sorted(map(str, folder.glob(word))) if "*" in word else [word])
        ]
        done = CliRunner().invoke(make(arguments), arguments)
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"


class Provider:
    """A provider's reader, with the root of its kit."""

    def __init__(self, folder: Path, name: str, root: bytes, audience: str = "aviation") -> None:
        self._repository = folder / "repository" / audience
        self._reader = Reader(
            folder / "readers" / name, view=audience, trusted_root=root, roles=role_names(audience)
        )
        self.audience = audience

    def refresh(self) -> Any:
        return self._reader.refresh(DirectoryFetcher(self._repository))


def works(provider: Provider, folder: Path) -> None:
    state = provider.refresh()
    with Deployment(Config.load(folder)) as runtime:
        current = runtime.repository.versions(provider.audience)
    assert (state.timestamp_version, state.root_version) == (current.timestamp, current.root)
    assert (
        f"listing/{provider.audience}/filter" in state.roles[f"listing-{provider.audience}"].targets
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "operator"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


@pytest.mark.usefixtures("prepared_processes")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_runbook_from_beginning_to_end(folder: Path) -> None:
    providers: dict[str, Provider] = {}
    root = b""

    def set_up() -> None:
        nonlocal root
        root = (folder / "providers" / "skyline-air" / "root.json").read_bytes()
        with Deployment(Config.load(folder)) as runtime:
            enter(runtime.registry, [entry(number) for number in range(3)])

    def first_publication() -> None:
        for name in ("sleeper", "dozer", "awake"):
            providers[name] = Provider(folder, name, root)
            works(providers[name], folder)

    def cannot_publish() -> None:
        done = CliRunner().invoke(make(), ["publish"])
        assert isinstance(done.exception, SigningError)
        assert "timestamp" in str(done.exception)

    def refused_after_restore() -> None:
        with pytest.raises(RollbackError):
            providers["awake"].refresh()

    after: dict[str, Callable[[], None]] = {
        "tipstaff-server init": set_up,
        "tipstaff-server publish\n": first_publication,
        "mv keys/timestamp.pem": cannot_publish,
        "timestamp.draft": lambda: works(providers["dozer"], folder),
        "mv repository lost-repository": refused_after_restore,
    }
    done = set[str]()
    for block in blocks():
        perform(block, folder)
        for mark in [mark for mark in after if mark in block and mark not in done]:
            done.add(mark)
            after[mark]()
        if "awake" in providers and not block.endswith("cp -a backup/repository repository\n"):
            works(providers["awake"], folder)
    assert done == set(after)
    for name in ("sleeper", "dozer", "awake"):
        works(providers[name], folder)
    works(Provider(folder, "newcomer", root), folder)
    works(Provider(folder, "rail", root, "rail"), folder)
    works(
        Provider(
            folder,
            "kit",
            (folder / "providers" / "riverside-rail" / "root.json").read_bytes(),
            "rail",
        ),
        folder,
    )
    held = {
        row["name"]: row
        for row in json.loads(CliRunner().invoke(make(), ["keys", "show", "--json"]).output)
    }
    assert not any(
        held[name]["here"] for name in ("root-1", "root-2", "root-3", "targets-1", "targets-2")
    )
    assert held["timestamp"]["here"]


@pytest.fixture(scope="module")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("set-up")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        perform(blocks()[0], made)
    return made


def test_expiry_calls_somebody(set_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(set_up)
    assert CliRunner().invoke(make(), ["keys", "expiry"]).exit_code == 0
    done = CliRunner().invoke(make(), ["keys", "expiry", "--within", "400", "--json"])
    assert done.exit_code == 4
    assert {"root", "targets", "tls/server.pem"} <= {
        row["what"] for row in json.loads(done.output) if row["due"]
    }
    assert "DUE" in CliRunner().invoke(make(), ["keys", "expiry", "--within", "400"]).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["keys", "export", "d", "--replace", "timestamp"], "not of the form OLD=NEW.pub"),
        (["keys", "export", "d", "--replace", "nobody=x.pub"], "no key 'nobody'"),
        (["keys", "export", "d", "--replace", "timestamp=x.pub"], "not a public key file"),
        (["keys", "export", "d", "--renew", "relief"], "only root and targets"),
        (["keys", "export", "d", "--threshold", "root=many"], "not a number"),
        (["keys", "export", "d", "--audience", "rail=."], "lacks listing-rail-builder.pub"),
        (["keys", "import", "nothing"], "cannot be read"),
        (["keys", "sign", "nothing", "root-1"], "cannot be read"),
    ],
)
def test_wrong_calls_say_what_to_do(
    set_up: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(set_up)
    done = CliRunner().invoke(make(arguments), arguments)
    assert isinstance(done.exception, SigningError)
    assert message in str(done.exception)
