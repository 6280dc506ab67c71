"""What holds for every input: canonical forms are stable, packing loses nothing, what is sealed
opens, decisions are a plain model's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support import identities
from tests.support.sealed_world import (
    AIR,
    DAY,
    EPOCH,
    HOUR,
    LOAN,
    MASTER,
    NOW,
    RAIL,
    SealedWorld,
    exemption,
    record,
    restriction,
)
from tipstaff_sdk.columns.resident_kernel import ResidentKernel
from tipstaff_sdk.decision.decide import Reason, Verdict, decide
from tipstaff_sdk.errors import (
    InvalidIdentifierError,
    InvalidNameError,
    ReliefFormatError,
    TipstaffError,
)
from tipstaff_sdk.identity.block import pack_number, pack_resident_id, resident_block
from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_sdk.identity.names import canonical_name
from tipstaff_sdk.identity.numbers import canonical_number, is_canonical_resident_id
from tipstaff_sdk.listing.relief import Relief, Segment, encode_segment, parse_segment
from tipstaff_sdk.listing.sealing import EpochKey, Stretch, open_sealed, seal
from tipstaff_sdk.listing.tokens import Tokeniser
from tipstaff_sdk.packs.builder import PackBuilder
from tipstaff_sdk.packs.pack import Pack, SealedCopy

if TYPE_CHECKING:
    from tipstaff.v1 import listing_pb2

KIND = IdentifierKind
OF_KIND = {
    KIND.RESIDENT_ID: identities.resident_ids,
    KIND.ORGANISATION_CODE: identities.organisation_codes,
    KIND.PASSPORT: identities.passports,
    KIND.HK_MACAO_PERMIT: identities.hk_macao_permits,
    KIND.TAIWAN_PERMIT: identities.taiwan_permits,
    KIND.FOREIGN_PERMANENT_RESIDENT: identities.foreign_ids | identities.old_foreign_ids,
}
identifiers = st.one_of(
    [numbers.map(lambda number, kind=kind: (kind, number)) for kind, numbers in OF_KIND.items()]
)

# Texts near a resident ID: right ones, and right ones with something changed.
edits = st.tuples(st.integers(0, 17), st.sampled_from("0123456789Xx:/\n Aé１\0"))
nearly = st.builds(
    lambda number, changes: "".join(dict(changes).get(i, c) for i, c in enumerate(number)),
    identities.resident_ids,
    st.lists(edits, max_size=2),
)
names = st.text(min_size=1, max_size=60) | st.text("张三 ·.・　aB-'’́﷽ﾀﾞ", min_size=1, max_size=20)


@given(identifiers)
def test_valid_numbers_of_every_kind_are_accepted_as_they_are(
    case: tuple[IdentifierKind, str],
) -> None:
    kind, number = case
    assert Identifier(kind, number).number == number


@given(identifiers, st.data())
def test_decoration_changes_nothing(case: tuple[IdentifierKind, str], data: st.DataObject) -> None:
    kind, number = case
    wide = data.draw(st.booleans())
    parts = [
        data.draw(st.sampled_from(["", "", "", " ", "-", "\u3000", "\u2013", "\u200b", "\t"]))
        for _ in number
    ]
    written = "".join(
        part + (chr(ord(c) + 0xFEE0) if wide else c.lower())
        for part, c in zip(parts, number, strict=True)
    )
    assert canonical_number(kind, written) == number


@given(st.sampled_from(list(KIND)), st.text(max_size=24) | nearly)
def test_whatever_is_accepted_is_stable_and_ascii(kind: IdentifierKind, text: str) -> None:
    try:
        canonical = canonical_number(kind, text)
    except InvalidIdentifierError:
        return
    assert canonical_number(kind, canonical) == canonical
    assert canonical.isascii()
    assert canonical.isalnum()
    assert canonical == canonical.upper()


@given(nearly | st.text("0123456789X", min_size=18, max_size=18))
def test_quick_careful_and_vectorised_checks_of_resident_ids_agree_with_the_plain_rules(
    text: str,
) -> None:
    plain = identities.is_resident_id(text)
    assert is_canonical_resident_id(text) == plain
    assert resident_block(text) == (pack_resident_id(text) if plain else None)
    try:
        careful = (
            canonical_number(KIND.RESIDENT_ID, text + " ") == text
        )  # the space keeps it off the quick path
    except InvalidIdentifierError:
        careful = False
    assert careful == plain
    if len(text) == 18 and text.isascii():
        blocks, taken = ResidentKernel().pack(np.frombuffer(text.encode(), np.uint8).reshape(1, 18))
        assert taken[0] == plain
        assert not plain or blocks[0].tobytes() == Identifier.resident_id(text).block


@given(st.lists(nearly | st.text(max_size=20), max_size=40))
def test_a_column_is_its_rows(texts: list[str]) -> None:
    tokeniser = Tokeniser(bytes(range(16)))
    batch = tokeniser.resident_column(texts)
    for row, text in enumerate(texts):
        try:
            assert batch.tokens[row].tobytes() == tokeniser.token(Identifier.resident_id(text))
            assert row not in batch.bad_rows
        except InvalidIdentifierError:
            assert row in batch.bad_rows


@given(st.lists(identifiers, min_size=2, max_size=30, unique=True))
def test_no_two_identifiers_share_a_block_or_a_token(
    cases: list[tuple[IdentifierKind, str]],
) -> None:
    made = [Identifier(kind, number) for kind, number in cases]
    tokens = Tokeniser(bytes(16)).tokens(made)
    assert (
        len({identifier.block for identifier in made})
        == len(made)
        == len(np.unique(tokens, axis=0))
    )


@given(st.integers(2, 6), st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=18))
def test_a_number_can_be_read_back_from_its_block(kind: int, number: str) -> None:
    block = pack_number(kind, number)
    value, digits = int.from_bytes(block[2:], "big"), ""
    for _ in range(block[1]):
        value, digit = divmod(value, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    assert (block[0], digits, value) == (kind, number, 0)


@given(names)
@example("ﷺ" * 11)
@example("ͅ" * 5 + "a")
@example("a\u0345\u0301ß")
@example("İİ")
def test_canonical_names_are_stable(name: str) -> None:
    try:
        canonical = canonical_name(name)
    except InvalidNameError:
        return
    assert canonical_name(canonical) == canonical
    assert 1 <= len(canonical) <= 200
    assert canonical == canonical.strip()
    assert "  " not in canonical


@given(names)
def test_case_and_width_of_a_name_do_not_matter(name: str) -> None:
    try:
        canonical = canonical_name(name)
    except InvalidNameError:
        return
    assert canonical_name(f"  {name}\u3000") == canonical
    assert canonical_name(name.casefold()) == canonical


def _record(numbers: list[int], text: str) -> listing_pb2.Record:
    made = record(*(restriction(number) for number in numbers))
    for one in made.restrictions:
        one.legal_basis += text
    return made


records = st.builds(
    _record, st.lists(st.integers(0, 255), unique=True, max_size=8), st.text(max_size=600)
)


@given(records, names, names)
def test_what_is_sealed_opens_under_its_name_alone(content: Any, name: str, other: str) -> None:
    keys = EpochKey("aviation", EPOCH, MASTER).derive(bytes(32))
    try:
        right, wrong = keys.name_keys(canonical_name(name)), keys.name_keys(canonical_name(other))
    except InvalidNameError:
        return
    sealed = seal(right, content)
    assert open_sealed(right, sealed) == content
    assert sealed == seal(right, content)
    if right.commitment != wrong.commitment:
        with pytest.raises(TipstaffError):
            open_sealed(wrong, sealed)
    else:
        assert canonical_name(name) == canonical_name(other)


locators, ids = st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16)
entries = st.tuples(locators, ids, st.sampled_from([bytes(272), b"x" * 528]))


@given(
    st.lists(entries, max_size=60, unique_by=lambda entry: entry[:2]),
    st.sampled_from([None, 0, 1, 5]),
    locators,
)
def test_a_pack_is_a_dictionary(
    put: list[tuple[bytes, bytes, bytes]], bits: int | None, other: bytes
) -> None:
    with PackBuilder(1, bucket_bits=bits) as builder:
        for entry in put:
            builder.add(*entry)
        pack = Pack.from_buffer(builder.to_bytes())
    pack.verify()
    for locator in {entry[0] for entry in put} | {other}:
        assert pack.find(locator) == sorted(
            SealedCopy(*entry[1:]) for entry in put if entry[0] == locator
        )


@given(
    st.integers(1, 1000),
    st.integers(0, 1000),
    st.sets(st.tuples(st.integers(0, 1000), ids), max_size=20),
)
def test_a_segment_comes_back(first: int, more: int, offsets: set[tuple[int, bytes]]) -> None:
    lifts = sorted(
        {(first + offset % (more + 1), restriction_id) for offset, restriction_id in offsets}
    )
    assert parse_segment(encode_segment(first, first + more, lifts)) == Segment(
        first, first + more, tuple(lifts)
    )


@given(st.binary(max_size=200))
def test_any_bytes_are_a_segment_or_an_error(data: bytes) -> None:
    try:
        parsed = parse_segment(data)
    except ReliefFormatError:
        return
    assert encode_segment(parsed.first, parsed.last, parsed.entries) == data


# ---- The decision against a model that anybody can check
# ------------------------------------------------------------------------------

PERSON, OTHER = (Identifier.resident_id(identities.resident_id(n)) for n in (1, 2))
SERVICES = [{"train_class": t, "seat": s} for t in ("G", "D", "OTHER") for s in ("FIRST", "SECOND")]
days = st.integers(-3, 3).map(lambda n: NOW + n * DAY)


@st.composite
def restrictions(draw: st.DrawFn, number: int) -> Any:
    first = draw(days)
    permits = [
        exemption(
            begin,
            begin + draw(st.integers(1, 3)) * DAY,
            draw(st.sampled_from([(), (AIR,), (LOAN,)])),
        )
        for begin in draw(st.lists(days, max_size=1))
    ]
    measures = draw(st.sets(st.sampled_from([AIR, RAIL, LOAN]), min_size=1))
    end = first + draw(st.integers(1, 4)) * DAY
    return restriction(
        number,
        measures,
        first=first,
        end=end,
        exemptions=permits,
        floor=draw(st.sampled_from([0, 12])),
    )


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    listed = [draw(restrictions(number)) for number in range(1, draw(st.integers(0, 3)) + 1)]
    measure = draw(st.sampled_from([AIR, RAIL, LOAN]))
    return {
        "listed": listed,
        "lifted": draw(st.sets(st.integers(1, 3))),
        "lift_sequence": draw(st.sampled_from([11, 13])),
        "gap": draw(st.booleans()),
        "age": timedelta(minutes=draw(st.sampled_from([0, 29, 31, -31]))),
        "person": draw(st.sampled_from([PERSON, PERSON, PERSON, OTHER])),
        "name": draw(st.sampled_from(["张三", "张 三", "李四"])),
        "measure": measure,
        "service": draw(st.sampled_from(SERVICES)) if measure == RAIL else None,
        "now": draw(days),
        "key": draw(st.sampled_from([True] * 9 + [False])),
        "expires_at": draw(st.sampled_from([NOW + 5 * DAY] * 5 + [NOW])),
    }


def model(case: dict[str, Any]) -> tuple[Verdict, Reason, set[bytes]]:
    """Verdict, reason, and the restrictions that stand."""
    case = {
        **case,
        "now": max(case["now"], case["now"] - case["age"], NOW - 6 * HOUR),
    }  # not before what was signed last
    if not case["key"]:
        return Verdict.UNKNOWN, Reason.NO_DATA, set()
    if case["now"] >= case["expires_at"]:
        return Verdict.UNKNOWN, Reason.EXPIRED, set()
    if case["person"] == OTHER:
        return Verdict.CLEAR, Reason.NOT_LISTED, set()
    if case["name"] == "李四":
        return Verdict.REVIEW, Reason.NAME_MISMATCH, set()
    reasons = {one.restriction_id: why_not(one, case) for one in case["listed"]}
    standing = {restriction_id for restriction_id, reason in reasons.items() if reason is None}
    if not standing:
        order = [Reason.EXEMPT, Reason.LIFTED, Reason.NOT_YET_EFFECTIVE, Reason.LAPSED]
        return (
            Verdict.CLEAR,
            next((reason for reason in order if reason in reasons.values()), Reason.NOT_COVERED),
            set(),
        )
    if case["gap"] or abs(case["age"]) > timedelta(minutes=30):
        return Verdict.REVIEW, Reason.STALE_RELIEF, standing
    return Verdict.RESTRICTED, Reason.IN_FORCE, standing


def why_not(one: Any, case: dict[str, Any]) -> Reason | None:
    """Why a restriction does not stand against this use, if it does not."""
    now, code, service = case["now"], case["measure"], case["service"] or {}
    covered = (
        code != RAIL
        or service["train_class"] == "G"
        or (service["train_class"], service["seat"]) == ("D", "FIRST")
    )
    if code not in one.measures or not covered:
        return Reason.NOT_COVERED
    if now < _when(one.effective_at):
        return Reason.NOT_YET_EFFECTIVE
    if now >= _when(one.expires_at):
        return Reason.LAPSED
    if any(
        _when(e.valid_from) <= now < _when(e.valid_until) and (code in e.measures or not e.measures)
        for e in one.exemptions
    ):
        return Reason.EXEMPT
    lifted = one.restriction_id[0] in case["lifted"] and case["lift_sequence"] > one.relief_floor
    return Reason.LIFTED if lifted else None


def _when(timestamp: Any) -> Any:
    return timestamp.ToDatetime(NOW.tzinfo)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_the_decision_is_the_plain_models(case: dict[str, Any]) -> None:
    world = SealedWorld()
    world.list(PERSON, "张三", *case["listed"])
    lifts = tuple(
        sorted((case["lift_sequence"], bytes([number]) * 16) for number in case["lifted"])
    )
    at = case["lift_sequence"]
    segments = [
        Segment(at, at, lifts),
        *([Segment(15, 20, ())] if case["gap"] else [Segment(11, 14, ())]),
    ]
    state = world.state(
        relief=Relief.from_segments(segments, 10, case["now"] - case["age"]),
        parameters=world.parameters(expires_at=case["expires_at"]),
        epoch_keys={EPOCH: world.key} if case["key"] else {},
    )
    assert state.relief is not None
    assert state.relief.complete != case["gap"]
    decision = decide(
        state, case["now"], case["person"], case["name"], case["measure"], case["service"]
    )
    restriction_ids = {r.restriction_id for r in decision.restrictions}
    assert (decision.verdict, decision.reason, restriction_ids) == model(case)
    assert bool(decision.exemptions) == (decision.reason is Reason.EXEMPT)


@given(st.binary(min_size=16, max_size=16), identifiers, identifiers)
@settings(max_examples=30)
def test_stretching_tells_identifiers_apart(
    salt: bytes, one: tuple[IdentifierKind, str], two: tuple[IdentifierKind, str]
) -> None:
    stretch = Stretch(salt, 2, 1, 1)
    assert (stretch.stretch(Identifier(*one)) == stretch.stretch(Identifier(*two))) == (one == two)
