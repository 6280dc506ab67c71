"""What becomes of subjects in a listing, some at a time: rows and sealed records, which travel from
the process that made them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from tipstaff.v1 import identity_pb2, listing_pb2
from tipstaff_sdk.listing.sealing import seal
from tipstaff_server.listing.reader import ListingReader
from tipstaff_server.listing.rows import no_rows, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from datetime import datetime

    from tipstaff_sdk.identity.identifier import Identifier
    from tipstaff_sdk.listing.sealing import EpochKey
    from tipstaff_sdk.listing.tokens import Tokeniser
    from tipstaff_sdk.packs.builder import PackBuilder
    from tipstaff_server.deployment import Deployment
    from tipstaff_server.domain.spans import Span
    from tipstaff_server.listing.reader import ListingSubject
    from tipstaff_server.listing.rows import Rows, RowWriter

__all__ = ["SealedPart", "seal_subjects", "sealing"]

AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class SealedPart:
    """Some subjects as they will stand in a listing: a row for each identifier, and sealed records:
    locator, commitment, bytes.
    """

    subjects: int
    rows: Rows = field(repr=False)
    records: list[tuple[bytes, bytes, bytes]] = field(repr=False)

    def put(self, pack: PackBuilder, rows: RowWriter) -> None:
        """Into a listing; parts come in the order of their subjects' ids."""
        rows.write(self.rows)
        for locator, commitment, sealed in self.records:
            pack.add(locator, commitment, sealed)


def seal_subjects(subjects: Iterable[ListingSubject], key: EpochKey) -> Iterator[SealedPart]:
    """A record for every name of every identifier, sealed, and a row with its token for the
    identifier; a thousand subjects at a time.
    """
    waiting = iter(subjects)
    while some := list(islice(waiting, AT_ONCE)):
        yield _sealed(some, key)


@contextmanager
def sealing(
    runtime: Deployment, audience: str, number: int, now: datetime
) -> Generator[Callable[[Span], Iterator[SealedPart]]]:
    """What a process that shares a build does with a span.

    Raises PublicationError: the epoch is gone.
    """
    epoch = runtime.epochs.needed(audience, number)
    key = epoch.master
    reader = ListingReader(runtime.store)
    yield lambda span: seal_subjects(reader.subjects(audience, now, epoch.stretch, span), key)


def _sealed(subjects: Sequence[ListingSubject], key: EpochKey) -> SealedPart:
    listed: list[tuple[bytes, Identifier, bytes, int]] = []
    records: list[tuple[bytes, bytes, bytes]] = []
    for subject in subjects:
        record = listing_pb2.Record(
            # What reaches through posts asks for software that knows how posts end.
            version=2 if any(restriction.post_ids for restriction in subject.restrictions) else 1,
            subject_type=identity_pb2.SubjectType.ValueType(subject.subject_type),
            restrictions=subject.restrictions,
        )
        for item in subject.identifiers:
            keys = key.derive(item.stretched)
            for name in subject.names:
                name_keys = keys.name_keys(name)
                records.append((keys.locator, name_keys.commitment, seal(name_keys, record)))
            listed.append((subject.id, item.identifier, keys.locator, len(subject.names)))
    return SealedPart(len(subjects), _rows(listed, key.tokeniser), records)


def _rows(listed: Sequence[tuple[bytes, Identifier, bytes, int]], tokeniser: Tokeniser) -> Rows:
    if not listed:
        return no_rows()
    subjects, identifiers, places, copies = zip(*listed, strict=True)
    return rows_of(subjects, tokeniser.tokens(identifiers), places, copies)
