"""The operator's working directory: made by `tipstaff-server init`, so that `tipstaff-server serve`
runs at once.

    tipstaff-server.toml      configuration
    tls/                      development CA (ca.pem, ca.key, ca.crl), the server's certificate (server.pem, server.key)
    registry.key, registry.db the registry's key and database: back them up apart from each other
    keys/                     signing keys; in production root, targets and sign-off keys live elsewhere
    repository/               the signed repository, one folder per audience
    providers/<id>/           a kit for each provider: tipstaff.toml for Screener.open, certificates, wrapping key, the trusted root
    authorities/<id>/         a certificate for each authority, and in officers/<id>/ for those of its officers who have one
    operator/                 the operator's own certificate

Everything is made in `.init/` first and moved up when it is whole, the configuration last. Killed
at any point, `init` can be run again: a half-made `.init/` is thrown away, a whole one is moved on.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from tipstaff_server.administration.document import Administration
from tipstaff_server.audit.checkpointer import KEY as AUDIT_KEY
from tipstaff_server.certificates.caller import Caller, Role
from tipstaff_server.certificates.development_ca import CertificateAuthority
from tipstaff_server.clock import utc_now
from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.deployment import lifetimes
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import WorkDirError
from tipstaff_server.registry import facts as setup
from tipstaff_server.storage.database import Database
from tipstaff_server.vault.vault import Vault, create_key_file
from tipstaff_server.workdir.wrapping_keys import read_public, write_private
from tipstaff_signing.files import FileLock, fsync_dir, write_atomic
from tipstaff_signing.keys.files import create_key, create_key_files
from tipstaff_signing.repository.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "DEFAULT_AUDIENCES",
    "Plan",
    "Provider",
    "add_provider",
    "development_authority",
    "initialise",
]

DEFAULT_AUDIENCES = ("aviation", "rail", "hospitality", "banking")
_STAGING, _WHOLE, _LOCK = ".init", "whole", ".init.lock"
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_LISTEN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_EVERY_ADDRESS = {"0.0.0.0", "[::]"}  # noqa: S104  compared with, not listened on
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider and the audience that it belongs to."""

    audience: str
    id: str

    @classmethod
    def parse(cls, text: str) -> Provider:
        """From `audience/id`. Raises WorkDirError."""
        audience, _, name = text.partition("/")
        if not (_WORD.fullmatch(audience) and _WORD.fullmatch(name)):
            raise WorkDirError(
                f"{text[:100]!r} is not audience/id: write for example aviation/skyline-air (a-z,"
                " 0-9 and -, at most 40 each)"
            )
        return cls(audience, name)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make. `listen` is host:port; `stretch_n` the cost of scrypt, a power of two."""

    audiences: tuple[str, ...] = DEFAULT_AUDIENCES
    providers: tuple[Provider, ...] = ()
    listen: str = "127.0.0.1:7443"
    stretch_n: int = 1 << 12

    @classmethod
    def of(
        cls, audiences: Sequence[str], providers: Sequence[Provider], listen: str, stretch_n: int
    ) -> Plan:
        """Fills in what was left out: the usual four audiences and those of the providers, and one
        provider for each audience without.

        Raises WorkDirError: an unknown audience, the same provider twice, an address without a
        port.
        """
        known = [audience.id for audience in Administration.load().audiences]
        named = dict.fromkeys(
            [*(audiences or DEFAULT_AUDIENCES), *(provider.audience for provider in providers)]
        )
        if unknown := sorted(set(named) - set(known)):
            raise WorkDirError(
                f"there is no audience {', '.join(unknown)}; audiences are {', '.join(known)}"
            )
        served = {provider.audience for provider in providers}
        everybody = [
            *providers,
            *(Provider(audience, f"{audience}-1") for audience in named if audience not in served),
        ]
        if len({provider.id for provider in everybody}) < len(everybody):
            raise WorkDirError(
                "two providers have the same id; ids are unique in a deployment, choose another one"
            )
        _split(listen)
        return cls(tuple(named), tuple(everybody), listen, stretch_n)


def initialise(folder: Path, plan: Plan) -> Config:
    """Makes a working directory in `folder`, which is new or empty, and returns its configuration.

    Raises WorkDirError: the folder holds something already. Other errors leave nothing but what the
    next run clears away.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise WorkDirError(
            f"{folder} cannot be made: {error.strerror}; choose another place"
        ) from error
    with FileLock(folder / _LOCK, timeout=0):
        _make(folder, plan)
    (folder / _LOCK).unlink(missing_ok=True)
    return Config.load(folder)


def _make(folder: Path, plan: Plan) -> None:
    staging = folder / _STAGING
    if not (staging / _WHOLE).exists():
        found = sorted(
            entry.name for entry in folder.iterdir() if entry.name not in {_STAGING, _LOCK}
        )
        if CONFIG_NAME in found:
            raise WorkDirError(
                f"{folder} is a working directory already; use it, or give another folder"
            )
        if found:
            raise WorkDirError(
                f"{folder} is not empty (it holds {', '.join(found[:5])}); give a new or an empty"
                " folder"
            )
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        _fill(staging, plan)
        write_atomic(staging / _WHOLE, b"")
    # The configuration comes last: while it is missing, nothing takes the folder for a working
    # directory.
    for entry in sorted(
        staging.iterdir(), key=lambda entry: (entry.name == CONFIG_NAME, entry.name)
    ):
        if entry.name != _WHOLE:
            entry.rename(folder / entry.name)
    fsync_dir(folder)
    shutil.rmtree(staging)


def _fill(folder: Path, plan: Plan) -> None:
    text = _configuration(plan)
    write_atomic(folder / CONFIG_NAME, text.encode(), mode=0o600)
    config = Config.load(folder)
    authority = CertificateAuthority.create()
    tls = _private_folder(folder / "tls")
    authority.write(tls)
    write_atomic(tls / "ca.crl", authority.revocation_list({}, 1))
    host, _ = _split(plan.listen)
    hosts = ["localhost", "127.0.0.1"]
    if host not in (*hosts, *_EVERY_ADDRESS):
        hosts.append(host.strip("[]"))
    authority.issue_server(hosts).write(tls, "server.pem", "server.key")
    catalogue = _registry(config, plan)
    keys = create_key_files(config.path(config.repository.keys), audiences=plan.audiences)
    create_key(config.path(config.repository.keys), AUDIT_KEY)
    repository = Repository.create(
        config.path(config.repository.path),
        keys,
        audiences=plan.audiences,
        catalogue=catalogue,
        lifetimes=lifetimes(config),
    )
    _private_folder(folder / "authorities")
    for item in Administration.load().authorities:
        _certificate(folder / "authorities" / item.id, authority, Caller(Role.AUTHORITY, item.id))
    _certificate(folder / "operator", authority, Caller(Role.OPERATOR, "operator"))
    _private_folder(folder / "providers")
    for provider in plan.providers:
        _kit(
            folder / "providers" / provider.id,
            provider,
            authority,
            repository.root_bytes(),
            plan.listen,
        )
    _register(
        config, {provider.id: folder / "providers" / provider.id for provider in plan.providers}
    )


def _registry(config: Config, plan: Plan) -> bytes:
    """The registry's key and database, with administration and providers; gives the catalogue to be
    signed.
    """
    # Where the environment names another key, that one is used; it has to be there.
    # Where the environment names another key, that one is used; it has to be there.
    vault = (
        Vault.configured(config)
        if config.registry.key
        else create_key_file(config.path(config.registry.key_file))
    )
    database = Database.open(config)
    actor, now = Actor.operator("init"), utc_now()
    administration = Administration.load()
    try:
        setup.initialise(database, vault, config.stretch)
        if database.is_sqlite and (file := make_url(config.database_url).database):
            Path(file).chmod(0o600)
        version = setup.set_administration(database, vault, administration, actor=actor, now=now)
        for provider in plan.providers:
            setup.add_provider(
                database, vault, provider.id, provider.audience, actor=actor, now=now
            )
    finally:
        database.close()
    return administration.catalogue(version=version, made_at=now).SerializeToString(
        deterministic=True
    )


def add_provider(config: Config, provider: Provider) -> Path:
    """Makes another provider's kit with the working directory's development CA; returns its folder.

    Raises WorkDirError: no such audience, a kit of that name, or no development CA here.
    """
    repository = Repository(config.path(config.repository.path))
    if provider.audience not in repository.audiences():
        raise WorkDirError(
            f"there is no audience {provider.audience!r} here; audiences are"
            f" {', '.join(repository.audiences())}"
        )
    kit = config.folder / "providers" / provider.id
    if kit.exists():
        raise WorkDirError(
            f"{kit} exists already; choose another id, or move the old kit away to have it made"
            " anew"
        )
    authority = development_authority(config)
    kit.parent.mkdir(mode=0o700, exist_ok=True)
    staging = kit.with_name(f".{provider.id}.new")
    shutil.rmtree(staging, ignore_errors=True)
    _kit(staging, provider, authority, repository.root_bytes(), config.server.listen)
    database = Database.open(config)
    try:
        vault = Vault.configured(config)
        setup.open_facts(database, vault)
        setup.add_provider(
            database,
            vault,
            provider.id,
            provider.audience,
            actor=Actor.operator("command"),
            now=utc_now(),
        )
    finally:
        database.close()
    _register(config, {provider.id: staging})
    staging.rename(kit)
    fsync_dir(kit.parent)
    return kit


def development_authority(config: Config) -> CertificateAuthority:
    """The authority that `init` made. Raises WorkDirError when it is not here."""
    tls = config.folder / "tls"
    try:
        return CertificateAuthority.load(tls / "ca.pem", tls / "ca.key")
    except (OSError, ValueError) as error:
        raise WorkDirError(
            f"the development CA in {tls} cannot be used ({error}); issue and revoke certificates"
            " with your own authority"
        ) from error


def _register(config: Config, kits: Mapping[str, Path]) -> None:
    """The public halves of the kits' wrapping keys, from now on the only ones that these providers'
    epoch keys are sealed to.
    """
    database = Database.open(config)
    try:
        vault, actor, now = Vault.configured(config), Actor.operator("kit"), utc_now()
        for provider, kit in kits.items():
            public = read_public((kit / "wrapping_key.pem").read_bytes())
            setup.register_wrapping_key(database, vault, provider, public, actor=actor, now=now)
    finally:
        database.close()


def _kit(
    folder: Path, provider: Provider, authority: CertificateAuthority, root: bytes, listen: str
) -> None:
    host, port = _split(listen)
    server = f"{'localhost' if host in _EVERY_ADDRESS else host}:{port}"
    _certificate(folder, authority, Caller(Role.PROVIDER, provider.id, provider.audience))
    (folder / "root.json").write_bytes(root)
    write_private(folder / "wrapping_key.pem")
    text = f"""\
# Kit of {provider.id}. Screener.open("tipstaff.toml") works as it stands; paths are meant from this file's folder.
server = "{server}"
audience = "{provider.audience}"
state_dir = "state"
ca_file = "ca.pem"
certificate_file = "certificate.pem"
private_key_file = "private_key.pem"
trusted_root_file = "root.json"
# Epoch keys are sealed to the public half of this key, which the operator knows; without it the certificate yields none.
wrapping_key_file = "wrapping_key.pem"
"""
    (folder / "tipstaff.toml").write_text(text, "utf-8")
    fsync_dir(folder)


def _certificate(folder: Path, authority: CertificateAuthority, caller: Caller) -> None:
    _private_folder(folder)
    (folder / "ca.pem").write_bytes(authority.certificate)
    authority.issue_client(caller.uri).write(folder)


def _private_folder(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _split(listen: str) -> tuple[str, str]:
    match = _LISTEN.fullmatch(listen)
    if match is None or not 0 < int(match["port"]) <= _MAX_PORT:
        raise WorkDirError(f"{listen[:100]!r} is not host:port; write for example 127.0.0.1:7443")
    return match["host"], match["port"]


def _configuration(plan: Plan) -> str:
    return f"""\
# Configuration of tipstaff-server. Every key can be overridden by TIPSTAFF_SERVER__SECTION__KEY. Paths are meant from this file's folder.

[server]
listen = "{plan.listen}"
certificate_file = "tls/server.pem"
private_key_file = "tls/server.key"
client_ca_file = "tls/ca.pem"
# Revoked certificates (X.509, PEM), signed by an authority in client_ca_file; `provider revoke` writes it.
# All four files are read again when they change.
client_crl_file = "tls/ca.crl"
# After SIGTERM the health service says NOT_SERVING for so long before streams end: longer than your load balancer takes to notice.
drain_seconds = 0.5

[limits]
# What one certificate's holder may ask for: above it the answer is RESOURCE_EXHAUSTED, and says when to ask again.
calls_per_second = 100
calls_burst = 1_000
artefact_bytes_per_second = {32 << 20}
artefact_burst_bytes = {1 << 30}
watches = 1_000

[database]
url = "sqlite:///registry.db"

[registry]
# What wraps the registry's keys. Instead of a file: key = "env:VARIABLE", or "command:PROGRAM" for a KMS or an HSM.
key_file = "registry.key"

[audit]
# Signed checkpoints of the audit log. Have somebody who cannot write the database fetch this folder.
checkpoint_folder = "checkpoints"
checkpoint_seconds = 3_600

[retention]
# How many days after its end a restriction is kept, before `tipstaff-server retention erase` takes it. Lists may have their own.
days = {5 * 366}

[stretch]
# Cost of stretching an identifier (scrypt) when the registry was made; `keys change-stretch` changes it, this line does not.
n = {plan.stretch_n}

[repository]
path = "repository"
keys = "keys"
"""
