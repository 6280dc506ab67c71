"""A running server signs its audit log by itself, and takes up a new key that another process
began.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.server_process import command
from tipstaff.v1 import dispute_pb2, dispute_pb2_grpc
from tipstaff_server.deployment import Deployment
from tipstaff_server.registry.keys import reencryption as sealed

if TYPE_CHECKING:
    from tests.support.server_process import Server

SECONDS = 60


@pytest.mark.timeout(600)
def test_a_running_server_signs_its_log_and_follows_a_change_of_keys(server: Server) -> None:
    folder = server.config.path(server.config.audit.checkpoint_folder)
    deadline = time.monotonic() + SECONDS
    while not list(folder.glob("*.note")):
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)
    # One act before, so that the server has its keys at hand already.
    first = dispute(server, 36)
    assert "column key 2" in succeed("vault", "rotate", "--config", server.config.folder)
    second = dispute(server, 37)
    with Deployment(server.config) as runtime, runtime.registry.store.database.read() as session:
        assert sealed.counts(session)[2] >= 1
    assert "column key 1 destroyed" in succeed(
        "vault", "re-encrypt", "--config", server.config.folder
    )
    third = dispute(server, 38)
    assert len({first, second, third}) == 3
    assert "all in place" in succeed(
        "audit", "verify", "--config", server.config.folder, "--checkpoints", folder
    )


def dispute(server: Server, index: int) -> str:
    """A dispute at a counter: the server encrypts what the person says. Its case number."""
    request = dispute_pb2.OpenDisputeRequest(
        request_id=secrets.token_bytes(16),
        restriction_id=server.restrictions[index],
        statement="I paid this in March.",
    )
    with server.channel("providers/skyline-air") as channel:
        return str(
            dispute_pb2_grpc.DisputeServiceStub(channel)
            .OpenDispute(request, timeout=SECONDS)
            .dispute.case_number
        )


def succeed(*arguments: str) -> str:
    """What a command printed."""
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
