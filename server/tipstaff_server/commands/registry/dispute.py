"""`tipstaff-server dispute open | list | show | follow | answer`."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tipstaff_server.commands.options import (
    ConfigOption,
    JsonOption,
    ReasonOption,
    identity_of,
    open_registry,
    print_json,
    this_operator,
)
from tipstaff_server.registry.disputes.cases import MAX_PAGE, WantedDisputes
from tipstaff_server.registry.idempotency import Precondition
from tipstaff_server.registry.restrictions.amendments import Amendment
from tipstaff_server.storage.models import DisputeGround, DisputeState

if TYPE_CHECKING:
    from tipstaff_server.registry.disputes.answer import DisputeOutcome
    from tipstaff_server.registry.disputes.cases import DisputeCase

__all__ = ["OVERDUE", "app"]

OVERDUE = 4
"""Exit status of `list --overdue` when there are such."""

app = typer.Typer(help="Disputes: open, list, follow and answer them.", no_args_is_help=True)
CaseArgument = Annotated[
    str, typer.Argument(help="The dispute's case number, as the person has it.")
]


class Answer(StrEnum):
    """How a dispute is answered. `rejected` is the older word for upheld."""

    UPHELD = "upheld"
    CORRECTED = "corrected"
    REVOKED = "revoked"
    REJECTED = "rejected"


class Ground(StrEnum):
    """Why a restriction is said to be wrong."""

    IDENTITY = "identity"
    FACTS = "facts"
    PERFORMED = "performed"
    PROCEDURE = "procedure"
    OTHER = "other"


_OUTCOMES: dict[Answer, DisputeOutcome] = {
    Answer.UPHELD: DisputeState.REJECTED,
    Answer.REJECTED: DisputeState.REJECTED,
    Answer.CORRECTED: DisputeState.CORRECTED,
    Answer.REVOKED: DisputeState.REVOKED,
}


@app.command("open")
def open_(
    restriction_id: Annotated[
        str, typer.Argument(help="The restriction's id, 32 hexadecimal digits.")
    ],
    ground: Annotated[Ground, typer.Option(help="Why it is said to be wrong.")] = Ground.OTHER,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Open a dispute for the subject, with what they say on standard input. The same again opens no second one."""
    identity, statement = identity_of(restriction_id), sys.stdin.read().strip()
    digest = hashlib.sha256(
        b"tipstaff-server/dispute\0" + identity + ground.encode() + b"\0" + statement.encode()
    ).digest()
    with open_registry(config) as registry:
        opened = registry.disputes.open(
            identity,
            statement,
            request_id=digest[:16],
            actor=this_operator(),
            ground=DisputeGround[ground.name],
        ).dispute
    if as_json:
        print_json(
            {
                "case_number": opened.case_number,
                "suspended": opened.suspended,
                "due": opened.answer_due_at.isoformat(),
            }
        )
    else:
        effect = "not enforced meanwhile" if opened.suspended else "enforced meanwhile"
        typer.echo(
            f"{opened.case_number}: to be answered by {opened.answer_due_at:%Y-%m-%d}; {effect}"
        )


@app.command("list")
def list_(
    config: ConfigOption = None,
    state: Annotated[
        DisputeState | None,
        typer.Option(case_sensitive=False, help="Only these.", show_default="all"),
    ] = None,
    *,
    overdue: Annotated[
        bool,
        typer.Option(
            "--overdue",
            help="Only those whose time to answer is over. Exit status 4: there are such.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show disputes by the time that they are to be answered, without what was said."""
    cases: list[DisputeCase] = []
    with open_registry(config) as registry:
        after = b""
        while True:
            page, after = registry.disputes.page(
                WantedDisputes(state, overdue, after, MAX_PAGE), this_operator()
            )
            cases += page
            if not after:
                break
    if as_json:
        print_json([_document(item) for item in cases])
    for item in [] if as_json else cases:
        late = "overdue" if item.overdue else item.dispute.state.lower()
        fields = (
            item.dispute.case_number,
            late,
            f"due {item.dispute.answer_due_at:%Y-%m-%d}",
            item.authority_id,
            item.ground.lower(),
        )
        typer.echo("  ".join((*fields, item.restriction_id.hex())))
    if overdue and cases:
        raise typer.Exit(OVERDUE)


@app.command()
def show(
    case_number: CaseArgument, config: ConfigOption = None, *, as_json: JsonOption = False
) -> None:
    """Show one dispute, with what was said: for whoever answers it."""
    with open_registry(config) as registry:
        case = registry.disputes.case(case_number, this_operator())
    if as_json:
        print_json(_document(case) | {"statement": case.statement})
        return
    for name, value in _document(case).items():
        typer.echo(f"{name}: {value}")
    typer.echo(f"\n{case.statement}")


@app.command()
def follow(case_number: CaseArgument, config: ConfigOption = None) -> None:
    """Say where a dispute stands, for the person who holds its case number: nothing about anybody."""
    with open_registry(config) as registry:
        progress = registry.disputes.follow(case_number)
    typer.echo(f"{progress.text('zh')}\n{progress.text('en')}")


@app.command("answer")
def answer(  # noqa: PLR0913  a command's parameters are its options
    case_number: CaseArgument,
    outcome: Annotated[
        Answer,
        typer.Option(
            help=(
                "upheld: the restriction was right; corrected: amended as said; revoked: it was"
                " wrong. rejected: as upheld."
            )
        ),
    ],
    reason: ReasonOption,
    config: ConfigOption = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="corrected: a measure that it then has; may be repeated.", show_default="as it is"
        ),
    ] = None,
    legal_basis: Annotated[
        str,
        typer.Option(
            help="corrected: the provision that it then rests on.", show_default="as it is"
        ),
    ] = "",
    expires: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="corrected: its end, UTC.", show_default="as it is"
        ),
    ] = None,
    version: Annotated[
        int, typer.Option(help="The restriction's version that you have seen.", show_default="any")
    ] = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Answer a dispute. Upheld and corrected put a suspended restriction in force again, with the next listing; revoked ends it."""
    correction = Amendment(
        tuple(measure or ()), legal_basis, None if expires is None else expires.replace(tzinfo=UTC)
    )
    with open_registry(config) as registry:
        done = registry.disputes.answer(
            case_number,
            _OUTCOMES[outcome],
            reason,
            this_operator(),
            correction=correction,
            given=Precondition(version),
        )
    dispute = done.dispute
    if as_json:
        fields = {"restriction": done.restriction.state, "relief_sequence": done.relief_sequence}
        print_json(
            {
                "case_number": dispute.case_number,
                "state": dispute.state,
                "suspended": dispute.suspended,
            }
            | fields
        )
    else:
        typer.echo(
            f"{dispute.case_number}: {dispute.state.lower()}; the restriction is"
            f" {done.restriction.state.lower()}"
        )


def _document(item: DisputeCase) -> dict[str, object]:
    return {
        "case_number": item.dispute.case_number,
        "state": item.dispute.state.value,
        "overdue": item.overdue,
        "suspended": item.dispute.suspended,
        "ground": item.ground.value,
        "authority": item.authority_id,
        "restriction_id": item.restriction_id.hex(),
        "opened_at": item.dispute.opened_at.isoformat(),
        "due": item.dispute.answer_due_at.isoformat(),
        "answered_at": None if item.answered_at is None else item.answered_at.isoformat(),
    }
