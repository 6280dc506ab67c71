"""From registry to published listing: built, signed off by another process with another key,
published.

    build(audience)      a proposal with the builder's signature
    sign_off(audience)   looks at it independently, adds the second signature or refuses it, with reasons
    publish(audience)    makes a proposal with both signatures the audience's listing

Each leaves its mark in the registry's history of builds. Relief waits for none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tipstaff_server.errors import PublicationError
from tipstaff_server.logs import log_info
from tipstaff_server.repository.history import mark_build
from tipstaff_server.storage.models import BuildState

if TYPE_CHECKING:
    from tipstaff_server.deployment import Deployment
    from tipstaff_signing.model import Versions

__all__ = ["publish", "refresh_catalogue"]


def publish(runtime: Deployment, audience: str) -> Versions:
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
    mark_build(
        runtime.store,
        (audience, proposal.version),
        BuildState.PUBLISHED,
    )
    # Lifts since the build: a server may not be running to carry them.
    runtime.relief.publish(audience)
    log_info("listing_published", audience=audience, version=proposal.version)
    return versions


def refresh_catalogue(runtime: Deployment) -> bool:
    """Signs the registry's catalogue when it is newer than the published one.

    Needs the targets keys.

    Returns:
        Whether it was newer.
    """
    catalogue = runtime.registry.catalogue().SerializeToString(deterministic=True)
    audience = runtime.repository.audiences()[0]
    if runtime.published(audience).catalogue() == catalogue:
        return False
    runtime.repository.set_catalogue(catalogue, runtime.keys)
    log_info("catalogue_published", version=runtime.registry.policies().version)
    return True
