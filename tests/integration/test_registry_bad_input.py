"""Bad input to the registry, as named cases over real sockets: a typed answer that says what to do,
and nothing half done.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from sqlalchemy import func, select

from tests.support.server import enter, entry, make, name_of, resident_id
from tests.support.server_process import Server, serving
from tipstaff.v1 import (
    dispute_pb2,
    dispute_pb2_grpc,
    distribution_pb2,
    distribution_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
)
from tipstaff_server.audit.log import verify
from tipstaff_server.deployment import Deployment
from tipstaff_server.domain.actors import Actor
from tipstaff_server.storage.models import (
    DisputeRow,
    ExemptionRow,
    IdentifierRow,
    NameRow,
    ReliefRow,
    RestrictionRow,
    SubjectRow,
)
from tipstaff_server.workdir.layout import development_authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

SECONDS = 20
FLOOD = 4
GUESSES = 6
NOW = datetime.now(UTC).replace(microsecond=0)
TABLES = (SubjectRow, IdentifierRow, NameRow, RestrictionRow, DisputeRow, ExemptionRow, ReliefRow)
CODE = grpc.StatusCode


@dataclass
class Desk:
    """A running server, its registry, and a connection for each caller."""

    server: Server
    runtime: Deployment
    restrictions: list[bytes]
    channels: dict[str, grpc.Channel] = field(default_factory=dict)

    def registry(self, who: str) -> registry_pb2_grpc.RegistryServiceStub:
        return registry_pb2_grpc.RegistryServiceStub(self.channels[who])

    def disputes(self, who: str) -> dispute_pb2_grpc.DisputeServiceStub:
        return dispute_pb2_grpc.DisputeServiceStub(self.channels[who])

    def standing(self) -> tuple[Any, ...]:
        """What must not change: how many rows there are, and every restriction's state and version."""
        with self.runtime.registry.store.database.read() as session:
            counts = [session.scalar(select(func.count()).select_from(table)) for table in TABLES]
            rows = session.execute(
                select(RestrictionRow.id, RestrictionRow.state, RestrictionRow.version).order_by(
                    RestrictionRow.id
                )
            )
            return (*counts, *map(tuple, rows))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    config = make(tmp_path_factory.mktemp("bad") / "operator")
    who = {name: f"{folder}/{name}" for folder, names in WHO.items() for name in names} | {
        "operator": "operator"
    }
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("TIPSTAFF_SERVER__REGISTRY__DISPUTES_PER_HOUR", str(FLOOD))
        patch.setenv("TIPSTAFF_SERVER__LIMITS__UNKNOWN_CASE_NUMBERS_PER_HOUR", str(GUESSES))
        runtime = stack.enter_context(Deployment(config))
        restrictions = enter(runtime.registry, [entry(number) for number in range(10)])
        server = stack.enter_context(serving(config, listen="127.0.0.1:0"))
        made = Desk(server, runtime, restrictions)
        for name, folder in who.items():
            made.channels[name] = stack.enter_context(server.channel(folder))
        for name in (
            "authority/nobody",
            "authority/court/officer/clerk-7",
            "authority/court/officer/clerk-8",
        ):
            issued = development_authority(config).issue_client(f"tipstaff://{name}")
            ours = (config.folder / "operator" / "ca.pem").read_bytes()
            credentials = grpc.ssl_channel_credentials(ours, issued.private_key, issued.certificate)
            made.channels[name.rpartition("/")[2]] = stack.enter_context(
                server.channel(credentials)
            )
        yield made


WHO = {"authorities": ("court", "tax", "customs"), "providers": ("skyline-air", "riverside-rail")}


def proto_entry(number: int = 100, **changes: Any) -> registry_pb2.RestrictionEntry:
    """A right entry, changed; None takes a field out."""
    message = registry_pb2.RestrictionEntry(
        list_id="joint-discipline",
        measures=["EXIT"],
        legal_basis="国发〔2016〕33号",
        case_number=f"（2026）虚{number}号",
    )
    message.subject.type = 1
    message.subject.identifiers.add().CopyFrom(resident_id(number).to_proto())
    message.subject.names.append(name_of(number))
    moments = {
        "effective_at": NOW - timedelta(days=1),
        "expires_at": NOW + timedelta(days=100),
    } | changes
    for name, value in moments.items():
        message.ClearField(name)  # type: ignore[arg-type]  # the stub wants a literal
        if isinstance(value, datetime):
            getattr(message, name).FromDatetime(value)
        elif isinstance(value, list):
            getattr(message, name).extend(value)
        elif value is not None:
            setattr(message, name, value)
    return message


def submit(
    desk: Desk, who: str, *entries: registry_pb2.RestrictionEntry
) -> list[registry_pb2.SubmitRestrictionsResponse]:
    requests = [registry_pb2.SubmitRestrictionsRequest(entry=item) for item in entries]
    return list(desk.registry(who).SubmitRestrictions(iter(requests), timeout=SECONDS))


ROWS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an authority that is not entitled": (
        "customs",
        {"measures": ["AIR_TRAVEL"]},
        "customs is not entitled to: AIR_TRAVEL; leave it out",
    ),
    "a measure outside its entitlement among others": (
        "tax",
        {"measures": ["EXIT", "STAR_HOTEL"]},
        "not entitled to: STAR_HOTEL",
    ),
    "an incentive from a court": (
        "court",
        {"measures": ["GREEN_CHANNEL"]},
        "not entitled to: GREEN_CHANNEL",
    ),
    "an unknown measure": (
        "court",
        {"measures": ["TELEPORT"]},
        "no such measure in the catalogue: TELEPORT; give codes",
    ),
    "no measure": ("court", {"measures": []}, "give between 1 and 100 measures"),
    "an unknown list": ("court", {"list_id": "no-list"}, "there is no list 'no-list'; lists: "),
    "no term": ("court", {"expires_at": None}, "no restriction is open-ended, give its end"),
    "no beginning": ("court", {"effective_at": None}, "effective_at is missing; give it"),
    "an inverted term": (
        "court",
        {"expires_at": NOW - timedelta(days=9)},
        "ends before it begins; correct effective_at or expires_at",
    ),
    "an empty term": ("court", {"expires_at": NOW - timedelta(days=1)}, "ends before it begins"),
    "a term of 200 years": (
        "court",
        {"expires_at": NOW + timedelta(days=365 * 200)},
        "between 1949 and 2200; correct them",
    ),
    "a term of 40 years": (
        "court",
        {"expires_at": NOW + timedelta(days=365 * 40)},
        "longer than 10980 days; shorten it",
    ),
    "a term that is over": (
        "court",
        {"effective_at": NOW - timedelta(days=9), "expires_at": NOW - timedelta(days=2)},
        "over already, or would be before the notice period ends; correct expires_at",
    ),
    "no legal basis": ("court", {"legal_basis": " "}, "the legal basis is missing; give it"),
    "no case number": ("court", {"case_number": ""}, "the case number is missing; give it"),
    "a list of two persons, from nobody in particular": (
        "court",
        {"list_id": "exit-ban"},
        "names an officer",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_row_is_refused_by_itself_and_the_others_go_in(desk: Desk, case: str) -> None:
    who, changes, words = ROWS[case]
    number = 1_000 + list(ROWS).index(case)
    before = desk.standing()
    (answer,) = submit(desk, who, proto_entry(number, **changes))
    assert (answer.status, answer.restriction_id) == (registry_pb2.SUBMIT_STATUS_REJECTED, b"")
    assert words in answer.detail
    assert desk.standing() == before
    for secret in (resident_id(number).number, name_of(number)):
        assert secret not in answer.detail
    # The same person goes in with what is right: nothing was left behind by what was wrong.
    answers = (
        submit(desk, "court", proto_entry(number, **changes), proto_entry(number + 5_000))
        if who == "court"
        else []
    )
    assert [item.status for item in answers] in (
        [],
        [registry_pb2.SUBMIT_STATUS_REJECTED, registry_pb2.SUBMIT_STATUS_CREATED],
    )


def test_a_case_number_that_is_taken_is_refused_and_what_stands_under_it_stays(desk: Desk) -> None:
    (first,) = submit(desk, "court", proto_entry(50))
    before = desk.standing()
    same, other = submit(desk, "court", proto_entry(50), proto_entry(50, measures=["AIR_TRAVEL"]))
    assert (same.status, same.restriction_id) == (
        registry_pb2.SUBMIT_STATUS_UNCHANGED,
        first.restriction_id,
    )
    assert other.status == registry_pb2.SUBMIT_STATUS_REJECTED
    assert (
        "this case number is entered for this subject already, with other content; amend that one"
        in other.detail
    )
    assert desk.standing() == before


def refused(call: Callable[[], Message]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code(), error.value.details() or ""


def end(
    desk: Desk,
    who: str,
    restriction: bytes,
    kind: int = registry_pb2.END_KIND_RELEASE,
    **fields: Any,
) -> Message:
    request = registry_pb2.EndRestrictionRequest(
        restriction_id=restriction, kind=kind, **({"reason": "x"} | fields)
    )  # type: ignore[arg-type]  # numbers
    return desk.registry(who).EndRestriction(request, timeout=SECONDS)


def amend(desk: Desk, who: str, restriction: bytes, **fields: Any) -> Message:
    request = registry_pb2.AmendRestrictionRequest(
        restriction_id=restriction, **({"reason": "x"} | fields)
    )
    return desk.registry(who).AmendRestriction(request, timeout=SECONDS)


def dispute(desk: Desk, who: str, restriction: bytes, **fields: Any) -> Message:
    given = {"request_id": secrets.token_bytes(16), "statement": "不是我"} | fields
    return desk.disputes(who).OpenDispute(
        dispute_pb2.OpenDisputeRequest(restriction_id=restriction, **given), timeout=SECONDS
    )


def answer(
    desk: Desk,
    who: str,
    case_number: str,
    outcome: int = dispute_pb2.DISPUTE_OUTCOME_UPHELD,
    **fields: Any,
) -> Message:
    given: Any = {"reason": "x", "outcome": outcome} | fields
    return desk.disputes(who).AnswerDispute(
        dispute_pb2.AnswerDisputeRequest(case_number=case_number, **given), timeout=SECONDS
    )


def approve(desk: Desk, who: str, restriction: bytes, **fields: Any) -> Message:
    request = registry_pb2.ApproveRestrictionRequest(
        restriction_id=restriction, **({"reason": "x"} | fields)
    )
    return desk.registry(who).ApproveRestriction(request, timeout=SECONDS)


def noticed(desk: Desk) -> bytes:
    """A restriction that has never been in force."""
    (entered,) = submit(desk, "court", proto_entry(60, effective_at=NOW + timedelta(days=9)))
    return entered.restriction_id


def rail_only(desk: Desk) -> bytes:
    """A restriction that the airlines' listing does not hold."""
    (entered,) = submit(desk, "court", proto_entry(61, measures=["RAIL_HIGH_CLASS"]))
    return entered.restriction_id


def draft(desk: Desk) -> bytes:
    """A draft that clerk-7 entered."""
    (entered,) = submit(desk, "clerk-7", proto_entry(62, list_id="exit-ban"))
    return entered.restriction_id


def open_case(desk: Desk) -> str:
    """A dispute on the third restriction."""
    return str(
        dispute(desk, "court", desk.restrictions[2], request_id=bytes(16)).dispute.case_number
    )  # type: ignore[attr-defined]


def correction(**fields: Any) -> dict[str, Any]:
    return {
        "outcome": dispute_pb2.DISPUTE_OUTCOME_CORRECTED,
        "correction": dispute_pb2.DisputeCorrection(**fields),
    }


CALLS: dict[str, tuple[Callable[[Desk], Callable[[], Message]], grpc.StatusCode, str]] = {
    "release of what was never active": (
        lambda d: _with(noticed(d), lambda r: end(d, "court", r)),
        CODE.FAILED_PRECONDITION,
        "possible: ",
    ),
    "release of a draft": (
        lambda d: _with(draft(d), lambda r: end(d, "court", r)),
        CODE.FAILED_PRECONDITION,
        "possible: ANNOUNCE",
    ),
    "an end that is none": (
        lambda d: lambda: end(d, "court", d.restrictions[0], 0),
        CODE.INVALID_ARGUMENT,
        "release, repair or revoke",
    ),
    "an end without a reason": (
        lambda d: lambda: end(d, "court", d.restrictions[0], reason=" "),
        CODE.INVALID_ARGUMENT,
        "give a reason",
    ),
    "an end of another authority's": (
        lambda d: lambda: end(d, "tax", d.restrictions[0]),
        CODE.NOT_FOUND,
        "check its id",
    ),
    "an end by a provider": (
        lambda d: lambda: end(d, "skyline-air", d.restrictions[0]),
        CODE.PERMISSION_DENIED,
        "another role",
    ),
    "an end with a stale version": (
        lambda d: lambda: end(d, "court", d.restrictions[0], expected_version=9),
        CODE.ABORTED,
        "look at it again, then decide anew",
    ),
    "amend with a stale version": (
        lambda d: (
            lambda: amend(
                d, "court", d.restrictions[0], measures=["AIR_TRAVEL"], expected_version=7
            )
        ),
        CODE.ABORTED,
        "look at it again, then decide anew",
    ),
    "amend to an inverted term": (
        lambda d: lambda: amend(d, "court", d.restrictions[0], expires_at=NOW - timedelta(days=99)),
        CODE.INVALID_ARGUMENT,
        "correct effective_at or expires_at",
    ),
    "amend beyond the entitlement": (
        lambda d: lambda: amend(d, "court", d.restrictions[0], measures=["GREEN_CHANNEL"]),
        CODE.INVALID_ARGUMENT,
        "not entitled to: GREEN_CHANNEL; leave it out",
    ),
    "an unknown authority": (
        lambda d: lambda: submit(d, "nobody", proto_entry(70))[0],
        CODE.PERMISSION_DENIED,
        "'nobody' is not an authority of this deployment; see `authorities`",
    ),
    "dispute of another audience's restriction": (
        lambda d: _with(rail_only(d), lambda r: dispute(d, "skyline-air", r)),
        CODE.NOT_FOUND,
        "check its id",
    ),
    "dispute of nothing": (
        lambda d: lambda: dispute(d, "skyline-air", bytes(16)),
        CODE.NOT_FOUND,
        "check its id",
    ),
    "dispute of a draft by its authority": (
        lambda d: _with(draft(d), lambda r: dispute(d, "court", r)),
        CODE.FAILED_PRECONDITION,
        "withdraw it",
    ),
    "dispute of a draft by a provider": (
        lambda d: _with(draft(d), lambda r: dispute(d, "skyline-air", r)),
        CODE.NOT_FOUND,
        "check its id",
    ),
    "dispute without a statement": (
        lambda d: lambda: dispute(d, "court", d.restrictions[1], statement=""),
        CODE.INVALID_ARGUMENT,
        "1 to 2000 characters",
    ),
    "dispute on a ground that there is not": (
        lambda d: lambda: dispute(d, "court", d.restrictions[1], ground=99),
        CODE.INVALID_ARGUMENT,
        "leave it out, or give one of the contract's",
    ),
    "an answer to another authority's dispute": (
        lambda d: _with(open_case(d), lambda n: answer(d, "tax", n)),
        CODE.NOT_FOUND,
        "check its id",
    ),
    "an answer by a provider": (
        lambda d: lambda: answer(d, "skyline-air", "YY"),
        CODE.PERMISSION_DENIED,
        "another role",
    ),
    "an answer that is none": (
        lambda d: _with(open_case(d), lambda n: answer(d, "court", n, 0)),
        CODE.INVALID_ARGUMENT,
        "upheld, corrected or revoked",
    ),
    "a correction of nothing": (
        lambda d: _with(open_case(d), lambda n: answer(d, "court", n, **correction())),
        CODE.INVALID_ARGUMENT,
        "say what is corrected",
    ),
    "a correction beyond the entitlement": (
        lambda d: _with(
            open_case(d), lambda n: answer(d, "court", n, **correction(measures=["GREEN_CHANNEL"]))
        ),
        CODE.INVALID_ARGUMENT,
        "not entitled to",
    ),
    "an answer with a stale version": (
        lambda d: _with(open_case(d), lambda n: answer(d, "court", n, expected_version=99)),
        CODE.ABORTED,
        "decide anew",
    ),
    "approval by whoever entered": (
        lambda d: _with(draft(d), lambda r: approve(d, "clerk-7", r)),
        CODE.PERMISSION_DENIED,
        "another person has to",
    ),
    "approval by nobody in particular": (
        lambda d: _with(draft(d), lambda r: approve(d, "court", r)),
        CODE.PERMISSION_DENIED,
        "names an officer",
    ),
    "approval of what is no draft": (
        lambda d: lambda: approve(d, "clerk-8", d.restrictions[0]),
        CODE.FAILED_PRECONDITION,
        "is no draft",
    ),
    "approval with a stale version": (
        lambda d: _with(draft(d), lambda r: approve(d, "clerk-8", r, expected_version=5)),
        CODE.ABORTED,
        "decide anew",
    ),
    "too many approvals": (
        lambda d: (
            lambda: d.registry("clerk-8").ApproveRestrictions(
                registry_pb2.ApproveRestrictionsRequest(
                    approvals=[registry_pb2.ApproveRestrictionRequest()] * 501
                ),
                timeout=SECONDS,
            )
        ),
        CODE.INVALID_ARGUMENT,
        "at most 500 drafts at a time; send the rest in another call",
    ),
    "a draft that is none": (
        lambda d: (
            lambda: d.registry("court").GetDraft(
                registry_pb2.GetDraftRequest(restriction_id=d.restrictions[0]), timeout=SECONDS
            )
        ),
        CODE.FAILED_PRECONDITION,
        "is no draft",
    ),
    "a page of disputes from nowhere": (
        lambda d: (
            lambda: d.disputes("court").ListDisputes(
                dispute_pb2.ListDisputesRequest(page_token=b"x"), timeout=SECONDS
            )
        ),
        CODE.INVALID_ARGUMENT,
        "start again without one",
    ),
    "disputes in no such state": (
        lambda d: (
            lambda: d.disputes("court").ListDisputes(
                dispute_pb2.ListDisputesRequest(state=99), timeout=SECONDS
            )
        ),  # type: ignore[arg-type]  # a number that is none
        CODE.INVALID_ARGUMENT,
        "leave it out",
    ),
}


def _with(value: Any, act: Callable[[Any], Message]) -> Callable[[], Message]:
    """The act, on something that is made before the state is looked at."""
    return lambda: act(value)


@pytest.mark.parametrize("case", CALLS)
def test_a_call_is_refused_in_words_that_say_what_to_do_and_nothing_is_half_done(
    desk: Desk, case: str
) -> None:
    prepare, status, words = CALLS[case]
    call = prepare(desk)
    before = desk.standing()
    got, said = refused(call)
    assert (got, words in said) == (status, True), said
    assert desk.standing() == before
    verify(desk.runtime.registry.store)


def test_a_flood_of_disputes_ends_for_that_provider_and_for_nobody_else(desk: Desk) -> None:
    for index in range(FLOOD):
        dispute(desk, "riverside-rail", desk.restrictions[3 + index])
    before = desk.standing()
    status, said = refused(lambda: dispute(desk, "riverside-rail", desk.restrictions[8]))
    assert status is CODE.RESOURCE_EXHAUSTED
    assert f"at most {FLOOD} disputes of one provider within an hour" in said
    assert "ask again in" in said
    assert desk.standing() == before
    assert dispute(desk, "skyline-air", desk.restrictions[8]).dispute.suspended  # type: ignore[attr-defined]


def test_a_case_number_is_followed_at_any_counter_and_guessing_ends_soon(desk: Desk) -> None:
    number = open_case(desk)

    def follow(who: str, case_number: str) -> dispute_pb2.FollowDisputeResponse:
        return desk.disputes(who).FollowDispute(
            dispute_pb2.FollowDisputeRequest(case_number=case_number), timeout=SECONDS
        )

    for _ in range(2 * GUESSES):
        found = follow("skyline-air", number)
    assert (found.state, found.overdue) == (dispute_pb2.DISPUTE_STATE_OPEN, False)
    guesses = [f"YY-AAAA-AAAA-AAAA-AA{index:02}" for index in range(22, 22 + GUESSES + 2)]
    answers = [refused(lambda guess=guess: follow("skyline-air", guess)) for guess in guesses]
    assert (
        answers[:GUESSES]
        == [(CODE.NOT_FOUND, "there is no such dispute here; check the case number")] * GUESSES
    )
    assert answers[-1][0] is CODE.RESOURCE_EXHAUSTED
    assert "ask again in" in answers[-1][1]
    assert follow("riverside-rail", number).state == dispute_pb2.DISPUTE_STATE_OPEN


def test_two_officers_put_a_draft_in_force_and_the_second_sees_what_the_first_entered(
    desk: Desk,
) -> None:
    item = proto_entry(80, list_id="exit-ban")
    (entered,) = submit(desk, "clerk-7", item)
    held = desk.registry("clerk-8").GetDraft(
        registry_pb2.GetDraftRequest(restriction_id=entered.restriction_id), timeout=SECONDS
    )
    assert (held.entered_by, held.entry) == ("authority:court/clerk-7", item)
    request = registry_pb2.ApproveRestrictionsRequest(
        approvals=[
            registry_pb2.ApproveRestrictionRequest(restriction_id=some, reason="checked")
            for some in (entered.restriction_id, bytes(16))
        ]
    )
    done = desk.registry("clerk-8").ApproveRestrictions(request, timeout=SECONDS).results
    assert [result.status for result in done] == [
        registry_pb2.APPROVE_STATUS_APPROVED,
        registry_pb2.APPROVE_STATUS_REFUSED,
    ]
    assert done[0].restriction.state == registry_pb2.RESTRICTION_STATE_ACTIVE
    history = desk.registry("court").GetHistory(
        registry_pb2.GetHistoryRequest(restriction_id=entered.restriction_id), timeout=SECONDS
    )
    assert [(act.act, act.actor) for act in history.entries] == [
        ("SUBMIT", "authority:court/clerk-7"),
        ("READ_DRAFT", "authority:court/clerk-8"),
        ("ANNOUNCE", "authority:court/clerk-8"),
        ("ENTER_FORCE", "system:clock"),
    ]


def test_a_removed_provider_s_streams_end_and_its_calls_are_refused(desk: Desk) -> None:
    registry = desk.runtime.registry
    stream = distribution_pb2_grpc.DistributionServiceStub(desk.channels["riverside-rail"]).Watch(
        distribution_pb2.WatchRequest(), timeout=60
    )
    next(stream)
    by = Actor.operator("test")
    registry.providers.remove("riverside-rail", "its licence ended", actor=by)
    with pytest.raises(grpc.RpcError) as ended:
        for _ in stream:
            pass
    assert ended.value.code() is CODE.PERMISSION_DENIED
    assert "no longer belongs to the audience" in (ended.value.details() or "")
    status, said = refused(lambda: dispute(desk, "riverside-rail", desk.restrictions[1]))
    assert status is CODE.PERMISSION_DENIED
    assert "does not know provider" in said
    registry.providers.restore("riverside-rail", "renewed", actor=by)
