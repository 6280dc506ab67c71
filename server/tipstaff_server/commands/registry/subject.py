"""`tipstaff-server subject …`: who a restriction is on, who answers for whom, two that are one, one
that is two.

Numbers and names are never arguments, which show in `ps`, but are read from standard input as one
JSON document. A number there is a text (a resident ID) or {"kind": "ORGANISATION_CODE", "number":
"…"}; several stand in a list, as names do.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tipstaff_sdk.identity.identifier import Identifier, IdentifierKind
from tipstaff_server.commands.options import (
    ConfigOption,
    JsonOption,
    ReasonOption,
    open_registry,
    print_json,
    this_operator,
)
from tipstaff_server.domain.parties import PERSON, Party, Responsible
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.registry.subjects.posts import Dates
from tipstaff_server.registry.subjects.reference import Reference
from tipstaff_server.registry.subjects.split import Correction, Parts

if TYPE_CHECKING:
    from tipstaff_server.registry.subjects.posts import Post
    from tipstaff_server.registry.subjects.view import SubjectView

__all__ = ["app"]

CAPACITIES = {
    "legal-representative": 1,
    "principal": 2,
    "directly-responsible": 3,
    "actual-controller": 4,
}
MAX_INPUT = 1 << 20
app = typer.Typer(
    help="Look at people and organisations, and correct who they are and who answers for whom.",
    no_args_is_help=True,
)
DateOption = datetime | None
PostArgument = Annotated[str, typer.Argument(help="The post's id, as `subject show` gives it.")]
SubjectArgument = Annotated[
    str, typer.Argument(help="The subject's id, as `subject show` gives it.")
]
RestrictionOption = Annotated[
    str, typer.Option("--restriction", help="The subject of this restriction.")
]
SubjectOption = Annotated[str, typer.Option("--subject", help="The subject with this id.")]
FromOption = Annotated[
    DateOption, typer.Option("--from", formats=["%Y-%m-%d"], help="First moment, UTC.")
]
UntilOption = Annotated[
    DateOption, typer.Option("--until", formats=["%Y-%m-%d"], help="End, exclusive, UTC.")
]


@app.command()
def show(
    config: ConfigOption = None,
    restriction: RestrictionOption = "",
    subject: SubjectOption = "",
    *,
    by_number: Annotated[
        bool,
        typer.Option(
            "--by-number",
            help="Read a resident ID, or an object with `kind` and `number`, from standard input.",
        ),
    ] = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show numbers and names; goes into the audit log.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why they have to be shown.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show a subject in figures: how many numbers and names, its restrictions, and who answers for it or for whom it does."""
    reference = _reference(restriction, subject, _identifier(_read()) if by_number else None)
    with open_registry(config) as registry:
        if not reveal:
            _tell(registry.subjects.show(reference, this_operator()), as_json=as_json)
            return
        told = registry.subjects.reveal(reference, reason, this_operator())
    numbers = [{"kind": item.kind.name, "number": item.number} for item in told.identifiers]
    _tell(
        told.view,
        {"revealed": {"identifiers": numbers, "names": list(told.names)}},
        as_json=as_json,
    )


@app.command()
def join(
    capacity: Annotated[str, typer.Option(help=", ".join(CAPACITIES))],
    reason: ReasonOption,
    config: ConfigOption = None,
    restriction: RestrictionOption = "",
    subject: SubjectOption = "",
    begins: FromOption = None,
    until: UntilOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Somebody takes a post in an organisation. Standard input: an object with `identifiers` and `names`."""
    if capacity not in CAPACITIES:
        raise InvalidRequestError(f"the capacity is one of: {', '.join(CAPACITIES)}")
    given = _document({"identifiers", "names"})
    person = Responsible(
        CAPACITIES[capacity],
        Party(PERSON, _identifiers(given, "identifiers"), _names(given, "names")),
    )
    with open_registry(config) as registry:
        post = registry.posts.add(
            _reference(restriction, subject),
            person,
            Dates(_utc(begins), _utc(until)),
            reason,
            this_operator(),
        )
    _tell_post(post, 0, as_json=as_json)


@app.command()
def leave(
    post_id: PostArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    until: UntilOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Somebody leaves a post, now or at a date: what reached them through it alone is lifted for them."""
    with open_registry(config) as registry:
        post, sequence = registry.posts.end(_id(post_id), _utc(until), reason, this_operator())
    _tell_post(post, sequence, as_json=as_json)


@app.command()
def dates(
    post_id: PostArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    begins: FromOption = None,
    until: UntilOption = None,
    *,
    without_end: Annotated[
        bool, typer.Option("--without-end", help="No end is known after all.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Correct the dates of a post."""
    with open_registry(config) as registry:
        changed = Dates(_utc(begins), _utc(until), without_end)
        post, sequence = registry.posts.amend(_id(post_id), changed, reason, this_operator())
    _tell_post(post, sequence, as_json=as_json)


@app.command()
def exempt(
    restriction_id: Annotated[str, typer.Argument(help="The organisation's restriction.")],
    begins: Annotated[
        datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First moment, UTC.")
    ],
    until: Annotated[
        datetime, typer.Option("--until", formats=["%Y-%m-%d"], help="End, exclusive, UTC.")
    ],
    config: ConfigOption = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="A measure; may be repeated.", show_default="all of them"),
    ] = None,
    zh: Annotated[str, typer.Option(help="For the counter, in Chinese.")] = "因私消费",
    en: Annotated[
        str, typer.Option(help="For the counter, in English.")
    ] = "private spending with own money",
    *,
    as_json: JsonOption = False,
) -> None:
    """Permit private spending (因私消费) to one person whom an organisation's restriction reaches. Standard input: their number."""
    person = _identifier(_read())
    valid = (begins.replace(tzinfo=UTC), until.replace(tzinfo=UTC))
    with open_registry(config) as registry:
        exemption = registry.restrictions.exempt(
            _id(restriction_id),
            measures=measure or [],
            valid=valid,
            why=(zh, en),
            actor=this_operator(),
            person=person,
        )
    if as_json:
        print_json({"exemption_id": exemption.hex()})
    else:
        typer.echo(f"exemption {exemption.hex()}, from the next listing on")


@app.command()
def merge(
    surviving: Annotated[str, typer.Argument(help="The id of the subject that stays.")],
    absorbed: Annotated[str, typer.Argument(help="The id of the subject that goes over to it.")],
    reason: ReasonOption,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Two subjects are one. What newly reaches a number or a name comes with the next listing."""
    with open_registry(config) as registry:
        view, _ = registry.subjects.merge(
            Reference(_id(surviving)), Reference(_id(absorbed)), reason, this_operator()
        )
    _tell(view, as_json=as_json)


@app.command()
def split(
    subject: SubjectArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    restriction: Annotated[
        list[str] | None,
        typer.Option(help="A restriction that is on the new one; may be repeated."),
    ] = None,
    post: Annotated[
        list[str] | None, typer.Option(help="A post that is the new one's; may be repeated.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """One subject is two. Standard input: an object with `identifiers`, `names` and `shared_names`, the new one's."""
    given = _document({"identifiers", "names", "shared_names"})
    parts = Parts(
        _identifiers(given, "identifiers"),
        _names(given, "names"),
        _names(given, "shared_names"),
        tuple(map(_id, restriction or ())),
        tuple(map(_id, post or ())),
    )
    with open_registry(config) as registry:
        done = registry.subjects.split(Reference(_id(subject)), parts, reason, this_operator())
    _tell(
        done.subject,
        {"split_off": _figures(done.split_off), "relief_sequence": done.relief_sequence},
        as_json=as_json,
    )


@app.command()
def correct(
    subject: SubjectArgument,
    reason: ReasonOption,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Correct numbers and names. Standard input: an object with `remove_identifiers`, `remove_names`, `add_identifiers`, `add_names`."""
    given = _document({"remove_identifiers", "remove_names", "add_identifiers", "add_names"})
    correction = Correction(
        _identifiers(given, "remove_identifiers"),
        _names(given, "remove_names"),
        _identifiers(given, "add_identifiers"),
        _names(given, "add_names"),
    )
    with open_registry(config) as registry:
        view, sequence = registry.subjects.correct(
            Reference(_id(subject)), correction, reason, this_operator()
        )
    _tell(view, {"relief_sequence": sequence}, as_json=as_json)


def _reference(restriction: str, subject: str, identifier: Identifier | None = None) -> Reference:
    return Reference(
        _id(subject) if subject else b"", identifier, _id(restriction) if restriction else b""
    )


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidRequestError(
            "an id has 32 hexadecimal digits, as `subject show` and `restriction search` show it"
        ) from None


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _read() -> object:
    """What stands on standard input: JSON, or a bare number. Raises InvalidRequestError."""
    text = sys.stdin.read(MAX_INPUT + 1).strip()
    if not text or len(text) > MAX_INPUT:
        raise InvalidRequestError(
            "nothing, or too much, stands on standard input: give what --help says"
        )
    if text[0] not in '{["':
        return text
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError):
        raise InvalidRequestError(
            "standard input is not one JSON document: give what --help says"
        ) from None


def _document(keys: set[str]) -> dict[str, Any]:
    given = _read()
    if not isinstance(given, dict) or not given or not set(cast("dict[str, Any]", given)) <= keys:
        raise InvalidRequestError(
            f"standard input is to be a JSON object with some of: {', '.join(sorted(keys))}"
        )
    return cast("dict[str, Any]", given)


def _identifiers(given: dict[str, Any], key: str) -> tuple[Identifier, ...]:
    return tuple(_identifier(item) for item in _list(given, key))


def _names(given: dict[str, Any], key: str) -> tuple[str, ...]:
    names = _list(given, key)
    if not all(isinstance(name, str) for name in names):
        raise InvalidRequestError(f"{key} is to be a list of texts")
    return tuple(str(name) for name in names)


def _list(given: dict[str, Any], key: str) -> list[object]:
    values: object = given.get(key, [])
    if not isinstance(values, list):
        raise InvalidRequestError(f"{key} is to be a list")
    return cast("list[object]", values)


def _identifier(item: object) -> Identifier:
    """A bare text is a resident ID; other kinds are named. Raises InvalidIdentifierError."""
    if isinstance(item, str):
        return Identifier.parse(item)
    fields = cast("dict[str, object]", item) if isinstance(item, dict) else {}
    kind, number = fields.get("kind"), fields.get("number")
    if (
        not isinstance(kind, str)
        or not isinstance(number, str)
        or kind not in IdentifierKind.__members__
    ):
        raise InvalidRequestError(
            f'a number is a text, or {{"kind": one of {", ".join(IdentifierKind.__members__)},'
            ' "number": a text}'
        )
    return Identifier(IdentifierKind[kind], number)


def _figures(view: SubjectView) -> dict[str, object]:
    return {
        "subject_id": view.subject_id.hex(),
        "type": "person" if view.type == PERSON else "organisation",
        "identifiers": {kind.name: count for kind, count in view.identifiers.items()},
        "names": view.names,
        "restrictions": [item.hex() for item in view.restriction_ids],
        "posts": [_post(item) for item in view.posts],
    }


def _post(post: Post) -> dict[str, object]:
    word = next(word for word, number in CAPACITIES.items() if number == post.capacity)
    ids: dict[str, object] = {
        key: value.hex() for key, value in asdict(post).items() if isinstance(value, bytes)
    }
    until = None if post.valid_until is None else post.valid_until.isoformat()
    return ids | {
        "capacity": word,
        "state": post.state.lower(),
        "valid_from": post.valid_from.isoformat(),
        "valid_until": until,
    }


def _tell(view: SubjectView, more: dict[str, object] | None = None, *, as_json: bool) -> None:
    document = _figures(view) | (more or {})
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if key == "posts":
            continue
        typer.echo(
            f"{key}:"
            f" {json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value}"
        )
    for post in view.posts:
        facts = _post(post)
        until = "" if post.valid_until is None else f" until {post.valid_until:%Y-%m-%d}"
        typer.echo(
            f"post {facts['post_id']}: {facts['capacity']}, {facts['state']}, from"
            f" {post.valid_from:%Y-%m-%d}{until}"
        )


def _tell_post(post: Post, sequence: int, *, as_json: bool) -> None:
    if as_json:
        print_json(_post(post) | {"relief_sequence": sequence})
    else:
        typer.echo(f"post {post.post_id.hex()}: {post.state.lower()}, relief sequence {sequence}")
