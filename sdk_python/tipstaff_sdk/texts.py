"""Texts for people, in Chinese and English, from one catalogue (texts.toml).

A key is a dotted path there, and every key has both languages with the same placeholders; a test
holds that.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from tipstaff.v1 import identity_pb2
from tipstaff_sdk.errors import ConfigurationError, FormatError

__all__ = ["LANGUAGES", "Bilingual", "Language", "text"]

Language: TypeAlias = Literal["zh", "en"]
LANGUAGES: Final[tuple[Language, ...]] = ("zh", "en")


class Bilingual(NamedTuple):
    """One text in both languages."""

    zh: str
    en: str

    def get(self, lang: str) -> str:
        """The text in 'zh' or 'en'. Raises ConfigurationError for another language."""
        return self.en if require_language(lang) == "en" else self.zh

    def to_proto(self) -> identity_pb2.BilingualText:
        """As the contract's message."""
        return identity_pb2.BilingualText(zh=self.zh, en=self.en)

    @classmethod
    def from_proto(
        cls, message: identity_pb2.BilingualText, what: str, error: type[FormatError]
    ) -> "Bilingual":
        """From the contract's message; both languages have to be there, or `error` says that `what`
        lacks one.
        """
        if not message.zh or not message.en:
            raise error(
                f"{what} lacks its Chinese or its English text: the operator has to add it."
            )
        return cls(message.zh, message.en)


def require_language(lang: str) -> Language:
    """The language, if it is one of ours. Raises ConfigurationError otherwise."""
    for known in LANGUAGES:
        if lang == known:
            return known
    raise ConfigurationError(
        f"There are texts in {' and '.join(LANGUAGES)} only: set lang to one of these."
    )


def text(key: str, lang: str, **values: object) -> str:
    """The text of a key in 'zh' or 'en' with its placeholders filled.

    Raises ConfigurationError for an unknown key or language.
    """
    try:
        entry = catalogue()[key]
    except KeyError:
        raise ConfigurationError(f"There is no text {key!r}: add it to texts.toml.") from None
    return entry.get(lang).format(**values)


@cache
def catalogue() -> Mapping[str, Bilingual]:
    """All texts by key."""
    content = resources.files("tipstaff_sdk").joinpath("texts.toml").read_text(encoding="utf-8")
    return dict(_entries("", tomllib.loads(content)))


def _entries(path: str, table: Mapping[str, object]) -> list[tuple[str, Bilingual]]:
    zh, en = table.get("zh"), table.get("en")
    if isinstance(zh, str) and isinstance(en, str) and len(table) == len(LANGUAGES):
        return [(path, Bilingual(zh, en))]
    texts_of_key: list[tuple[str, Bilingual]] = []
    for name, inner in table.items():
        key = f"{path}.{name}" if path else name
        if not isinstance(inner, dict):
            raise ConfigurationError(
                f"The text {path!r} has to have zh and en, and nothing else: correct texts.toml."
            )
        texts_of_key += _entries(key, cast("dict[str, object]", inner))
    return texts_of_key
