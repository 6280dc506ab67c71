"""Revoked as wrong: the provider that reported a denial has the remedy in hand, over real sockets,
and its answer reaches the operator.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.server import name_of, resident_id
from tests.support.server_process import command
from tipstaff.v1 import distribution_pb2, distribution_pb2_grpc, registry_pb2, registry_pb2_grpc
from tipstaff_sdk import Outcome, RemedyOutcome, Screener, TransportError, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.server_process import Server

SECONDS = 20
PERSON = 31


def test_a_denial_that_was_wrong_comes_back_as_a_remedy_and_is_answered(
    server: Server, tmp_path: Path
) -> None:
    kit = server.kit("skyline-air") / "tipstaff.toml"
    with Screener.open(kit, state_dir=tmp_path / "state", background=False) as screener:
        screener.sync()
        decision = screener.check(resident_id(PERSON), name=name_of(PERSON), measure="AIR_TRAVEL")
        assert decision.verdict is Verdict.RESTRICTED
        report_id = screener.report(decision, Outcome.DENIED)
        screener.sync()
        assert [
            remedy
            for remedy in screener.remedies()
            if remedy.restriction_id == server.restrictions[PERSON]
        ] == []
        with server.channel("authorities/court") as channel:
            registry_pb2_grpc.RegistryServiceStub(channel).EndRestriction(
                registry_pb2.EndRestrictionRequest(
                    restriction_id=server.restrictions[PERSON],
                    kind=registry_pb2.END_KIND_REVOKE,
                    reason="mistaken identity",
                ),
                timeout=SECONDS,
            )
        (remedy,) = [
            remedy
            for remedy in screener.remedies()
            if remedy.restriction_id == server.restrictions[PERSON]
        ]
        assert [(item.report_id, item.outcome) for item in remedy.affected] == [
            (report_id, Outcome.DENIED)
        ]
        assert remedy.affected[0].decision_id == decision.decision_id
        answered = screener.answer_remedy(
            remedy, RemedyOutcome.RESTORED, "rebooked, difference paid back"
        )
        assert screener.answer_remedy(remedy.remedy_id, RemedyOutcome.RESTORED) == answered
        with pytest.raises(TransportError, match="answered already"):
            screener.answer_remedy(remedy, RemedyOutcome.DECLINED)
        assert remedy.remedy_id not in {left.remedy_id for left in screener.remedies()}
    shown = command("remedies", "--json", "--config", server.config.folder)
    assert shown.returncode == 0, shown.stderr
    (row,) = [row for row in json.loads(shown.stdout) if row["remedy_id"] == remedy.remedy_id.hex()]
    assert (row["provider_id"], row["outcome"], row["note"]) == (
        "skyline-air",
        "RESTORED",
        "rebooked, difference paid back",
    )
    assert "skyline-air" in command("remedies", "--config", server.config.folder).stdout


def test_another_provider_has_no_such_remedy_and_a_wrong_answer_is_refused(server: Server) -> None:
    with server.channel("providers/riverside-rail") as channel:
        stub = distribution_pb2_grpc.DistributionServiceStub(channel)
        for outcome, code in (
            (1, grpc.StatusCode.NOT_FOUND),
            (0, grpc.StatusCode.INVALID_ARGUMENT),
        ):
            request = distribution_pb2.AnswerRemedyRequest(
                remedy_id=bytes(16), outcome=distribution_pb2.RemedyOutcome.ValueType(outcome)
            )
            with pytest.raises(grpc.RpcError) as refused:
                stub.AnswerRemedy(request, timeout=SECONDS)
            assert refused.value.code() is code
