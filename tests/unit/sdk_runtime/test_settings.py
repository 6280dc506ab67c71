"""Settings come from four places in one order, and whatever is wrong with them is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tipstaff_sdk.errors import ConfigurationError
from tipstaff_sdk.settings import Settings

KIT = """
server = "tipstaff.example.net:8443"
audience = "aviation"
state_dir = "state"
trusted_root_file = "root.json"
ca_file = "/etc/tipstaff/ca.pem"
flush_interval = 7
"""


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    path = tmp_path / "kit" / "tipstaff.toml"
    path.parent.mkdir()
    path.write_text(KIT, encoding="utf-8")
    return path


def test_file_gives_values_and_its_folder_is_where_relative_paths_begin(kit: Path) -> None:
    settings = Settings.load(kit, environment={})
    assert settings.state_dir == kit.parent / "state"
    assert settings.trusted_root_file == kit.parent / "root.json"
    assert settings.ca_file == Path("/etc/tipstaff/ca.pem")
    assert settings.flush_interval == 7.0


def test_constructor_beats_environment_beats_file_beats_default(kit: Path) -> None:
    environment = {
        "TIPSTAFF_FLUSH_INTERVAL": "8",
        "TIPSTAFF_AUDIENCE": "rail",
        "TIPSTAFF_BACKGROUND": "off",
    }
    settings = Settings.load(kit, environment=environment, options={"audience": "banking"})
    assert settings.audience == "banking"
    assert settings.flush_interval == 8.0
    assert settings.background is False
    assert settings.server == "tipstaff.example.net:8443"
    assert settings.heartbeat_timeout == 90.0


def test_relative_path_outside_the_file_is_relative_to_the_working_directory(kit: Path) -> None:
    settings = Settings.load(
        kit, environment={"TIPSTAFF_STATE_DIR": "here"}, options={"ca_file": "there.pem"}
    )
    assert settings.state_dir == Path("here")
    assert settings.ca_file == Path("there.pem")


def test_constructor_can_take_back_what_the_file_says(kit: Path) -> None:
    assert Settings.load(kit, environment={}, options={"server": None}).server is None


def test_file_is_found_by_environment_and_in_the_working_directory(
    kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings.load(environment={"TIPSTAFF_CONFIG": str(kit)}).audience == "aviation"
    monkeypatch.chdir(kit.parent)
    assert Settings.load(environment={}).audience == "aviation"


def test_unknown_variables_in_the_environment_are_left_alone(kit: Path) -> None:
    environment = {
        "TIPSTAFF_SERVER_PORT": "tcp://10.0.0.1:80",
        "TIPSTAFF_SERVER__DATABASE__URL": "x",
    }
    assert Settings.load(kit, environment=environment).server == "tipstaff.example.net:8443"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sever": "a:1"}, "unknown setting 'sever'; known are audience"),
        ({"server": "no-port"}, "host:port"),
        ({"server": "host:99999"}, "host:port"),
        ({"server": "https://host:1"}, "host:port"),
        ({"server": ""}, "not empty"),
        ({"audience": "Aviation!"}, "audience must be"),
        ({"audience": None}, "audience must be"),
        ({"state_dir": None}, "must be a path"),
        ({"background": "maybe"}, "true or false"),
        ({"background": 1}, "true or false"),
        ({"outbox_limit": 0}, "between 1 and"),
        ({"outbox_limit": 1.5}, "whole number"),
        ({"outbox_limit": True}, "whole number"),
        ({"flush_interval": "often"}, "must be a number"),
        ({"flush_interval": float("nan")}, "between"),
        ({"heartbeat_timeout": -1}, "between"),
        ({"key_store": "cloud"}, "memory, keyring, pkcs11, file"),
        ({"lang": "fr"}, "zh, en"),
    ],
)
def test_wrong_option_is_named(kit: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Settings.load(kit, environment={}, options=options)


def test_wrong_variable_is_named(kit: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="TIPSTAFF_OUTBOX_LIMIT: outbox_limit must be a whole number"
    ):
        Settings.load(kit, environment={"TIPSTAFF_OUTBOX_LIMIT": "many"})


def test_missing_settings_are_all_named_with_the_ways_to_give_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigurationError,
        match=r"audience, state_dir, trusted_root_file: .*TIPSTAFF_AUDIENCE.*tipstaff\.toml",
    ):
        Settings.load(environment={})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("audience = ", "not valid TOML"),
        ("x = 1", "unknown setting 'x'"),
        ("[sdk]\n", "unknown setting 'sdk'"),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "tipstaff.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=says):
        Settings.load(path, environment={})


def test_missing_or_undecodable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        Settings.load(tmp_path / "none.toml", environment={})
    (tmp_path / "tipstaff.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        Settings.load(tmp_path / "tipstaff.toml", environment={})


def test_reading_a_file_that_is_not_set_or_not_there_says_what_to_do(kit: Path) -> None:
    settings = Settings.load(kit, environment={})
    with pytest.raises(
        ConfigurationError, match=r"certificate_file is not set.*TIPSTAFF_CERTIFICATE_FILE"
    ):
        settings.read("certificate_file")
    with pytest.raises(ConfigurationError, match=r"cannot read .*root\.json"):
        settings.read("trusted_root_file")
