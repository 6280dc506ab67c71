"""The operator's working directory: made by `tipstaff-server init`, so that `tipstaff-server serve`
runs at once.

    tipstaff-server.toml      configuration
    tls/                      development CA (ca.*), the server's certificate (server.*)
    registry.key, registry.db the registry's key and database: back them up apart from each other
    keys/                     signing keys; in production most of them live elsewhere
    repository/               the signed repository, one folder per audience
    providers/<id>/           a kit for each provider: tipstaff.toml and what it names
    authorities/<id>/         a certificate for each authority; officers/<id>/ for its officers
    operator/                 the operator's own certificate

Everything is made in `.init/` first and moved up when it is whole, the configuration last. Killed
at any point, `init` can be run again: a half-made `.init/` is thrown away, a whole one is moved on.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import make_url

from tipstaff_server.administration.document import Administration
from tipstaff_server.administration.load import set_administration
from tipstaff_server.administration.providers import Providers
from tipstaff_server.audit.checkpointer import KEY as AUDIT_KEY
from tipstaff_server.certificates.caller import Caller, Role
from tipstaff_server.certificates.development_ca import CertificateAuthority
from tipstaff_server.clock import utc_now
from tipstaff_server.config import CONFIG_NAME, Config
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import WorkDirError
from tipstaff_server.registry.facts import initialise as initialise_registry
from tipstaff_server.repository.keyring import lifetimes
from tipstaff_server.storage.database import Database
from tipstaff_server.vault.store import Store
from tipstaff_server.vault.vault import Vault, create_key_file
from tipstaff_server.workdir.kits import register_wrapping_keys, write_certificate, write_kit
from tipstaff_server.workdir.layout import (
    EVERY_ADDRESS,
    WorkDirPlan,
    make_private_folder,
    split_listen,
)
from tipstaff_server.workdir.template import configuration_text
from tipstaff_signing.files import FileLock, fsync_dir, write_atomic
from tipstaff_signing.keys.files import create_key, create_key_files
from tipstaff_signing.repository.repository import Repository

__all__ = ["initialise"]

_STAGING, _WHOLE, _LOCK = ".init", "whole", ".init.lock"


def initialise(folder: Path, plan: WorkDirPlan) -> Config:
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


def _make(folder: Path, plan: WorkDirPlan) -> None:
    staging = folder / _STAGING
    if not (staging / _WHOLE).exists():
        leftovers = sorted(
            entry.name for entry in folder.iterdir() if entry.name not in {_STAGING, _LOCK}
        )
        if CONFIG_NAME in leftovers:
            raise WorkDirError(
                f"{folder} is a working directory already; use it, or give another folder"
            )
        if leftovers:
            raise WorkDirError(
                f"{folder} is not empty (it holds {', '.join(leftovers[:5])}); give a new or an empty"
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


def _fill(folder: Path, plan: WorkDirPlan) -> None:
    text = configuration_text(plan)
    write_atomic(folder / CONFIG_NAME, text.encode(), mode=0o600)
    config = Config.load(folder)
    authority = CertificateAuthority.create()
    tls = make_private_folder(folder / "tls")
    authority.write(tls)
    write_atomic(tls / "ca.crl", authority.revocation_list({}, 1))
    host, _ = split_listen(plan.listen)
    hosts = ["localhost", "127.0.0.1"]
    if host not in (*hosts, *EVERY_ADDRESS):
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
    make_private_folder(folder / "authorities")
    for item in Administration.load().authorities:
        write_certificate(
            folder / "authorities" / item.id, authority, Caller(Role.AUTHORITY, item.id)
        )
    write_certificate(folder / "operator", authority, Caller(Role.OPERATOR, "operator"))
    make_private_folder(folder / "providers")
    for provider in plan.providers:
        write_kit(
            folder / "providers" / provider.id,
            provider,
            authority,
            repository.root_bytes(),
            plan.listen,
        )
    register_wrapping_keys(
        config, {provider.id: folder / "providers" / provider.id for provider in plan.providers}
    )


def _registry(config: Config, plan: WorkDirPlan) -> bytes:
    """The registry's key and database, with administration and providers; gives the catalogue to be
    signed.
    """
    # Where the environment names another key, that one is used; it has to be there.
    vault = (
        Vault.configured(config)
        if config.registry.key
        else create_key_file(config.path(config.registry.key_file))
    )
    database = Database.open(config)
    actor, now = Actor.operator("init"), utc_now()
    administration = Administration.load()
    store = Store(database, vault, lambda: now)
    try:
        initialise_registry(store, config.stretch)
        if database.is_sqlite and (file := make_url(config.database_url).database):
            Path(file).chmod(0o600)
        version = set_administration(store, administration, actor=actor)
        for provider in plan.providers:
            Providers(store).add(provider.id, provider.audience, actor=actor)
    finally:
        database.close()
    return administration.catalogue(version=version, made_at=now).SerializeToString(
        deterministic=True
    )
