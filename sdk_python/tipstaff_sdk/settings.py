"""What a provider configures, from four places in one order: constructor, environment, file,
default.

    server = "tipstaff.example.net:8443"      # TIPSTAFF_SERVER
    audience = "aviation"                     # TIPSTAFF_AUDIENCE
    state_dir = "state"                       # TIPSTAFF_STATE_DIR
    ca_file = "ca.pem"
    certificate_file = "certificate.pem"
    private_key_file = "private_key.pem"
    trusted_root_file = "root.json"

Each option has one environment name, `TIPSTAFF_` and its name in capitals. A relative path in the
file is meant relative to the file; anywhere else it is relative to the working directory. An
unknown option in the constructor or the file is an error; unknown variables in the environment are
left alone, because container platforms put names such as TIPSTAFF_SERVER_PORT there for reasons of
their own.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_type_hints
from urllib.parse import urlsplit

from tipstaff_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CONFIG_NAME", "LOOPBACK_HOSTS", "Settings", "is_mirror_url"]

CONFIG_NAME: Final = "tipstaff.toml"
_PREFIX: Final = "TIPSTAFF_"
_AUDIENCE: Final = re.compile(r"[a-z0-9-]{1,40}")
_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_LAST_PORT: Final = 65_535
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TRUTH: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All options of one `Screener`. Times are in seconds.

    Raises:
        ConfigurationError: an option is missing, unknown, of a wrong type or out of range; the
            message names it and says what to do.
    """

    audience: str
    """The audience in this provider's certificate, `[a-z0-9-]{1,40}`."""
    state_dir: Path
    """Folder for verified state and the outbox; made when it is missing, 0700.

    Threads and processes of one provider may share it.
    """
    trusted_root_file: Path
    """The root metadata that came with the provider's kit: where trust begins."""
    server: str | None = None
    """`host:port` of the operator's server.

    Without it nothing is sent, and listings come from `mirror` or `mirror_dir`.
    """
    mirror: str | None = None
    """`https://…` of a mirror or CDN that carries the audience's folder: the bulk comes from there,
    beside the server or without one.
    """
    mirror_dir: Path | None = None
    """A copy of the audience's repository (`metadata/`, `targets/`), for sites without a network.
    Verified like everything else.
    """
    ca_file: Path | None = None
    """Certificates (PEM) that the server's certificate must chain to."""
    certificate_file: Path | None = None
    """This provider's certificate chain (PEM)."""
    private_key_file: Path | None = None
    """Its private key (PEM, not encrypted)."""
    server_name: str | None = None
    """The name to expect in the server's certificate when it differs from the host in `server`."""
    key_store: Literal["memory", "keyring", "pkcs11", "file"] = "memory"
    """Where epoch keys live. `keyring` is the operating system's (needs the package of that name);
    `pkcs11` seals them in `state_dir` by a key in a token (needs the extra of that name; the PIN
    comes from TIPSTAFF_PKCS11_PIN); `file` keeps them in clear in `state_dir`, 0600: a development
    choice, or for sites without a network."""
    pkcs11_module: Path | None = None
    """The token's library, for example /usr/lib/softhsm/libsofthsm2.so."""
    pkcs11_token: str | None = None
    """The token's label."""
    pkcs11_key: str | None = None
    """The label of the AES key in it that seals epoch keys."""
    wrapping_key_file: Path | None = None
    """This provider's X25519 private key (PEM), to whose registered public half the server seals
    epoch keys; a stolen certificate then yields no epoch key. Without it they are sealed to a key
    made for each request."""
    profile: Literal["full", "lean"] = "full"
    """What is kept here. `full`: everything, and decisions are exact without a network. `lean`, for
    a terminal with little room: no sealed records; when the filter asks for proof, a whole bucket
    of them is asked for, so that the server learns one of many and not who."""
    background: bool = True
    """Follow the server in the background. Without it data changes only on `sync()`."""
    connect_timeout: float = 10.0
    """How long to wait for a connection."""
    request_timeout: float = 30.0
    """Deadline of one request; of each pause inside a download."""
    bucket_timeout: float = 3.0
    """In the lean profile: how long a check waits for a bucket before its verdict is REVIEW."""
    heartbeat_timeout: float = 90.0
    """A watch that is silent for longer is taken for dead and opened anew."""
    backoff_initial: float = 0.5
    """Upper bound of the first wait after a failure; it doubles, and each wait is drawn from 0 to
    the bound (full jitter).
    """
    backoff_maximum: float = 60.0
    """Where doubling ends."""
    keys_interval: float = 3_600.0
    """How often epoch keys are asked for, so that the next epoch's is here before a listing uses
    it. A listing that came before its key waits for it, and the one in use stays."""
    flush_interval: float = 10.0
    """How often counts and reports are sent.

    A crash loses at most the counts, never reports, of this long.
    """
    close_timeout: float = 5.0
    """How long `close()` may take."""
    outbox_limit: int = 100_000
    """How many events the outbox keeps before it refuses more."""
    outbox_wait: float = 0.0
    """How long `report()` waits for room in a full outbox before it refuses; 0 refuses at once."""
    lang: Literal["zh", "en"] | None = None
    """Language of the command line; without it LANG decides."""

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def load(
        cls,
        config: str | Path | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Settings:
        """Settings from `options`, then `environment` (default: the process's), then the file, then
        the defaults.

        `config` names the file; without it TIPSTAFF_CONFIG does, else `tipstaff.toml` in the
        working directory when there is one.
        """
        given = os.environ if environment is None else environment
        values: dict[str, object] = {}
        path = _find_file(config, given)
        if path is not None:
            values.update(_from_file(path))
        values.update(_from_environment(given))
        values.update(_from_options(options or {}))
        missing = [
            field.name
            for field in fields(cls)
            if field.default is MISSING and field.name not in values
        ]
        if missing:
            where = f"in {path}" if path is not None else f"in a {CONFIG_NAME}"
            names = ", ".join(missing)
            raise ConfigurationError(
                f"missing setting {names}: give it to the constructor, as"
                f" {_PREFIX}{missing[0].upper()}, or {where}"
            )
        # Each value was converted to its field's type
        return cls(**values)  # type: ignore[arg-type]

    def read(
        self,
        option: Literal[
            "trusted_root_file",
            "ca_file",
            "certificate_file",
            "private_key_file",
            "wrapping_key_file",
        ],
    ) -> bytes:
        """The content of the file that `option` names.

        Raises:
            ConfigurationError: it is not set or cannot be read.
        """
        path: Path | None = getattr(self, option)
        if path is None:
            raise ConfigurationError(
                f"{option} is not set: it is in the kit that the operator gave you; {_how(option)}"
            )
        try:
            return path.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"{option}: cannot read {path} ({error.strerror}); copy it from your kit or correct"
                " the path"
            ) from error


def _how(option: str) -> str:
    return f"set {option} in {CONFIG_NAME} or {_PREFIX}{option.upper()}"


def _find_file(config: str | Path | None, environment: Mapping[str, str]) -> Path | None:
    named = config if config is not None else environment.get(_PREFIX + "CONFIG")
    if named:
        return Path(named)
    implicit = Path(CONFIG_NAME)
    return implicit if implicit.is_file() else None


def _from_file(path: Path) -> dict[str, object]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path} ({error.strerror}); give the path of your {CONFIG_NAME}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    return {
        name: _convert(name, value, origin=str(path), base=path.parent)
        for name, value in raw.items()
    }


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    named = ((name, _PREFIX + name.upper()) for name in _CONVERT)
    return {
        name: _convert(name, _parse(name, environment[variable]), origin=variable, base=Path())
        for name, variable in named
        if environment.get(variable)
    }


def _from_options(options: Mapping[str, object]) -> dict[str, object]:
    return {
        name: _convert(name, value, origin="the constructor", base=Path())
        for name, value in options.items()
    }


def _parse(name: str, text: str) -> object:
    """An environment variable's text as the value that TOML would have had."""
    kind = _CONVERT.get(name)
    if kind is _boolean:
        return _TRUTH.get(text.strip().lower(), text)
    try:
        if kind is _whole:
            return int(text)
        if kind is _number:
            return float(text)
    except ValueError:
        return text
    return text


def _convert(name: str, value: object, *, origin: str, base: Path) -> object:
    convert = _CONVERT.get(name)
    if convert is None:
        raise ConfigurationError(
            f"{origin}: unknown setting {name!r}; known are {', '.join(sorted(_CONVERT))}"
        )
    try:
        return convert(value, base)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{origin}: {name} {error}") from error


def _text(value: object, _base: Path) -> object:
    if isinstance(value, str) and value:
        return value
    raise TypeError("must be a text that is not empty")


def _path(value: object, base: Path) -> object:
    if isinstance(value, (str, Path)) and str(value):
        return base / Path(value).expanduser()
    raise TypeError("must be a path")


def _optional(convert: Callable[[object, Path], object]) -> Callable[[object, Path], object]:
    return lambda value, base: None if value is None else convert(value, base)


def _boolean(value: object, _base: Path) -> object:
    if isinstance(value, bool):
        return value
    raise TypeError("must be true or false")


def _number(value: object, _base: Path) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise TypeError("must be a number")


def _whole(value: object, _base: Path) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError("must be a whole number")


def _converters() -> dict[str, Callable[[object, Path], object]]:
    table: dict[Any, Callable[[object, Path], object]] = {
        bool: _boolean,
        float: _number,
        int: _whole,
        Path: _path,
        Path | None: _optional(_path),
        str | None: _optional(_text),
        Literal["zh", "en"] | None: _optional(_text),
    }
    return {name: table.get(kind, _text) for name, kind in get_type_hints(Settings).items()}


_CONVERT: Final = _converters()
_BOUNDS: Final = {
    "connect_timeout": (0.1, 600.0),
    "request_timeout": (0.1, 3_600.0),
    "bucket_timeout": (0.05, 60.0),
    "heartbeat_timeout": (0.2, 3_600.0),
    "backoff_initial": (0.01, 60.0),
    "backoff_maximum": (0.01, 3_600.0),
    "keys_interval": (0.05, 86_400.0),
    "flush_interval": (0.05, 3_600.0),
    "close_timeout": (0.1, 600.0),
    "outbox_limit": (1, 10_000_000),
    "outbox_wait": (0.0, 3_600.0),
}
_CHOICES: Final = {
    "profile": ("full", "lean"),
    "key_store": ("memory", "keyring", "pkcs11", "file"),
    "lang": ("zh", "en", None),
}


def _check(settings: Settings) -> None:
    if not _AUDIENCE.fullmatch(settings.audience):
        raise ConfigurationError(
            "audience must be 1 to 40 of a-z, 0-9 and '-', as in your certificate"
        )
    if settings.server is not None:
        match = _SERVER.fullmatch(settings.server)
        if match is None or not 0 < int(match[2]) <= _LAST_PORT:
            raise ConfigurationError(
                "server must be host:port, for example tipstaff.example.net:8443, not"
                f" {settings.server!r}"
            )
    _check_mirror(settings.mirror)
    for name, (low, high) in _BOUNDS.items():
        if not low <= getattr(settings, name) <= high:
            raise ConfigurationError(f"{name} must be between {low:g} and {high:g}")
    for name, choices in _CHOICES.items():
        if getattr(settings, name) not in choices:
            raise ConfigurationError(
                f"{name} must be one of {', '.join(choice for choice in choices if choice)}"
            )
    if settings.profile == "lean" and settings.server is None:
        raise ConfigurationError(
            "profile = lean asks the server for records: set server, or use profile = full"
        )


def _check_mirror(mirror: str | None) -> None:
    if mirror is not None and not is_mirror_url(mirror):
        raise ConfigurationError(
            "mirror must be an https address without query and credentials:"
            " https://mirror.example.net/aviation"
        )


def is_mirror_url(url: str) -> bool:
    """Tells whether a mirror may have this address.

    It has to be https, or http on this machine, without query and credentials.
    """
    try:
        parts = urlsplit(url)
        good = (
            bool(parts.hostname)
            and not (parts.query or parts.fragment or parts.username)
            and parts.port != 0
        )
    except ValueError:
        return False
    return good and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)
    )
