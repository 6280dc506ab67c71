"""Which column of a file is what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tipstaff_sdk.errors import FormatError
from tipstaff_sdk.identity.identifier import IdentifierKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Asked", "Layout", "kind_of"]

# Headers that need no option, in lower case.
_IDENTIFIER: Final = (
    "identifier",
    "identifier_number",
    "id_number",
    "证件号码",
    "证件号",
    "身份证号",
    "身份证号码",
    "公民身份号码",
)
_NAME: Final = ("name", "full_name", "姓名", "名称", "姓名/名称")
_KIND: Final = ("kind", "identifier_kind", "id_type", "证件类型", "证件种类")

_KINDS: Final = {kind.name.lower(): kind for kind in IdentifierKind} | {
    "": IdentifierKind.RESIDENT_ID,
    "居民身份证": IdentifierKind.RESIDENT_ID,
    "身份证": IdentifierKind.RESIDENT_ID,
    "统一社会信用代码": IdentifierKind.ORGANISATION_CODE,
    "护照": IdentifierKind.PASSPORT,
    "港澳居民来往内地通行证": IdentifierKind.HK_MACAO_PERMIT,
    "台湾居民来往大陆通行证": IdentifierKind.TAIWAN_PERMIT,
    "外国人永久居留身份证": IdentifierKind.FOREIGN_PERMANENT_RESIDENT,
}


def kind_of(text: str) -> IdentifierKind | None:
    """The kind that a cell names, in English as `IdentifierKind` or in Chinese; an empty one is a
    resident ID; None: unknown.
    """
    return _KINDS.get(text.strip().lower().replace("-", "_").replace(" ", "_"))


@dataclass(frozen=True)
class Asked:
    """Columns as asked for; None: found by their usual names.

    key: passed through to the result. services: column by attribute of the measure; attributes left
    out are looked for by name.
    """

    identifier: str | None = None
    name: str | None = None
    kind: str | None = None
    key: str | None = None
    services: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Layout:
    """Where each column is, from 0. kind and key:

    None where there is none. services: by attribute, in order of the attributes.
    """

    width: int
    identifier: int
    name: int
    kind: int | None
    key: int | None
    services: Mapping[str, int]

    @property
    def used(self) -> tuple[int, ...]:
        """All columns that are read, ascending."""
        some = {self.identifier, self.name, self.kind, self.key, *self.services.values()}
        return tuple(sorted(column for column in some if column is not None))

    @classmethod
    def find(
        cls, header: Sequence[str], asked: Asked, attributes: Sequence[str], source: str
    ) -> Layout:
        """From a header and what was asked for.

        Raises FormatError, which names the columns that there are.
        """
        names = [column.strip().lower() for column in header]

        def required(wanted: str | None, usual: Sequence[str], option: str) -> int:
            found = optional(wanted, usual, option)
            if found is None:
                raise FormatError(
                    f"{source}: no column of {option}s; name it with --{option}-column. Columns:"
                    f" {_list(header)}"
                )
            return found

        def optional(wanted: str | None, usual: Sequence[str], option: str) -> int | None:
            looked_for = [wanted.strip().lower()] if wanted is not None else usual
            places = [place for place, column in enumerate(names) if column in looked_for]
            if len(places) > 1:
                raise FormatError(
                    f"{source}: several columns could be the {option}; name one with"
                    f" --{option}-column, and only once"
                )
            if wanted is not None and not places:
                raise FormatError(
                    f"{source}: there is no column {wanted!r}. Columns: {_list(header)}"
                )
            return places[0] if places else None

        services: dict[str, int] = {}
        for attribute in attributes:
            place = optional(asked.services.get(attribute), [attribute.lower()], "service")
            if place is not None:
                services[attribute] = place
        unknown = sorted(set(asked.services) - set(attributes))
        if unknown:
            raise FormatError(
                f"the measure has no attribute {', '.join(unknown)}; it has: {_list(attributes)}"
            )
        return cls(
            width=len(header),
            identifier=required(asked.identifier, _IDENTIFIER, "identifier"),
            name=required(asked.name, _NAME, "name"),
            kind=optional(asked.kind, _KIND, "kind"),
            key=None if asked.key is None else optional(asked.key, (), "key"),
            services=services,
        )


def _list(names: Sequence[str]) -> str:
    return ", ".join(name[:40] for name in names[:30]) or "none"
