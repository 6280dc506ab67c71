"""A Merkle tree over a pack's buckets, so that one bucket alone can be verified
(docs/formats/buckets.md).

    leaf  = SHA-256(00 bucket)            the bucket as it lies in the pack, checksum included; nothing for an empty one
    node  = SHA-256(01 left right)        as in RFC 6962, 2.1; there are 2^bits leaves, so the tree is full
    path  = the siblings from the leaf up, bits times 32 bytes

The root is in the listing's signed parameters, with the size that every answer is padded to and
with how many people share a bucket.
"""

import hashlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tipstaff.v1 import listing_pb2
from tipstaff_sdk.errors import PackFormatError, ParametersError, UntrustedError
from tipstaff_sdk.packs.pack import MAX_BUCKET_BITS, Pack, parse_bucket

__all__ = ["BucketTree", "check_parameters", "open_answer", "padded", "survey"]

HASH_SIZE: Final = 32
LENGTH_SIZE: Final = 4
SMALLEST_ANSWER: Final = 1 << 12
LARGEST_ANSWER: Final = 8 << 20

_LEAF: Final = b"\0"
_NODE: Final = b"\1"


class BucketTree:
    """All hashes of a pack's buckets: 64 bytes a bucket, made in one reading of the pack.

    Safe to share between threads.
    """

    def __init__(self, pack: Pack) -> None:
        self.bits: Final[int] = pack.bucket_bits
        leaves = 1 << self.bits
        # Node 1 is the root, nodes 2i and 2i + 1 are the children of i, and bucket b is node 2^bits
        # + b.
        hashes = bytearray(2 * leaves * HASH_SIZE)
        for bucket in range(leaves):
            _put(hashes, leaves + bucket, _hash(_LEAF + pack.bucket(bucket)))
        for node in range(leaves - 1, 0, -1):
            _put(
                hashes,
                node,
                _hash(_NODE + hashes[2 * node * HASH_SIZE : (2 * node + 2) * HASH_SIZE]),
            )
        self._hashes: Final = bytes(hashes)

    @property
    def root(self) -> bytes:
        """32 bytes."""
        return self._node(1)

    def path(self, bucket: int) -> bytes:
        """The hashes beside the way from a bucket to the root, from the leaf up."""
        node = (1 << self.bits) + bucket
        return b"".join(self._node((node >> level) ^ 1) for level in range(self.bits))

    def _node(self, number: int) -> bytes:
        return self._hashes[number * HASH_SIZE : (number + 1) * HASH_SIZE]


def survey(pack: Pack) -> listing_pb2.BucketParameters:
    """What a listing's parameters say of its pack's buckets; reads the pack twice, and checks every
    bucket.

    How many share a bucket is counted in listed numbers: a person with two listed numbers is in two
    buckets, and further names of a number do not count. Raises PackFormatError for a damaged pack,
    and for a bucket that no answer can hold.
    """
    bits = pack.bucket_bits
    counts = (
        len({locator for locator, _ in parse_bucket(pack.bucket(prefix), prefix, bits)})
        for prefix in range(1 << bits)
    )
    return describe(pack, np.fromiter(counts, np.int64, 1 << bits))


def describe(pack: Pack, numbers: NDArray[np.integer[Any]]) -> listing_pb2.BucketParameters:
    """The same for whoever knows how many numbers are in each bucket, shape (2^bits,): it reads the
    pack once, and checks nothing.
    """
    return listing_pb2.BucketParameters(
        bits=pack.bucket_bits,
        root=BucketTree(pack).root,
        answer_size=_answer_size(int(np.diff(pack.offsets()).max())),
        least_numbers=int(numbers.min()),
        median_numbers=int(np.sort(numbers)[(len(numbers) - 1) // 2]),
    )


def padded(bucket: bytes, answer_size: int) -> bytes:
    """A bucket as it travels: length, bucket, zeros; always `answer_size` bytes."""
    return (len(bucket).to_bytes(LENGTH_SIZE, "big") + bucket).ljust(answer_size, b"\0")


def check_parameters(buckets: listing_pb2.BucketParameters) -> None:
    """Raises ParametersError for parameters by which no bucket can be asked for."""
    if len(buckets.root) != HASH_SIZE:
        raise ParametersError(
            "The listing has no buckets to ask for: set profile = full, or ask the operator to"
            " update the server."
        )
    if (
        buckets.bits > MAX_BUCKET_BITS
        or not SMALLEST_ANSWER <= buckets.answer_size <= LARGEST_ANSWER
    ):
        raise ParametersError(
            "The listing's parameters describe buckets that no pack has: tell the operator."
        )


def open_answer(
    answer: bytes, path: bytes, number: int, buckets: listing_pb2.BucketParameters
) -> bytes:
    """The bucket in an answer to the request for bucket `number`.

    Raises UntrustedError: it is not the bucket that was signed, or not in the one form that it can
    have.
    """
    length = int.from_bytes(answer[:LENGTH_SIZE], "big")
    end = LENGTH_SIZE + length
    if (
        len(answer) != buckets.answer_size
        or end > len(answer)
        or any(answer[end:])
        or len(path) != buckets.bits * HASH_SIZE
    ):
        raise UntrustedError(
            "a bucket came in a form that none has: the server is not the operator's, or is"
            " damaged; tell the operator"
        )
    bucket = answer[LENGTH_SIZE:end]
    node = _hash(_LEAF + bucket)
    for level in range(buckets.bits):
        beside = path[level * HASH_SIZE : (level + 1) * HASH_SIZE]
        node = _hash(_NODE + (beside + node if number >> level & 1 else node + beside))
    if node != buckets.root:
        raise UntrustedError(
            "a bucket is not the one that was signed with the listing: tell the operator"
        )
    return bucket


def _answer_size(longest: int) -> int:
    size = SMALLEST_ANSWER
    while size < LENGTH_SIZE + longest:
        size *= 2
    if size > LARGEST_ANSWER:
        raise PackFormatError(
            f"A bucket has {longest} bytes, and no answer may be over {LARGEST_ANSWER}: use more"
            " bucket bits."
        )
    return size


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _put(hashes: bytearray, node: int, value: bytes) -> None:
    hashes[node * HASH_SIZE : (node + 1) * HASH_SIZE] = value
