"""The configuration is checked strictly, and says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.errors import ConfigurationError


def test_an_empty_file_gives_the_defaults_and_paths_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text("")
    config = Config.load(tmp_path)
    assert config.database_url == f"sqlite:///{tmp_path}/registry.db"
    assert config.path(config.registry.key_file) == tmp_path / "registry.key"
    assert config.path(Path("/elsewhere")) == Path("/elsewhere")


def test_the_environment_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / CONFIG_NAME).write_text(
        '[database]\nurl = "sqlite:///a.db"\npool_size = 3\n[registry]\nmax_term_days = 10\n'
    )
    monkeypatch.setenv(
        "TIPSTAFF_SERVER__DATABASE__URL", "postgresql+psycopg://user:secret@host/tipstaff"
    )
    config = Config.load(tmp_path / CONFIG_NAME)
    assert config.database_url == "postgresql+psycopg://user:secret@host/tipstaff"
    assert (config.database.pool_size, config.registry.max_term_days) == (3, 10)
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[datbase]\n", "datbase: unknown option"),
        ("[database]\nurls = 1\n", "database.urls: unknown option"),
        ("[database]\nurl = 'mysql://user:secret@host/x'\n", "only sqlite and postgresql"),
        ("[database]\nurl = 'secret'\n", "not a database URL"),
        ("[stretch]\nn = 1000\n", "power of two"),
        ("[registry]\nmax_term_days = 0\n", "registry.max_term_days"),
        ("[publication]\nrelief_refresh_seconds = 2000\n", "relief_max_age_seconds"),
        ("[server]\nlisten = 'nowhere'\n", "server.listen"),
        ("folder = '/'\n", "not an option"),
        ("[database\n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_without_the_value(
    tmp_path: Path, text: str, hint: str
) -> None:
    (tmp_path / CONFIG_NAME).write_text(text)
    with pytest.raises(ConfigurationError, match=hint) as caught:
        Config.load(tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "variable",
    ["TIPSTAFF_SERVER__DATBASE__URL", "TIPSTAFF_SERVER__DATABASE", "TIPSTAFF_SERVER__FOLDER"],
)
def test_an_unknown_variable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / CONFIG_NAME).write_text("")
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigurationError, match=variable):
        Config.load(tmp_path)


def test_an_unknown_key_in_a_variable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CONFIG_NAME).write_text("")
    monkeypatch.setenv("TIPSTAFF_SERVER__DATABASE__URLS", "x")
    with pytest.raises(ConfigurationError, match=r"database\.urls: unknown option"):
        Config.load(tmp_path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tipstaff-server init"):
        Config.load(tmp_path)
