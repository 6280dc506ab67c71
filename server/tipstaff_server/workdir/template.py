"""The configuration file of a new work folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tipstaff_server.workdir.layout import WorkDirPlan

__all__ = ["configuration_text"]


def configuration_text(plan: WorkDirPlan) -> str:
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
