"""tipstaff-server as an operator uses it: each command a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.server import AUDIENCES, enter, entry, name_of, resident_id
from tests.support.server_process import command, free_port
from tipstaff_server.commands.app import run
from tipstaff_server.config import Config
from tipstaff_server.deployment import Deployment
from tipstaff_server.listing.build import build as build_one

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("commands") / "operator"
    done = command(
        "init",
        made,
        "--stretch-n",
        "2",
        "--listen",
        f"127.0.0.1:{free_port()}",
        "--provider",
        "aviation/skyline-air",
    )
    assert done.returncode == 0, done.stderr
    with Deployment(Config.load(made)) as runtime:
        enter(runtime.registry, [entry(number) for number in range(10)])
    return made


def listing(folder: Path, audience: str) -> int:
    with Deployment(Config.load(folder)) as runtime:
        return runtime.repository.versions(audience).listing


def test_publish_builds_signs_off_in_another_process_and_publishes_for_all(folder: Path):
    done = command("publish", "--config", folder)
    assert done.returncode == 0, done.stderr
    for audience in AUDIENCES:
        version = listing(folder, audience)
        assert f"{audience}: version {version} built: 10 subjects, 10 sealed records" in done.stdout
        assert f"{audience}: version {version} signed off" in done.stdout
        assert f"{audience}: version {version} published" in done.stdout


def test_the_three_steps_one_by_one(folder: Path):
    before = listing(folder, "rail")
    config = ("--config", folder / "tipstaff-server.toml", "--audience", "rail")
    nothing = command("publish", "--no-build", *config)
    assert nothing.returncode == 1
    assert "run `tipstaff-server build`" in nothing.stderr
    assert command("build", *config).returncode == 0
    early = command("publish", "--no-build", *config)
    assert early.returncode == 1
    assert "1 of 2 signatures" in early.stderr
    assert command("sign-off", *config).returncode == 0
    assert command("publish", "--no-build", *config).returncode == 0
    assert listing(folder, "rail") == before + 1


def test_a_refusal_has_its_own_exit_status_says_why_and_publishes_nothing(folder: Path):
    before = listing(folder, "banking")
    config = ("--config", folder, "--audience", "banking")
    assert command("build", *config).returncode == 0
    with Deployment(Config.load(folder)) as runtime:
        proposal = runtime.repository.proposal("banking")
        assert proposal is not None
        # The builder's machine in other hands: the pack of another audience, under the builder's
        # own key.
        files = dict(proposal.artefacts)
        with Deployment(Config.load(folder)) as other:
            build_one(other, "aviation")
            stranger = other.repository.proposal("aviation")
            assert stranger is not None
            files["listing/banking/pack"] = stranger.artefacts["listing/aviation/pack"]
            runtime.repository.propose_listing(
                "banking", files, runtime.keys.signer("listing-banking-builder")
            )
    done = command("sign-off", *config)
    assert done.returncode == 3
    assert "banking: refused: " in done.stderr
    assert "has no record in the pack" in done.stderr
    for number in range(10):
        assert resident_id(number).number not in done.stderr + done.stdout
        assert name_of(number) not in done.stderr + done.stdout
    assert listing(folder, "banking") == before
    (kept,) = (folder / "repository" / "refused" / "banking").glob("*/reasons.json")
    assert json.loads(kept.read_text())["reasons"]


def test_without_the_sign_off_key_nothing_is_published(folder: Path):
    key = folder / "keys" / "listing-hospitality-signoff.pem"
    hidden = key.rename(key.with_suffix(".away"))
    try:
        before = listing(folder, "hospitality")
        done = command("publish", "--config", folder, "--audience", "hospitality")
        assert done.returncode != 0
        assert "listing-hospitality-signoff" in done.stderr
        assert listing(folder, "hospitality") == before
    finally:
        hidden.rename(key)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["serve", "--config", "/nowhere"], 1, "does not exist; run `tipstaff-server init FOLDER`"),
        (["publish", "--config", "{folder}", "--audience", "navy"], 1, "there is no audience navy"),
        (["init", "{folder}"], 1, "is a working directory already"),
        (["init", "{folder}/new", "--listen", "nowhere"], 1, "host:port"),
        (["init", "{folder}/new", "--stretch-n", "3"], 1, "power of two"),
        (["provider", "add", "--config", "{folder}", "aviation/skyline-air"], 1, "exists already"),
        (["provider", "add", "--config", "{folder}", "nonsense"], 1, "audience/id"),
        (
            ["keys", "rotate-epoch", "--config", "{folder}", "--audience", "navy"],
            1,
            "there is no audience navy",
        ),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_what_goes_wrong_is_one_line_that_says_what_to_do(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    text: str,
):
    """In this process: nine starts would cost more than they show."""
    monkeypatch.setattr(
        sys,
        "argv",
        ["tipstaff-server", *(argument.format(folder=folder) for argument in arguments)],
    )
    with pytest.raises(SystemExit) as ended:
        run()
    said = capsys.readouterr().err
    if isinstance(
        ended.value.code, str
    ):  # the interpreter writes it to standard error, and exits with 1
        assert (said, "\n" in ended.value.code) == ("", False)
        said, code = ended.value.code, 1
    else:
        code = ended.value.code or 0
    assert code == status
    assert text in said


def test_an_error_is_one_line_of_the_process(folder: Path):
    done = command("publish", "--config", folder, "--audience", "navy")
    assert done.returncode == 1
    assert done.stderr.startswith("tipstaff-server: there is no audience navy")
    assert "Traceback" not in done.stderr


def test_keys_alone_for_a_ceremony(tmp_path: Path):
    done = command("keys", "init", tmp_path / "keys", "--audience", "aviation")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 10
    before = (tmp_path / "keys" / "root-1.pem").read_bytes()
    assert command("keys", "init", tmp_path / "keys", "--audience", "aviation").returncode == 0
    assert (tmp_path / "keys" / "root-1.pem").read_bytes() == before


def test_a_provider_is_added_and_its_epoch_rotated(folder: Path):
    done = command("provider", "add", "--config", folder, "aviation/northwind")
    assert done.returncode == 0, done.stderr
    assert (folder / "providers" / "northwind" / "tipstaff.toml").exists()
    with Deployment(Config.load(folder)) as runtime:
        epoch = runtime.epochs.current("aviation").number
    done = command("keys", "rotate-epoch", "--config", folder, "--audience", "aviation")
    assert done.stdout.startswith(f"aviation: epoch {epoch + 1};")


def test_without_the_extra_one_line_says_how_to_get_it():
    code = (
        "import importlib.util as u, sys; real = u.find_spec; u.find_spec = lambda n, *a: None if n"
        " == 'typer' else real(n, *a)\n"
    )
    code += "from tipstaff_server.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == "tipstaff-server needs typer; install it with: pip install 'tipstaff[server]'"
    )
