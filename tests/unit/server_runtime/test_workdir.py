"""Making a working directory: whole, private, and again after a kill at any point."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import select

from tests.support.server_tls import identity_of
from tipstaff_sdk.settings import Settings
from tipstaff_server.config import Config
from tipstaff_server.errors import WorkDirError
from tipstaff_server.registry import facts as setup
from tipstaff_server.storage.database import Database
from tipstaff_server.storage.models import ProviderRow
from tipstaff_server.vault.store import Store
from tipstaff_server.vault.vault import Vault
from tipstaff_server.workdir import make as workdir
from tipstaff_server.workdir.kits import add_provider
from tipstaff_server.workdir.layout import DEFAULT_AUDIENCES, Provider, WorkDirPlan
from tipstaff_server.workdir.make import initialise
from tipstaff_signing.errors import StateBusyError
from tipstaff_signing.files import FileLock
from tipstaff_signing.keys.files import KeyFolder, key_names
from tipstaff_signing.repository.repository import Repository

PLAN = WorkDirPlan.of(
    ["aviation"],
    [Provider("aviation", "skyline-air"), Provider("rail", "riverside-rail")],
    "127.0.0.1:7443",
    2,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return initialise(tmp_path_factory.mktemp("made") / "operator", PLAN)


def test_the_registry_opens_and_knows_its_providers(made: Config):
    database = Database.open(made)
    stretch = setup.open_facts(Store(database, Vault.open(made.path(made.registry.key_file))))
    with database.read() as session:
        providers = {(row.audience_id, row.id) for row in session.scalars(select(ProviderRow))}
    database.close()
    assert stretch.n == 2
    assert providers == {("aviation", "skyline-air"), ("rail", "riverside-rail")}


def test_the_repository_has_the_audiences_and_all_keys_are_there(made: Config):
    assert Repository(made.path(made.repository.path)).audiences() == ["aviation", "rail"]
    assert set(KeyFolder.load(made.path(made.repository.keys)).names()) == {
        "audit",
        *key_names(["aviation", "rail"]),
    }


def test_a_providers_kit_is_ready_for_the_sdk(made: Config):
    settings = Settings.load(
        made.folder / "providers" / "skyline-air" / "tipstaff.toml", environment={}
    )
    assert (settings.server, settings.audience) == ("127.0.0.1:7443", "aviation")
    assert (
        settings.read("trusted_root_file")
        == Repository(made.path(made.repository.path)).root_bytes()
    )
    assert (
        identity_of(settings.read("certificate_file")) == "tipstaff://provider/aviation/skyline-air"
    )
    x509.load_pem_x509_certificate(settings.read("ca_file"))
    assert b"PRIVATE KEY" in settings.read("private_key_file")


def test_authorities_and_the_operator_have_certificates(made: Config):
    assert (
        identity_of((made.folder / "authorities" / "court" / "certificate.pem").read_bytes())
        == "tipstaff://authority/court"
    )
    assert (
        identity_of((made.folder / "operator" / "certificate.pem").read_bytes())
        == "tipstaff://operator/operator"
    )


def test_whatever_is_secret_is_for_its_owner_only(made: Config):
    secret = [
        path
        for path in made.folder.rglob("*")
        if path.is_file()
        and (b"PRIVATE KEY" in path.read_bytes() or path.suffix in {".db", ".key"})
    ]
    assert {path.name for path in secret} >= {
        "ca.key",
        "server.key",
        "registry.key",
        "registry.db",
        "private_key.pem",
        "root-1.pem",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    folders = [
        made.folder,
        *(
            made.folder / name
            for name in (
                "tls",
                "keys",
                "providers",
                "providers/skyline-air",
                "authorities",
                "operator",
            )
        ),
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_nothing_of_the_making_is_left(made: Config):
    assert {path.name for path in made.folder.iterdir()} == {
        "tipstaff-server.toml",
        "tls",
        "registry.key",
        "registry.db",
        "keys",
        "repository",
        "providers",
        "authorities",
        "operator",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [("notes.txt", "not empty"), ("tipstaff-server.toml", "already"), (".hidden", "not empty")],
)
def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text("mine")
    with pytest.raises(WorkDirError, match=text):
        initialise(tmp_path, PLAN)
    assert (tmp_path / name).read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} <= {name, ".init.lock"}


def test_an_empty_folder_will_do(tmp_path: Path):
    assert initialise(tmp_path, PLAN).folder == tmp_path.resolve()


def test_two_at_once_do_not_mix(tmp_path: Path):
    with FileLock(tmp_path / ".init.lock", timeout=0), pytest.raises(StateBusyError):
        initialise(tmp_path, PLAN)


class KilledError(BaseException):
    """What a kill looks like from inside: nothing is cleaned up after it."""


@pytest.mark.parametrize(
    "step",
    [
        "CertificateAuthority.create",
        "create_key_file",
        "initialise_registry",
        "set_administration",
        "create_key_files",
        "Repository.create",
        "write_kit",
    ],
)
def test_killed_while_making_it_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    def kill(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(f"tipstaff_server.workdir.make.{step}", kill)
        with pytest.raises(KilledError):
            initialise(tmp_path, PLAN)
    with pytest.raises(Exception, match="does not exist"):
        Config.load(tmp_path)
    check_whole(initialise(tmp_path, PLAN))


@pytest.mark.parametrize("moved", range(9))
def test_killed_while_moving_it_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
):
    real, done = Path.rename, 0

    def rename(self: Path, target: Path) -> Path:
        nonlocal done
        if self.parent.name == ".init":
            if done == moved:
                raise KilledError
            done += 1
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KilledError):
            initialise(tmp_path, PLAN)
    assert not (tmp_path / "tipstaff-server.toml").exists(), (
        "what is not whole must not look like a working directory"
    )
    check_whole(initialise(tmp_path, PLAN))


def test_killed_just_before_the_end_it_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def kill(path: Path, **_: Any) -> None:
        if not _:
            raise KilledError
        real(path, **_)

    real = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(workdir.shutil, "rmtree", kill)
        with pytest.raises(KilledError):
            initialise(tmp_path, PLAN)
    check_whole(initialise(tmp_path, PLAN))


def check_whole(config: Config) -> None:
    database = Database.open(config)
    setup.open_facts(Store(database, Vault.open(config.path(config.registry.key_file))))
    database.close()
    assert Repository(config.path(config.repository.path)).audiences() == ["aviation", "rail"]
    for kit in ("skyline-air", "riverside-rail"):
        Settings.load(config.folder / "providers" / kit / "tipstaff.toml", environment={}).read(
            "private_key_file"
        )
    assert not (config.folder / ".init").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param((["navy"], [], "127.0.0.1:1", 2), "no audience navy", id="unknown audience"),
        pytest.param(
            ([], [Provider("navy", "a")], "127.0.0.1:1", 2),
            "no audience navy",
            id="provider of an unknown audience",
        ),
        pytest.param(
            ([], [Provider("rail", "a"), Provider("aviation", "a")], "127.0.0.1:1", 2),
            "same id",
            id="id twice",
        ),
        pytest.param(([], [], "127.0.0.1", 2), "host:port", id="no port"),
        pytest.param(([], [], "127.0.0.1:0", 2), "host:port", id="port 0"),
        pytest.param(([], [], "127.0.0.1:65536", 2), "host:port", id="port too large"),
        pytest.param(([], [], 'x"\n:1', 2), "host:port", id="a host that would break the file"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(arguments: tuple[Any, ...], text: str):
    with pytest.raises(WorkDirError, match=text):
        WorkDirPlan.of(*arguments)


def test_a_plan_fills_in_what_was_left_out():
    plan = WorkDirPlan.of([], [Provider("border", "gate-1")], "0.0.0.0:7443", 4096)
    assert plan.audiences == (*DEFAULT_AUDIENCES, "border")
    assert {provider.audience for provider in plan.providers} == set(plan.audiences)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aviation",
        "aviation/",
        "/a",
        "aviation/a/b",
        "../a",
        "aviation/..",
        "Aviation/a",
        "aviation/A b",
        "aviation/" + "a" * 41,
    ],
)
def test_a_provider_is_written_as_audience_and_id(text: str):
    with pytest.raises(WorkDirError, match="audience/id"):
        Provider.parse(text)


def test_a_provider_can_be_added_later(made: Config):
    kit = add_provider(made, Provider("aviation", "northwind"))
    settings = Settings.load(kit / "tipstaff.toml", environment={})
    assert (
        identity_of(settings.read("certificate_file")) == "tipstaff://provider/aviation/northwind"
    )
    with pytest.raises(WorkDirError, match="exists already"):
        add_provider(made, Provider("aviation", "northwind"))
    with pytest.raises(WorkDirError, match="no audience"):
        add_provider(made, Provider("banking", "new-bank"))


def test_without_the_development_authority_no_kit_is_made(made: Config, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(made.folder, folder)
    (folder / "tls" / "ca.key").unlink()
    with pytest.raises(WorkDirError, match="your own authority"):
        add_provider(Config.load(folder), Provider("aviation", "late-air"))
    assert not (folder / "providers" / "late-air").exists()
