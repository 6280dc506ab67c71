"""From registry to published listing: built, signed off by another process with another key,
published.

    build(audience)      a proposal with the builder's signature
    sign_off(audience)   looks at it independently, adds the second signature or refuses it, with reasons
    publish(audience)    makes a proposal with both signatures the audience's listing

Each leaves its mark in the registry's history of builds. Relief waits for none of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tipstaff_server.errors import PublicationError, SignOffRefusedError
from tipstaff_server.logs import log_info, log_warning
from tipstaff_server.processes.private_folder import private_folder
from tipstaff_server.signoff.examine import examine
from tipstaff_server.storage.models import BuildState, ListingBuildRow
from tipstaff_signing.keys.files import signoff_key

if TYPE_CHECKING:
    from tipstaff_server.deployment import Runtime
    from tipstaff_signing.model import Versions

__all__ = ["publish", "refresh_catalogue", "sign_off"]


def sign_off(runtime: Runtime, audience: str, *, accept_growth: bool = False) -> int:
    """Signs the waiting proposal off and returns its version; one that has both signatures already
    is left as it is.

    Raises SignOffRefusedError: it was refused and moved aside, with the reasons beside it;
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
        _mark(runtime, audience, proposal.version, BuildState.REFUSED, error.reasons)
        log_warning(
            "sign_off_refused",
            audience=audience,
            version=proposal.version,
            reasons=list(error.reasons),
        )
        raise
    runtime.repository.sign_off(proposal, signer)
    _mark(runtime, audience, proposal.version, BuildState.SIGNED_OFF)
    log_info("signed_off", audience=audience, version=proposal.version)
    return proposal.version


def publish(runtime: Runtime, audience: str) -> Versions:
    """Publishes the waiting proposal.

    Raises PublicationError: nothing waits; ProposalError: it lacks a signature, or expired.
    """
    proposal = runtime.repository.proposal(audience)
    if proposal is None:
        raise PublicationError(
            f"no listing for {audience} waits to be published; run `tipstaff-server build` and"
            " `sign-off` first"
        )
    versions = runtime.repository.publish_listing(
        proposal, runtime.keys.signer("snapshot"), runtime.keys.signer("timestamp")
    )
    _mark(runtime, audience, proposal.version, BuildState.PUBLISHED)
    # Lifts since the build: a server may not be running to carry them.
    runtime.relief.publish(audience)
    log_info("listing_published", audience=audience, version=proposal.version)
    return versions


def refresh_catalogue(runtime: Runtime) -> bool:
    """Signs the registry's catalogue when it is newer than the published one; whether it was.

    Needs the targets keys.
    """
    catalogue = runtime.registry.catalogue().SerializeToString(deterministic=True)
    audience = runtime.repository.audiences()[0]
    if runtime.published(audience).catalogue(runtime.repository.versions(audience)) == catalogue:
        return False
    runtime.repository.set_catalogue(catalogue, runtime.keys)
    log_info("catalogue_published", version=runtime.registry.policies().version)
    return True


def _mark(
    runtime: Runtime, audience: str, version: int, state: BuildState, reasons: tuple[str, ...] = ()
) -> None:
    with runtime.registry.database.write() as session:
        row = session.get(ListingBuildRow, (audience, version))
        # A proposal that came from elsewhere has no row; the repository is what counts.
        if row is not None:
            row.state = state
            if state is BuildState.PUBLISHED:
                row.published_at = runtime.clock()
            if reasons:
                row.detail = json.dumps({"reasons": reasons}, ensure_ascii=False)
