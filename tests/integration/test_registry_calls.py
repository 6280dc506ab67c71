"""What an authority may do with its restrictions, over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support.server import resident_id
from tipstaff.v1 import registry_pb2, registry_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server_process import Server

SECONDS = 20
PERSON = 33
COURT, OPERATOR = "authorities/court", "operator"


def code(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code()


def test_amend_exempt_search_history_and_end(server: Server) -> None:
    restriction = server.restrictions[PERSON]
    with server.channel(COURT) as channel:
        stub = registry_pb2_grpc.RegistryServiceStub(channel)
        before = stub.GetRestriction(
            registry_pb2.GetRestrictionRequest(restriction_id=restriction), timeout=SECONDS
        ).restriction
        amend = registry_pb2.AmendRestrictionRequest(
            restriction_id=restriction,
            measures=["AIR_TRAVEL", "STAR_HOTEL"],
            reason="rail was a mistake",
            expected_version=before.version,
            idempotency_key="amend-1",
        )
        done = stub.AmendRestriction(amend, timeout=SECONDS)
        assert list(done.restriction.measures) == ["AIR_TRAVEL", "STAR_HOTEL"]
        assert done.relief_sequence > 0
        assert stub.AmendRestriction(amend, timeout=SECONDS) == done
        amend.idempotency_key = ""
        assert (
            code(lambda: stub.AmendRestriction(amend, timeout=SECONDS)) is grpc.StatusCode.ABORTED
        )
        exempt = registry_pb2.ExemptRestrictionRequest(
            restriction_id=restriction, measures=["AIR_TRAVEL"]
        )
        exempt.reason.zh, exempt.reason.en = "赴诊", "to the doctor"
        assert (
            code(lambda: stub.ExemptRestriction(exempt, timeout=SECONDS))
            is grpc.StatusCode.INVALID_ARGUMENT
        )
        exempt.valid_from.GetCurrentTime()
        exempt.valid_until.FromSeconds(exempt.valid_from.seconds + 86_400)
        assert len(stub.ExemptRestriction(exempt, timeout=SECONDS).exemption_id) == 16
        search = registry_pb2.SearchRestrictionsRequest(identifier=resident_id(PERSON).to_proto())
        (found,) = stub.SearchRestrictions(search, timeout=SECONDS).restrictions
        assert (found.restriction_id, found.version) == (restriction, before.version + 2)
        end = registry_pb2.EndRestrictionRequest(
            restriction_id=restriction,
            kind=registry_pb2.END_KIND_RELEASE,
            reason="paid",
            expected_version=found.version,
            idempotency_key="e",
        )
        assert stub.EndRestriction(end, timeout=SECONDS) == stub.EndRestriction(
            end, timeout=SECONDS
        )
        history = stub.GetHistory(
            registry_pb2.GetHistoryRequest(restriction_id=restriction), timeout=SECONDS
        ).entries
    assert [(item.act, item.reason) for item in history] == [
        ("SUBMIT", ""),
        ("AMEND", "rail was a mistake"),
        ("EXEMPT", "赴诊"),
        ("RELEASE", "paid"),
    ]


def test_pages_of_a_search_cover_everything_once(server: Server) -> None:
    with server.channel(OPERATOR) as channel:
        stub = registry_pb2_grpc.RegistryServiceStub(channel)
        found: list[bytes] = []
        request = registry_pb2.SearchRestrictionsRequest(page_size=15)
        while True:
            page = stub.SearchRestrictions(request, timeout=SECONDS)
            found += [item.restriction_id for item in page.restrictions]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    assert len(found) == len(set(found))
    assert set(server.restrictions) <= set(found)


def test_bad_requests_are_told_what_is_wrong(server: Server) -> None:
    with server.channel(COURT) as channel:
        stub = registry_pb2_grpc.RegistryServiceStub(channel)
        wrong = registry_pb2.SearchRestrictionsRequest()
        wrong.identifier.kind, wrong.identifier.number = 1, "110105199001011234"
        bad_page = registry_pb2.SearchRestrictionsRequest(page_token=b"x")
        bad_state = registry_pb2.SearchRestrictionsRequest(
            state=registry_pb2.RestrictionState.ValueType(99)
        )
        for request in (wrong, bad_page, bad_state):
            assert (
                code(lambda request=request: stub.SearchRestrictions(request, timeout=SECONDS))
                is grpc.StatusCode.INVALID_ARGUMENT
            )
        nobody = registry_pb2.AmendRestrictionRequest(restriction_id=bytes(16), reason="x")
        assert (
            code(lambda: stub.AmendRestriction(nobody, timeout=SECONDS))
            is grpc.StatusCode.NOT_FOUND
        )
        unentitled = registry_pb2.AmendRestrictionRequest(
            restriction_id=server.restrictions[34], reason="x", measures=["NO_SUCH"]
        )
        assert (
            code(lambda: stub.AmendRestriction(unentitled, timeout=SECONDS))
            is grpc.StatusCode.INVALID_ARGUMENT
        )
        assert (
            code(
                lambda: stub.GetHistory(
                    registry_pb2.GetHistoryRequest(restriction_id=bytes(16)), timeout=SECONDS
                )
            )
            is grpc.StatusCode.NOT_FOUND
        )
