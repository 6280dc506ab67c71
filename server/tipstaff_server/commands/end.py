"""`tipstaff-server release`, `repair`, `revoke`, and `dispute answer`: relief follows by itself."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from tipstaff_server.acts import EndKind
from tipstaff_server.commands.options import ConfigOption
from tipstaff_server.commands.registry_options import JsonOption, ReasonOption, open_registry, print_json, this_operator
from tipstaff_server.errors import InvalidRequestError
from tipstaff_server.models import DisputeState

__all__ = ["app", "dispute_app"]

app = typer.Typer()
dispute_app = typer.Typer(help="Answer disputes.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(help="The restriction's id, 32 hexadecimal digits.")]


class Answer(StrEnum):
    """How a dispute is answered."""

    REJECTED = "rejected"
    REVOKED = "revoked"


@app.command()
def release(restriction_id: IdArgument, reason: ReasonOption, config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Let a restriction go: the obligation is performed, the case closed."""
    _end(restriction_id, EndKind.RELEASE, reason, config, as_json=as_json)


@app.command()
def repair(restriction_id: IdArgument, reason: ReasonOption, config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """End a restriction early: the subject put it right (信用修复)."""
    _end(restriction_id, EndKind.REPAIR, reason, config, as_json=as_json)


@app.command()
def revoke(restriction_id: IdArgument, reason: ReasonOption, config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """End a restriction because it was wrong."""
    _end(restriction_id, EndKind.REVOKE, reason, config, as_json=as_json)


@dispute_app.callback()
def group() -> None:
    """Answer disputes."""


@dispute_app.command("answer")
def answer(
    case_number: Annotated[str, typer.Argument(help="The dispute's case number, as the person has it.")],
    outcome: Annotated[Answer, typer.Option(help="rejected: the restriction was right; revoked: it was wrong.")],
    reason: ReasonOption,
    config: ConfigOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Answer a dispute. Rejected puts a suspended restriction in force again, with the next listing; revoked ends it."""
    state: Literal[DisputeState.REJECTED, DisputeState.REVOKED]
    state = DisputeState.REJECTED if outcome is Answer.REJECTED else DisputeState.REVOKED
    with open_registry(config) as registry:
        dispute = registry.answer_dispute(case_number, state, reason, actor=this_operator())
    if as_json:
        print_json({"case_number": dispute.case_number, "state": dispute.state, "suspended": dispute.suspended})
    else:
        typer.echo(f"{dispute.case_number}: {dispute.state.lower()}")


def _end(restriction_id: str, kind: EndKind, reason: str, config: Path | None, *, as_json: bool) -> None:
    try:
        identity = bytes.fromhex(restriction_id)
    except ValueError:
        raise InvalidRequestError("a restriction's id has 32 hexadecimal digits, as decisions and reports show it") from None
    with open_registry(config) as registry:
        ended = registry.end(identity, kind, reason, actor=this_operator())
    if as_json:
        print_json({"restriction_id": restriction_id, "state": ended.restriction.state, "relief_sequence": ended.relief_sequence})
    else:
        typer.echo(f"{restriction_id}: {ended.restriction.state.lower()}, relief sequence {ended.relief_sequence}")
