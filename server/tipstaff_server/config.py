"""The operator's configuration: one TOML file, overridden by the environment, strictly checked.

    [server]
    listen = "127.0.0.1:7443"

    [database]
    url = "sqlite:///registry.db"

`TIPSTAFF_SERVER__DATABASE__URL=postgresql+psycopg://…` overrides `[database] url`, and so on for
every key. Unknown sections, keys and variables are errors. Relative paths, and a relative SQLite
file, are meant from the file's folder.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tipstaff_server.errors import ConfigurationError

__all__ = ["CONFIG_NAME", "Config"]

CONFIG_NAME = "tipstaff-server.toml"
ENV_PREFIX = "TIPSTAFF_SERVER__"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ServerSection(_Section):
    """Where the services listen and who they are."""

    listen: str = Field(default="127.0.0.1:7443", pattern=r"^.+:\d{1,5}$")
    certificate_file: Path = Path("tls/server.pem")
    private_key_file: Path = Path("tls/server.key")
    client_ca_file: Path = Path("tls/ca.pem")
    client_crl_file: Path | None = None
    threads: int = Field(default=8, ge=1, le=256)
    max_message_bytes: int = Field(default=8 << 20, ge=1 << 16, le=256 << 20)
    max_metadata_bytes: int = Field(default=16 << 10, ge=4 << 10, le=1 << 20)
    max_streams_per_connection: int = Field(default=100, ge=1, le=100_000)
    handshake_timeout_seconds: float = Field(default=20.0, ge=1, le=300)
    keepalive_seconds: float = Field(default=60.0, ge=1, le=7_200)
    connection_age_seconds: float = Field(default=86_400.0, ge=60, le=30 * 86_400)
    call_timeout_seconds: float = Field(default=60.0, ge=1, le=3_600)
    stall_seconds: float = Field(default=60.0, ge=1, le=3_600)
    drain_seconds: float = Field(default=0.5, ge=0, le=300)
    stop_grace_seconds: float = Field(default=5.0, ge=0, le=300)


class LimitsSection(_Section):
    """How much one caller may ask for."""

    calls_per_second: float = Field(default=100.0, gt=0, le=1_000_000)
    calls_burst: int = Field(default=1_000, ge=1, le=10_000_000)
    artefact_bytes_per_second: int = Field(default=32 << 20, ge=1 << 10, le=1 << 40)
    artefact_burst_bytes: int = Field(default=1 << 30, ge=1 << 10, le=1 << 50)
    watches: int = Field(default=1_000, ge=1, le=1_000_000)
    unknown_case_numbers_per_hour: int = Field(default=60, ge=1, le=1_000_000)


class DatabaseSection(_Section):
    """The registry's database, as a SQLAlchemy URL."""

    url: str = Field(default="sqlite:///registry.db", repr=False)
    busy_timeout_seconds: float = Field(default=30.0, gt=0, le=600)
    pool_size: int = Field(default=8, ge=1, le=256)

    @field_validator("url")
    @classmethod
    def _known_dialect(cls, value: str) -> str:
        try:
            name = make_url(value).get_backend_name()
        except ArgumentError as error:
            raise ValueError(
                "not a database URL; write sqlite:///registry.db or"
                " postgresql+psycopg://user@host/name"
            ) from error
        if name not in {"sqlite", "postgresql"}:
            raise ValueError("only sqlite and postgresql are supported")
        return value


class RegistrySection(_Section):
    """Rules that hold for every authority, and the key that wraps the registry's keys.

    `key`: `file:…`, `env:…` or `command:…`; when it is not given, `key_file`. `other_keys`: those
    that may still wrap some during a change.
    """

    key_file: Path = Path("registry.key")
    key: str = Field(default="", repr=False)
    other_keys: tuple[str, ...] = Field(default=(), repr=False)
    max_term_days: int = Field(default=30 * 366, ge=1, le=100 * 366)
    listing_horizon_days: int = Field(default=7, ge=0, le=90)
    page_size: int = Field(default=1000, ge=10, le=20_000)
    remedy_days: int = Field(default=15, ge=1, le=365)
    disputes_per_hour: int = Field(default=120, ge=1, le=1_000_000)


class AuditSection(_Section):
    """When the audit log is signed, and where copies of what was signed go: somebody else has to
    keep them.
    """

    checkpoint_entries: int = Field(default=10_000, ge=1, le=10_000_000)
    checkpoint_seconds: int = Field(default=3_600, ge=1, le=30 * 86_400)
    checkpoint_folder: Path = Path("checkpoints")


class RetentionSection(_Section):
    """How many days after its end a restriction is kept:

    `days`, or the list's own number in `lists`.
    """

    days: int = Field(default=5 * 366, ge=1, le=100 * 366)
    lists: dict[str, Annotated[int, Field(ge=1, le=100 * 366)]] = {}


class StretchSection(_Section):
    """Cost of stretching identifiers (scrypt).

    `n`, `r`, `p` are those of a new registry (`keys change-stretch` changes them).
    """

    n: int = Field(default=1 << 12, ge=2, le=1 << 20)
    r: int = Field(default=8, ge=1, le=64)
    p: int = Field(default=1, ge=1, le=16)
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)

    @field_validator("n")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("has to be a power of two (RFC 7914)")
        return value


class RepositorySection(_Section):
    """Where the signed repository and the signing keys are."""

    path: Path = Path("repository")
    keys: Path = Path("keys")


class PublicationSection(_Section):
    """How listings and relief are published."""

    false_positive_rate: float = Field(default=1e-3, gt=1e-7, lt=0.5)
    listing_lifetime_seconds: int = Field(default=7 * 86_400, ge=60, le=90 * 86_400)
    listing_interval_seconds: int = Field(default=86_400, ge=1, le=30 * 86_400)
    from_scratch_interval_seconds: int = Field(default=7 * 86_400, ge=0, le=90 * 86_400)
    relief_lifetime_seconds: int = Field(default=3_600, ge=60, le=7 * 86_400)
    relief_refresh_seconds: int = Field(default=300, ge=1, le=86_400)
    relief_max_age_seconds: int = Field(default=1_800, ge=10, le=7 * 86_400)
    relief_segment_size: int = Field(default=1_000, ge=1, le=1_000_000)
    churn_max_growth: float = Field(default=0.2, gt=0, le=100)
    churn_floor: int = Field(default=1_000, ge=0)

    @model_validator(mode="after")
    def _refreshed_in_time(self) -> Self:
        if self.relief_refresh_seconds >= self.relief_max_age_seconds:
            raise ValueError(
                "relief_refresh_seconds has to be below relief_max_age_seconds, or every denial"
                " becomes a review"
            )
        return self


class AdministrationSection(_Section):
    """Which file lists measures, authorities, lists and audiences; empty: the one that comes with
    the program.
    """

    file: Path | None = None


class _Values(BaseSettings):
    """Environment over file; filled by `Config.load`."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    server: ServerSection = ServerSection()
    limits: LimitsSection = LimitsSection()
    database: DatabaseSection = DatabaseSection()
    registry: RegistrySection = RegistrySection()
    audit: AuditSection = AuditSection()
    retention: RetentionSection = RetentionSection()
    stretch: StretchSection = StretchSection()
    repository: RepositorySection = RepositorySection()
    publication: PublicationSection = PublicationSection()
    administration: AdministrationSection = AdministrationSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


class Config(_Values):
    """The whole configuration. `folder` is what relative paths are meant from."""

    folder: Path = Path()

    @classmethod
    def load(cls, path: Path | None = None) -> Config:
        """Reads `path` (a file, or a folder that holds `tipstaff-server.toml`; default: the working
        directory).

        Raises ConfigurationError: no such file, not TOML, unknown key, value out of range.
        """
        file = Path() if path is None else path
        if file.is_dir():
            file = file / CONFIG_NAME
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(
                f"{file} does not exist; run `tipstaff-server init FOLDER`, or give --config"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
        return cls.of(values, folder=file.parent)

    @classmethod
    def of(cls, values: dict[str, Any], *, folder: Path) -> Config:
        """From values already parsed; for `init` and tests. Raises ConfigurationError."""
        if "folder" in values:
            raise ConfigurationError("folder: not an option; it is where the file lies")
        _refuse_unknown_variables(cls)
        try:
            return cls(**values, folder=folder.resolve())
        except ValidationError as error:
            raise ConfigurationError(_explain(error)) from error

    def path(self, value: Path) -> Path:
        """An absolute path for a path option."""
        return value if value.is_absolute() else self.folder / value

    @property
    def database_url(self) -> str:
        """The database's URL, with a SQLite file made absolute."""
        url = make_url(self.database.url)
        if url.get_backend_name() != "sqlite" or url.database in {None, "", ":memory:"}:
            return self.database.url
        return url.set(database=str(self.path(Path(str(url.database))))).render_as_string(
            hide_password=False
        )


def _refuse_unknown_variables(model: type[BaseSettings]) -> None:
    sections = {name.upper() for name in model.model_fields if name != "folder"}
    for variable in os.environ:
        if not variable.upper().startswith(ENV_PREFIX):
            continue
        section, _, key = variable.upper().removeprefix(ENV_PREFIX).partition("__")
        if section not in sections or not key:
            raise ConfigurationError(
                f"{variable} is not an option; write {ENV_PREFIX}SECTION__KEY with a section of"
                f" {_names(sections)}"
            )


def _names(sections: set[str]) -> str:
    return ", ".join(sorted(sections))


def _explain(error: ValidationError) -> str:
    """One line an error, without the value: it may be a password in a URL."""
    lines: list[str] = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"])
        text = (
            "unknown option; remove it or correct its name"
            if item["type"] == "extra_forbidden"
            else item["msg"]
        )
        lines.append(f"{where}: {text}")
    return "; ".join(lines)
