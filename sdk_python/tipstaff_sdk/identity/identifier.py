"""Who somebody is: a kind and a canonical number.

An `Identifier` exists only in canonical form (numbers.py says which), so equal ones are equal
everywhere: in a set, as a token, in the registry. Its number is shown by nothing but `.number`.
"""

from collections.abc import Callable
from typing import Final, NoReturn, cast, final

from tipstaff.v1 import identity_pb2
from tipstaff_sdk.errors import InvalidIdentifierError
from tipstaff_sdk.identity.block import pack_number, resident_block
from tipstaff_sdk.identity.numbers import IdentifierKind, canonical_number

__all__ = ["Identifier", "IdentifierKind"]

_RESIDENT_ID: Final = IdentifierKind.RESIDENT_ID


@final
class Identifier:
    """Kind and canonical number. Immutable, hashable; compares by both.

    `block` is the number packed into 16 bytes (block.py), made once because every use of an
    identifier needs it. Raises InvalidIdentifierError when the number is not one of its kind.
    """

    __slots__ = ("block", "kind", "number")

    kind: IdentifierKind
    number: str
    block: bytes

    def __new__(cls, kind: IdentifierKind, number: str) -> "Identifier":
        try:
            kind = IdentifierKind(kind)
        except ValueError:
            raise InvalidIdentifierError(
                "The kind of number is not known: pass one of IdentifierKind."
            ) from None
        canonical = canonical_number(kind, number)
        return _make(kind, canonical, pack_number(kind, canonical))

    @classmethod
    def resident_id(cls, text: str) -> "Identifier":
        """A resident ID (GB 11643) as written or read from a document.

        About 1 µs when it is canonical already.
        """
        block = resident_block(text)
        return cls(_RESIDENT_ID, text) if block is None else _make(_RESIDENT_ID, text, block)

    @classmethod
    def parse(cls, text: str) -> "Identifier":
        """The identifier meant where only a text is given: a resident ID.

        Other kinds have to be named.
        """
        return cls.resident_id(text)

    @classmethod
    def organisation(cls, text: str) -> "Identifier":
        """A unified social credit code (GB 32100)."""
        return cls(IdentifierKind.ORGANISATION_CODE, text)

    @classmethod
    def from_proto(cls, message: identity_pb2.Identifier) -> "Identifier":
        """From the contract's message; the number has to be canonical there already."""
        identifier = cls(
            cast("IdentifierKind", message.kind), message.number
        )  # which it may not be: __new__ looks
        if identifier.number != message.number:
            raise InvalidIdentifierError(
                "The number is not in canonical form: send it as Identifier.number gives it."
            )
        return identifier

    def to_proto(self) -> identity_pb2.Identifier:
        """As the contract's message."""
        return identity_pb2.Identifier(
            kind=identity_pb2.IdentifierKind.ValueType(self.kind), number=self.number
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Identifier)
            and self.block == other.block
            and self.number == other.number
        )

    def __hash__(self) -> int:
        return hash(self.block)

    def __repr__(self) -> str:
        return f"Identifier({self.kind.name}, number hidden)"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("An Identifier does not change: make a new one.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("An Identifier does not change: make a new one.")

    def __reduce__(
        self,
    ) -> tuple[Callable[..., "Identifier"], tuple[IdentifierKind, str] | tuple[str]]:
        return (
            (_resident_id, (self.number,))
            if self.kind is _RESIDENT_ID
            else (Identifier, (self.kind, self.number))
        )


# The slots' own descriptors write past __setattr__: a third of the time of object.__setattr__, on
# the path of every check.
_new: Final = object.__new__
_set_kind: Final = Identifier.__dict__["kind"].__set__
_set_number: Final = Identifier.__dict__["number"].__set__
_set_block: Final = Identifier.__dict__["block"].__set__


def _resident_id(number: str) -> Identifier:
    return Identifier.resident_id(number)


def _make(kind: IdentifierKind, number: str, block: bytes) -> Identifier:
    self = _new(Identifier)
    _set_kind(self, kind)
    _set_number(self, number)
    _set_block(self, block)
    return self
