"""What a thief of the relief key, or a hostile mirror, can try on a whole SDK.

Each row is an attack and its outcome.

The relief key is online, so it is the one that gets stolen. Its format can only lift; whatever else
it signs is refused, and neither the state in use nor the one on disk is the worse for it.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.provider_world import AUDIENCE, MEASURE, Listed, Operator, resident_id
from tipstaff_sdk import Reason, Screener, Verdict
from tipstaff_sdk.errors import ReliefFormatError
from tipstaff_sdk.keys.store import MemoryKeyStore
from tipstaff_sdk.listing.relief import encode_segment
from tipstaff_sdk.settings import Settings
from tipstaff_sdk.sync.mirror import MirrorFetcher
from tipstaff_signing import FetchError, TooLargeError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LISTED = Listed(resident_id(1), "张三")
FREE = (resident_id(2), "李四")
HONEST = encode_segment(1, 2, [(1, bytes(16)), (2, bytes(range(16)))])


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    made = Operator(tmp_path_factory.mktemp("operator"))
    made.publish([LISTED])
    return made


class Signed(NamedTuple):
    """What the thief signs as relief."""

    name: str
    content: Callable[[Operator], bytes]


def listing_file(name: str) -> Callable[[Operator], bytes]:
    return lambda operator: (operator.folder / "build-1" / name).read_bytes()


SIGNED = [
    *(
        Signed(f"a listing's {name}", listing_file(name))
        for name in ("filter", "pack", "parameters")
    ),
    Signed("nothing", lambda _: b""),
    Signed("relief of another version of the format", lambda _: HONEST[:8] + b"\0\2" + HONEST[10:]),
    Signed("relief with something after it", lambda _: HONEST + bytes(24)),
    Signed("relief with reserved bits set", lambda _: HONEST[:10] + b"\0\1" + HONEST[12:]),
    Signed(
        "a lift outside its range", lambda _: HONEST[:16] + struct.pack(">QQ", 1, 1) + HONEST[32:]
    ),
    Signed("lifts out of order", lambda _: HONEST[:32] + HONEST[56:] + HONEST[32:56]),
]


@pytest.mark.parametrize("signed", SIGNED, ids=lambda signed: signed.name)
def test_relief_key_that_signs_anything_else_changes_nothing(
    operator: Operator, tmp_path: Path, signed: Signed
) -> None:
    kit = operator.kit(
        tmp_path / "kit", mirror_dir=str(operator.repository.path / AUDIENCE), background=False
    )
    store = MemoryKeyStore()
    store.save(operator.epochs)

    def opened() -> Screener:
        return Screener(Settings.load(kit), keys=store)

    def answers(screener: Screener) -> list[tuple[Verdict, Reason]]:
        people = [(LISTED.number, LISTED.name), FREE]
        decisions = [screener.check(number, name=name, measure=MEASURE) for number, name in people]
        return [(decision.verdict, decision.reason) for decision in decisions]

    right = [(Verdict.RESTRICTED, Reason.IN_FORCE), (Verdict.CLEAR, Reason.NOT_LISTED)]
    operator.repository.publish_relief(AUDIENCE, {}, *operator._online())
    with opened() as screener:
        screener.sync()
        assert answers(screener) == right
        operator.repository.publish_relief(
            AUDIENCE, {f"relief/{AUDIENCE}/1-2": signed.content(operator)}, *operator._online()
        )
        with pytest.raises(ReliefFormatError):
            screener.sync()
        assert answers(screener) == right
    with opened() as restarted:
        assert answers(restarted) == right
        operator.publish_segment(1, 2, [(2, LISTED.restriction_ids[0])])
        restarted.sync()
        assert answers(restarted) == [(Verdict.CLEAR, Reason.LIFTED), right[1]]


class Hostile(NamedTuple):
    """How a mirror answers: what it says first, and then for ever, with a pause in seconds."""

    name: str
    outcome: type[FetchError]
    head: bytes
    then: bytes
    pause: float


ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
MIRRORS = [
    Hostile("metadata without end", TooLargeError, ANSWER, b" " * 65_536, 0.0),
    Hostile("metadata that drip without end", UnavailableError, ANSWER, b" ", 0.005),
    Hostile("metadata in pieces without end", TooLargeError, ANSWER.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
            b"1000\r\n" + b" " * 4_096 + b"\r\n", 0.0),
    Hostile("headers without end", UnavailableError, ANSWER[:-2], b"X-More: " + b"a" * 500 + b"\r\n", 0.0),
    Hostile("nothing", UnavailableError, b"", b"", 0.05),
]  # fmt: skip


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.mark.parametrize("mirror", MIRRORS, ids=lambda mirror: mirror.name)
def test_hostile_mirror_is_given_up(listener: socket.socket, mirror: Hostile) -> None:
    over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(mirror.head)
                for _ in itertools.takewhile(
                    lambda _: not over.wait(mirror.pause), itertools.count()
                ):
                    connection.sendall(mirror.then)
            except OSError:  # the client has hung up, which is what it should do
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/aviation"
        with pytest.raises(mirror.outcome) as caught:
            MirrorFetcher(url, timeout=0.3, total=0.3).metadata(
                "timestamp.json", 20_000 if mirror.pause == 0 else 1 << 30
            )
        assert type(caught.value) is mirror.outcome
    finally:
        over.set()
        thread.join()
