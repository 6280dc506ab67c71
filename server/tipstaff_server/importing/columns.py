"""What the columns of a list mean:

Chinese and English headers, with the aliases that courts and bureaus use.

Case, spaces, underscores, brackets with remarks, and full-width signs do not matter. Unknown
columns are passed over and named in the result.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

from tipstaff_sdk.identity.identifier import IdentifierKind
from tipstaff_server.errors import FileHeaderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tipstaff_server.importing.cells import Cell

__all__ = [
    "Columns",
    "Field",
    "capacity_of",
    "field_of",
    "is_capacity",
    "kind_of",
    "subject_type_of",
]

MAX_COLUMNS = 100
KEPT = 1_024


class Field(StrEnum):
    """What a column holds."""

    # Enum's own hash is a call in Python, and every cell is looked up by its field.
    __hash__ = str.__hash__

    NAME = "NAME"
    SUBJECT_TYPE = "SUBJECT_TYPE"
    KIND = "KIND"
    NUMBER = "NUMBER"
    RESIDENT_ID = "RESIDENT_ID"
    ORGANISATION_CODE = "ORGANISATION_CODE"
    CASE_NUMBER = "CASE_NUMBER"
    DECIDED_BY = "DECIDED_BY"
    CASE_OPENED = "CASE_OPENED"
    PUBLISHED = "PUBLISHED"
    EFFECTIVE = "EFFECTIVE"
    TERM = "TERM"
    EXPIRES = "EXPIRES"
    MEASURES = "MEASURES"
    LEGAL_BASIS = "LEGAL_BASIS"
    LEGAL_REPRESENTATIVE = "LEGAL_REPRESENTATIVE"
    LEGAL_REPRESENTATIVE_NUMBER = "LEGAL_REPRESENTATIVE_NUMBER"
    LEGAL_REPRESENTATIVE_KIND = "LEGAL_REPRESENTATIVE_KIND"
    PRINCIPAL = "PRINCIPAL"
    PRINCIPAL_NUMBER = "PRINCIPAL_NUMBER"
    PRINCIPAL_KIND = "PRINCIPAL_KIND"
    DIRECTLY_RESPONSIBLE = "DIRECTLY_RESPONSIBLE"
    DIRECTLY_RESPONSIBLE_NUMBER = "DIRECTLY_RESPONSIBLE_NUMBER"
    DIRECTLY_RESPONSIBLE_KIND = "DIRECTLY_RESPONSIBLE_KIND"
    ACTUAL_CONTROLLER = "ACTUAL_CONTROLLER"
    ACTUAL_CONTROLLER_NUMBER = "ACTUAL_CONTROLLER_NUMBER"
    ACTUAL_CONTROLLER_KIND = "ACTUAL_CONTROLLER_KIND"
    RESPONSIBLE_PERSONS = "RESPONSIBLE_PERSONS"


_ALIASES = {
    Field.NAME: (
        "姓名 名称 姓名/名称 姓名或名称 被执行人 被执行人姓名 被执行人姓名/名称 被执行人名称"
        " 失信被执行人 企业名称 单位名称 "
        "主体名称 name fullname subject"
    ),
    Field.SUBJECT_TYPE: "主体类型 主体类别 类型 被执行人类型 subjecttype type",
    Field.KIND: "证件类型 证件种类 证照类型 idtype identifiertype identifierkind documenttype",
    Field.NUMBER: (
        "证件号码 证件号 证件号码/组织机构代码 身份证号码/组织机构代码 身份证号/组织机构代码"
        " 证照号码 代码 idnumber "
        "identifier number documentnumber"
    ),
    Field.RESIDENT_ID: (
        "身份证号码 身份证号 公民身份号码 居民身份证号码 residentid residentidnumber"
    ),
    Field.ORGANISATION_CODE: (
        "统一社会信用代码 组织机构代码 统一社会信用代码/组织机构代码 社会信用代码 信用代码"
        " organisationcode organizationcode "
        "creditcode uscc"
    ),
    Field.CASE_NUMBER: "案号 执行案号 文书号 案件编号 casenumber caseno",
    Field.DECIDED_BY: (
        "执行法院 作出法院 法院 决定机关 认定机关 作出决定机关 court enforcingcourt decidedby"
    ),
    Field.CASE_OPENED: "立案时间 立案日期 caseopened caseopenedat filedat filingdate",
    Field.PUBLISHED: (
        "发布时间 发布日期 公布时间 公布日期 公示时间 published publishedat publicationdate"
    ),
    Field.EFFECTIVE: (
        "生效时间 生效日期 起始日期 开始日期 限制起始日期 effective effectiveat effectivefrom"
        " startdate"
    ),
    Field.TERM: "期限 限制期限 惩戒期限 有效期 公布期限 term duration",
    Field.EXPIRES: (
        "到期日 到期日期 到期时间 截止日期 截止时间 结束日期 限制截止日期 expires expiresat"
        " expirydate enddate"
    ),
    Field.MEASURES: "限制措施 惩戒措施 措施 措施代码 激励措施 measures measure",
    Field.LEGAL_BASIS: "法律依据 依据 惩戒依据 执行依据 认定依据 legalbasis basis",
    Field.LEGAL_REPRESENTATIVE: (
        "法定代表人 法定代表人/负责人 法定代表人或者负责人姓名 法定代表人或负责人 法定代表人姓名"
        " 法定代表人/负责人姓名 "
        "负责人 legalrepresentative"
    ),
    Field.LEGAL_REPRESENTATIVE_KIND: (
        "法定代表人证件类型 法定代表人/负责人证件类型 负责人证件类型 legalrepresentativeidtype"
    ),
    Field.LEGAL_REPRESENTATIVE_NUMBER: (
        "法定代表人证件号码 法定代表人身份证号码 法定代表人身份证号 法定代表人/负责人证件号码"
        " 负责人证件号码 "
        "法定代表人证件号 legalrepresentativeid legalrepresentativeidnumber"
    ),
    Field.PRINCIPAL: "主要负责人 主要负责人姓名 principal",
    Field.PRINCIPAL_KIND: "主要负责人证件类型 principalidtype",
    Field.PRINCIPAL_NUMBER: "主要负责人证件号码 主要负责人身份证号码 principalid principalidnumber",
    Field.DIRECTLY_RESPONSIBLE: (
        "直接责任人 直接责任人员 影响债务履行的直接责任人员 直接责任人姓名 directlyresponsible"
    ),
    Field.DIRECTLY_RESPONSIBLE_KIND: "直接责任人证件类型 directlyresponsibleidtype",
    Field.DIRECTLY_RESPONSIBLE_NUMBER: (
        "直接责任人证件号码 直接责任人员证件号码 直接责任人身份证号码 directlyresponsibleid"
        " directlyresponsibleidnumber"
    ),
    Field.ACTUAL_CONTROLLER: "实际控制人 实际控制人姓名 actualcontroller",
    Field.ACTUAL_CONTROLLER_KIND: "实际控制人证件类型 actualcontrolleridtype",
    Field.RESPONSIBLE_PERSONS: (
        "责任人 责任人员 相关责任人 相关责任人员 responsiblepersons responsible"
    ),
    Field.ACTUAL_CONTROLLER_NUMBER: (
        "实际控制人证件号码 实际控制人身份证号码 actualcontrollerid actualcontrolleridnumber"
    ),
}
_FIELDS = {alias: field for field, aliases in _ALIASES.items() for alias in aliases.split()}

_CAPACITY_KEYS = frozenset(["身份", "职务", "任职", "责任人类型", "capacity", "position"])
_CAPACITIES = {
    Field.LEGAL_REPRESENTATIVE: 1,
    Field.PRINCIPAL: 2,
    Field.DIRECTLY_RESPONSIBLE: 3,
    Field.ACTUAL_CONTROLLER: 4,
}

_KINDS = {
    IdentifierKind.RESIDENT_ID: (
        "居民身份证 身份证 二代身份证 第二代居民身份证 公民身份号码 residentid idcard"
        " residentidentitycard 01"
    ),
    IdentifierKind.ORGANISATION_CODE: (
        "统一社会信用代码 社会信用代码 信用代码 组织机构代码 组织机构代码证 营业执照"
        " 统一社会信用代码证 organisationcode "
        "organizationcode uscc creditcode"
    ),
    IdentifierKind.PASSPORT: "护照 外国护照 中国护照 普通护照 passport",
    IdentifierKind.HK_MACAO_PERMIT: (
        "港澳居民来往内地通行证 港澳通行证 港澳居民通行证 回乡证 hkmacaopermit homereturnpermit"
    ),
    IdentifierKind.TAIWAN_PERMIT: (
        "台湾居民来往大陆通行证 台湾通行证 台湾居民通行证 台胞证 taiwanpermit"
    ),
    IdentifierKind.FOREIGN_PERMANENT_RESIDENT: (
        "外国人永久居留身份证 外国人永久居留证 永久居留身份证 foreignpermanentresident"
        " foreignpermanentresidentcard"
    ),
}
_KIND_OF = {alias: kind for kind, aliases in _KINDS.items() for alias in aliases.split()}
_PERSONS = frozenset(["自然人", "个人", "自然人主体", "person", "individual", "naturalperson"])
_ORGANISATIONS = frozenset(
    [
        "法人",
        "法人或其他组织",
        "企业",
        "单位",
        "组织",
        "机构",
        "法人及非法人组织",
        "organisation",
        "organization",
        "company",
    ]
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each field is. `headers`: as written in the file; `ignored`: those not understood."""

    headers: tuple[str, ...]
    of: dict[Field, int]
    ignored: tuple[str, ...]

    @classmethod
    def read(cls, headers: Sequence[str]) -> Columns:
        """Understands a header line. Raises FileHeaderError: a column is missing or given twice."""
        if not headers:
            raise FileHeaderError("the first line is no header line")
        columns = cls.of_keys(headers)
        _require(columns.of)
        return columns

    @classmethod
    def of_keys(cls, headers: Sequence[str]) -> Columns:
        """The same where a row may lack what it wants: it is then refused by itself.

        Raises FileHeaderError: one is given twice.
        """
        if len(headers) > MAX_COLUMNS:
            raise FileHeaderError(
                f"the first line is no header line of at most {MAX_COLUMNS} columns"
            )
        positions: dict[Field, int] = {}
        ignored: list[str] = []
        for index, header in enumerate(headers):
            field = _FIELDS.get(_key(header))
            if field is None:
                ignored.append(header.strip()[:40])
            elif field in positions:
                raise FileHeaderError(
                    f"columns {positions[field] + 1} and {index + 1} both hold {field}; leave one of"
                    " them out"
                )
            else:
                positions[field] = index
        return cls(tuple(headers), positions, tuple(ignored))

    @property
    def width(self) -> int:
        """How many fields a row has."""
        return len(self.headers)

    def header(self, field: Field | None) -> str:
        """A field's header as written in the file; empty when it has no column."""
        index = None if field is None else self.of.get(field)
        return "" if index is None else self.headers[index].strip()

    def cell(self, fields: Sequence[Cell], field: Field) -> Cell:
        """A row's value, without the spaces around it; empty when there is no such column."""
        index = self.of.get(field)
        cell = "" if index is None else fields[index]
        return cell.strip() if isinstance(cell, str) else cell


def field_of(header: str) -> Field | None:
    """What a column or key of this name holds; None when it is not known."""
    return _FIELDS.get(_key(header))


def is_capacity(key: str) -> bool:
    """Whether a key of a responsible person says in which capacity."""
    return _key(key) in _CAPACITY_KEYS


def capacity_of(text: str) -> int | None:
    """The capacity that a text names, as in the contract; None when it is not known."""
    field = _FIELDS.get(_key(text))
    return None if field is None else _CAPACITIES.get(field)


@lru_cache(KEPT)
def kind_of(text: str) -> IdentifierKind | None:
    """The kind of number that a cell names; None when it is not known."""
    key = _key(text)
    return _KIND_OF.get(key) or next(
        (kind for kind in IdentifierKind if kind.name.replace("_", "").lower() == key), None
    )


@lru_cache(KEPT)
def subject_type_of(text: str) -> int | None:
    """1 for a person, 2 for an organisation, as in the contract; None when it is not known."""
    key = _key(text)
    if key in _PERSONS:
        return 1
    return 2 if key in _ORGANISATIONS else None


def _require(found: dict[Field, int]) -> None:
    missing: list[str] = []
    if Field.NAME not in found:
        missing.append("姓名/名称 (name)")
    if found.keys().isdisjoint({Field.NUMBER, Field.RESIDENT_ID, Field.ORGANISATION_CODE}):
        missing.append("证件号码 (id_number)")
    if Field.CASE_NUMBER not in found:
        missing.append("案号 (case_number)")
    if found.keys().isdisjoint({Field.EFFECTIVE, Field.PUBLISHED, Field.CASE_OPENED}):
        missing.append("发布时间 (published_at)")
    if missing:
        raise FileHeaderError(
            f"the header line has no column {', '.join(missing)}; see docs/formats/import.md"
        )


def _key(text: str) -> str:
    """Header or kind without what does not matter."""
    plain = unicodedata.normalize("NFKC", text).strip().lower().replace("\ufeff", "")
    plain = re.sub(r"[(\[【].*?[)\]】]", "", plain)
    return re.sub(r"[\s_\-:*]+", "", plain).replace("、", "/")
