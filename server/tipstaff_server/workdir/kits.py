"""Kits for providers: a certificate, a wrapping key, the trusted root and a configuration."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tipstaff_server.administration.providers import Providers
from tipstaff_server.certificates.caller import Caller, Role
from tipstaff_server.domain.actors import Actor
from tipstaff_server.errors import WorkDirError
from tipstaff_server.registry.facts import open_facts
from tipstaff_server.storage.database import Database
from tipstaff_server.vault.store import Store
from tipstaff_server.vault.vault import Vault
from tipstaff_server.workdir.layout import (
    EVERY_ADDRESS,
    Provider,
    development_authority,
    make_private_folder,
    split_listen,
)
from tipstaff_server.workdir.wrapping_keys import read_public, write_private
from tipstaff_signing.files import fsync_dir
from tipstaff_signing.repository.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tipstaff_server.certificates.development_ca import CertificateAuthority
    from tipstaff_server.config import Config

__all__ = ["add_provider", "register_wrapping_keys", "write_certificate", "write_kit"]


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
    write_kit(staging, provider, authority, repository.root_bytes(), config.server.listen)
    store = Store(Database.open(config), Vault.configured(config))
    try:
        open_facts(store)
        Providers(store).add(provider.id, provider.audience, actor=Actor.operator("command"))
    finally:
        store.database.close()
    register_wrapping_keys(config, {provider.id: staging})
    staging.rename(kit)
    fsync_dir(kit.parent)
    return kit


def register_wrapping_keys(config: Config, kits: Mapping[str, Path]) -> None:
    """The public halves of the kits' wrapping keys, from now on the only ones that these providers'
    epoch keys are sealed to.
    """
    store = Store(Database.open(config), Vault.configured(config))
    try:
        members, actor = Providers(store), Actor.operator("kit")
        for provider, kit in kits.items():
            public = read_public((kit / "wrapping_key.pem").read_bytes())
            members.register_wrapping_key(provider, public, actor=actor)
    finally:
        store.database.close()


def write_kit(
    folder: Path, provider: Provider, authority: CertificateAuthority, root: bytes, listen: str
) -> None:
    host, port = split_listen(listen)
    server = f"{'localhost' if host in EVERY_ADDRESS else host}:{port}"
    write_certificate(folder, authority, Caller(Role.PROVIDER, provider.id, provider.audience))
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


def write_certificate(folder: Path, authority: CertificateAuthority, caller: Caller) -> None:
    make_private_folder(folder)
    (folder / "ca.pem").write_bytes(authority.certificate)
    authority.issue_client(caller.uri).write(folder)
