"""Opened records: complete, or refused."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from tests.support.sealed_world import AIR, DAY, LOAN, NOW, exemption, record, restriction
from tipstaff.v1 import listing_pb2
from tipstaff_sdk.errors import RecordFormatError
from tipstaff_sdk.listing.records import Capacity, restrictions_of


def test_everything_in_a_record_is_read() -> None:
    (read,) = restrictions_of(
        record(
            restriction(1, [LOAN, AIR], exemptions=[exemption(measures=[AIR])], floor=9, capacity=2)
        )
    )
    assert read.measures == {AIR, LOAN}
    assert read.restriction_id == b"\1" * 16
    assert (read.authority_id, read.authority_name.zh, read.case_number) == (
        "court",
        "示例法院",
        "（2026）示执1号",
    )
    assert (read.effective_at, read.expires_at) == (NOW - 100 * DAY, NOW + 100 * DAY)
    assert read.effective_at.tzinfo is UTC
    assert (read.capacity, read.organisation_name, read.relief_floor) == (
        Capacity.PRINCIPAL,
        "示例有限公司",
        9,
    )
    assert (read.dispute.en, read.dispute_suspends) == ("Ask the court", True)
    (exempt,) = read.exemptions
    assert (exempt.measures, exempt.valid_from, exempt.valid_until) == ({AIR}, NOW - DAY, NOW + DAY)
    assert restrictions_of(record(restriction()))[0].capacity is None
    assert restrictions_of(record()) == ()


def test_unknown_fields_are_left_alone() -> None:
    data = record(restriction()).SerializeToString() + b"\xf2\x7f\x03new"
    assert len(restrictions_of(listing_pb2.Record.FromString(data))) == 1


def _set(message: Any, name: str, value: Any) -> None:
    message.ClearField(name)
    if isinstance(value, list):
        getattr(message, name).extend(value)
    elif value is not None:
        setattr(message, name, value)


def broken(**changes: Any) -> listing_pb2.Record:
    made = restriction(1, exemptions=[exemption()])
    for path, value in changes.items():
        *parents, name = path.split("__")
        message: Any = made
        for parent in parents:
            message = message.exemptions[0] if parent == "exemption" else getattr(message, parent)
        _set(message, name, value)
    return record(made)


BAD: dict[str, tuple[Any, str]] = {
    "a post and no capacity": (broken(post_ids=[bytes(16)]), "no capacity"),
    "a post's id of 15": (broken(capacity=1, post_ids=[bytes(15)]), "not 15"),
    "no id": (broken(restriction_id=None), "not 0"),
    "id of 15": (broken(restriction_id=bytes(15)), "not 15"),
    "no measures": (broken(measures=None), "lacks measures"),
    "no authority": (broken(authority_id=None), "lacks measures, authority"),
    "no name of the authority": (broken(authority_name=None), "authority lacks"),
    "authority in one language": (broken(authority_name__en=None), "authority lacks"),
    "no legal basis": (broken(legal_basis=None), "legal basis"),
    "no case number": (broken(case_number=None), "case number"),
    "no beginning": (broken(effective_at=None), "no term"),
    "no end": (broken(expires_at=None), "no term"),
    "ends before it begins": (broken(expires_at__seconds=1), "before it begins"),
    "an end beyond the calendar": (broken(expires_at__seconds=1 << 60), "beyond the calendar"),
    "nanoseconds out of range": (broken(expires_at__nanos=-5), "beyond the calendar"),
    "no way to dispute": (broken(dispute=None), "dispute"),
    "capacity unknown": (broken(capacity=9), "capacity"),
    "exemption without id": (broken(exemption__exemption_id=None), "not 0"),
    "exemption without end": (broken(exemption__valid_until=None), "no term"),
    "exemption without reason": (broken(exemption__reason=None), "reason lacks"),
    "no subject type": (listing_pb2.Record(version=1), "person's or an organisation's"),
    "unknown subject type": (
        listing_pb2.Record(version=1, subject_type=3),
        "person's or an organisation's",
    ),  # type: ignore[arg-type]
    "a restriction twice": (
        listing_pb2.Record(
            version=1, subject_type=1, restrictions=[restriction(1), restriction(1)]
        ),
        "there twice",
    ),
    "out of order": (
        listing_pb2.Record(
            version=1, subject_type=1, restrictions=[restriction(2), restriction(1)]
        ),
        "not in order",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_record_that_lacks_something_is_refused_whole(case: str) -> None:
    message, expected = BAD[case]
    with pytest.raises(RecordFormatError, match=expected):
        restrictions_of(message)


def test_a_term_of_one_moment_is_none() -> None:
    with pytest.raises(RecordFormatError):
        restrictions_of(record(restriction(first=NOW, end=NOW)))
