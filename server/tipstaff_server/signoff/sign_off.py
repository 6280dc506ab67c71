"""Signing off a proposal: examine it, then sign it with the second key or refuse it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tipstaff_server.errors import PublicationError, SignOffRefusedError
from tipstaff_server.logs import log_info, log_warning
from tipstaff_server.processes.private_folder import private_folder
from tipstaff_server.repository.history import mark_build
from tipstaff_server.signoff.examine import examine
from tipstaff_server.storage.models import BuildState
from tipstaff_signing.keys.files import signoff_key

if TYPE_CHECKING:
    from tipstaff_server.deployment import Deployment

__all__ = ["sign_off"]


def sign_off(runtime: Deployment, audience: str, *, accept_growth: bool = False) -> int:
    """Signs the waiting proposal off; one that has both signatures already stays as it is.

    Returns:
        Its version.

    Raises:
        SignOffRefusedError: it was refused and moved aside, with the reasons beside it.
        PublicationError: nothing waits, or another sign-off is running.
    """
    proposal = runtime.repository.proposal(audience)
    if proposal is None:
        raise PublicationError(
            f"no listing for {audience} waits for a sign-off; run `tipstaff-server build` first"
        )
    if proposal.complete:
        return proposal.version
    # The key first: without it there is nothing to look at for.
    signer = runtime.keys.signer(signoff_key(audience))
    try:
        # The builder can write to the folder that it comes in, and could show us one listing, and
        # have another one signed.
        with private_folder(runtime.config.folder / ".sign-off", audience, "sign-off") as folder:
            examine(
                runtime, runtime.repository.copied(proposal, folder), accept_growth=accept_growth
            )
    except SignOffRefusedError as error:
        runtime.repository.refuse(proposal, error.reasons)
        mark_build(
            runtime.store,
            (audience, proposal.version),
            BuildState.REFUSED,
            error.reasons,
        )
        log_warning(
            "sign_off_refused",
            audience=audience,
            version=proposal.version,
            reasons=list(error.reasons),
        )
        raise
    runtime.repository.sign_off(proposal, signer)
    mark_build(
        runtime.store,
        (audience, proposal.version),
        BuildState.SIGNED_OFF,
    )
    log_info("signed_off", audience=audience, version=proposal.version)
    return proposal.version
