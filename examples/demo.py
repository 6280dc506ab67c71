"""The main job, end to end: from an authority's list to a decision at the counter, and back.

`python -m examples.demo` (or `make demo`) generates a list of 20,000 made-up subjects, imports it,
publishes for four sectors, starts the server as a process of its own, and runs four booking
programs against it, each a process of its own. Somebody is refused, disputes it, and is cleared at
another provider; the court finds that it was wrong, and whoever refused has to make good; somebody
is released and clears everywhere. The last line is `demo: ok`, and the exit status 0, only if every
expectation held.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import socket
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.stage import CONSOLE, Counter, Process, Stage, command

if TYPE_CHECKING:
    from collections.abc import Iterator

# program: its audience, its provider's name, the measure it checks, and what is bought
COUNTERS: dict[str, tuple[str, str, str, dict[str, str | float]]] = {
    "airline_booking": ("aviation", "skyline-air", "AIR_TRAVEL", {}),
    "train_booking": (
        "rail",
        "riverside-rail",
        "RAIL_HIGH_CLASS",
        {"train_class": "G", "seat": "SECOND"},
    ),
    "hotel_checkin": ("hospitality", "lantern-hotels", "STAR_HOTEL", {"stars": 5}),
    "loan_quote": ("banking", "harbour-bank", "LOAN_PRICING", {}),
}
SOLD = {
    "airline_booking": "ticket sold",
    "train_booking": "seat sold",
    "hotel_checkin": "checked in",
    "loan_quote": "quoted 3.45%",
}
REFUSED = {
    "airline_booking": "refused",
    "train_booking": "refused; D train second class offered",
    "hotel_checkin": "refused",
    "loan_quote": "quoted 4.65%",
}
# How often, at least, each counter acted on the restriction that the court revokes: each question
# before relief came is one more.
ACTED = {"airline_booking": 2, "train_booking": 1, "hotel_checkin": 1, "loan_quote": 0}
STRETCH_N = (
    64  # scrypt cost, low so that 20,000 subjects are entered in seconds; a deployment takes 4096
)


@dataclass
class People:
    """Rows of the generated list that the story is about, as requests want them."""

    disputing: dict[str, str]
    released: dict[str, str]
    borrowing: dict[str, str]
    clear: dict[str, str]


def free_address() -> str:
    """A free port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def persons(path: Path, *measures: str) -> Iterator[dict[str, str]]:
    """The natural persons of a list who are under all these measures."""
    with path.open(encoding="gb18030", newline="") as file:
        for row in csv.DictReader(file):
            if row["证件类型"] == "居民身份证" and all(
                measure in row["限制措施"] for measure in measures
            ):
                yield {"number": row["证件号码"], "name": row["姓名/名称"]}


def choose(listed: Path, others: Path) -> People:
    """Three listed persons, and one who is not."""
    travellers = persons(listed, "AIR_TRAVEL", "RAIL_HIGH_CLASS", "STAR_HOTEL")
    return People(
        next(travellers),
        next(travellers),
        next(persons(listed, "LOAN_PRICING")),
        next(persons(others)),
    )


def prepare(stage: Stage, folder: Path, subjects: int) -> tuple[Path, str]:
    """Generate, initialise, import and publish; return the list and the server's address."""
    operator, log = folder / "operator", folder / "operator.log"
    listed = folder / "list.csv"
    address = free_address()
    config = ("--config", operator)

    def server(*arguments: str | Path) -> str:
        return command("tipstaff_server", *arguments, log=log)

    with stage.step(f"A court's list: {subjects:,} made-up subjects, in GB18030"):
        server("generate", "--rows", str(subjects), "--seed", "33", "--encoding", "gb18030", listed)
        server(
            "generate",
            "--rows",
            "100",
            "--seed",
            "34",
            "--encoding",
            "gb18030",
            folder / "others.csv",
        )
    with stage.step(
        "The operator's working directory: development certificates, keys, registry, repository"
    ):
        kits = [f"--provider={audience}/{provider}" for audience, provider, *_ in COUNTERS.values()]
        server("init", operator, "--stretch-n", str(STRETCH_N), "--listen", address, *kits)
    with stage.step("Import, twice"):
        entry = (
            "import",
            *config,
            "--list",
            "joint-discipline",
            "--authority",
            "court",
            "--json",
            listed,
        )
        first, again = json.loads(server(*entry)), json.loads(server(*entry))
        stage.expect(
            first["created"] == subjects and not first["rejected"],
            f"{first['created']:,} entered, {first['rejected']} refused",
        )
        stage.expect(
            again["created"] == 0 and again["unchanged"] == subjects,
            "the same file again changes nothing",
        )
    with stage.step(
        "Listings for four audiences: built, signed off by a second process with its own key,"
        " published"
    ):
        published = server("publish", *config).splitlines()
        stage.expect(
            sum(line.endswith("published") for line in published) == len(COUNTERS), "four published"
        )
    return listed, address


def story(stage: Stage, folder: Path, people: People, counters: dict[str, Counter]) -> None:
    """What happens at the counters."""
    service = {program: service for program, (_, _, _, service) in COUNTERS.items()}
    with stage.step("Somebody who is on no list, 200 times at each counter"):
        for program, counter in counters.items():
            answers = [counter.ask(people.clear, service[program]) for _ in range(200)]
            stage.expect(
                {said["action"] for said in answers} == {SOLD[program]},
                f"{program}: {SOLD[program]}, check {middle(answers):.0f} µs",
            )
    with stage.step("Somebody under a restriction: a name opens the proof"):
        for program, action in REFUSED.items():
            person = people.borrowing if program == "loan_quote" else people.disputing
            said = counters[program].ask(person, service[program])
            stage.expect(
                said["action"] == action and said["verdict"] == "RESTRICTED",
                f"{program}: {action}, check {middle([said]) / 1000:.1f} ms",
            )
            show(said["text"])
    with stage.step("The same number under another name: never refused, a person looks"):
        said = counters["airline_booking"].ask({**people.disputing, "name": people.clear["name"]})
        stage.expect(
            said["reason"] == "NAME_MISMATCH" and said["action"] == "supervisor called",
            f"airline_booking: {said['action']}",
        )
    with stage.step("A dispute at the airline's counter clears at the railway's"):
        said = counters["airline_booking"].ask(
            people.disputing,
            dispute="The debt was paid in full in March; the court has the receipt.",
        )
        opened = time.perf_counter()
        stage.expect(
            said["suspended"] and said["case_number"],
            f"airline_booking: case {said['case_number']}, not enforced while it is examined",
        )
        cleared = counters["train_booking"].ask_until(
            "CLEAR", people.disputing, service["train_booking"]
        )
        stage.expect(
            cleared["reason"] == "LIFTED",
            f"train_booking: {cleared['action']}, {since(opened)} after the airline had its case"
            " number",
        )
    make_good(stage, folder, counters, said)
    with stage.step("The court releases somebody, and every counter knows"):
        said = counters["airline_booking"].ask(people.released)
        stage.expect(said["verdict"] == "RESTRICTED", f"airline_booking: {said['action']}, before")
        release(folder, said["restriction_ids"])
        released = time.perf_counter()
        for program, counter in counters.items():
            cleared = counter.ask_until("CLEAR", people.released, service[program])
            stage.expect(
                cleared["action"] == SOLD[program],
                f"{program}: {cleared['action']}, {since(released)} after the clerk's command"
                " ended",
            )


def make_good(
    stage: Stage, folder: Path, counters: dict[str, Counter], disputed: dict[str, Any]
) -> None:
    """The court revokes what was wrong: each counter that acted on it is told, makes good, and
    answers.
    """
    operator, log = ("--config", folder / "operator"), folder / "operator.log"
    case_number, (restriction_id, *_) = disputed["case_number"], disputed["restriction_ids"]
    with stage.step(
        "The court finds that it was wrong: revoked, and whoever acted on it makes good"
    ):
        answering = (
            "dispute",
            "answer",
            *operator,
            case_number,
            "--outcome",
            "revoked",
            "--reason",
            "paid in March",
        )
        command("tipstaff_server", *answering, log=log)
        revoked = time.perf_counter()
        for program, acts in ACTED.items():
            owed = (
                counters[program].remedies_of(restriction_id)
                if acts
                else len(counters[program].send({"make_good": True})["remedies"])
            )
            in_hand = (
                f"remedy in hand and answered, {since(revoked)} after the court's command ended"
                if acts
                else "nothing to make good"
            )
            stage.expect(
                owed >= acts if acts else owed == 0,
                f"{program}: {owed} wrong {'act' if owed == 1 else 'acts'}, {in_hand}",
            )
        followed = counters["hotel_checkin"].send({"follow": case_number})
        stage.expect(
            followed["state"] == "REVOKED",
            "hotel_checkin: the person follows the case by its number, at a counter that never"
            " saw it",
        )
        show(followed["text"])
        remedies = json.loads(command("tipstaff_server", "remedies", *operator, "--json", log=log))
        answered = [row for row in remedies if row["outcome"] == "RESTORED"]
        acted = sum(1 for acts in ACTED.values() if acts)
        stage.expect(
            len(answered) == len(remedies) == acted,
            f"the court sees {len(answered)} of {acted} providers' answers",
        )


def middle(answers: list[dict[str, Any]]) -> float:
    """The median time of a check, in microseconds."""
    return statistics.median(float(said["check_us"]) for said in answers)


def since(moment: float) -> str:
    """The time since then, in milliseconds."""
    return f"{(time.perf_counter() - moment) * 1000:.0f} ms"


def show(text: str) -> None:
    """What the counter tells the person."""
    for line in text.splitlines():
        CONSOLE.print(f"        {line}", style="dim", markup=False)


def release(folder: Path, restriction_ids: list[str]) -> None:
    """What the court's clerk does."""
    for restriction_id in restriction_ids:
        arguments = (
            "release",
            "--config",
            folder / "operator",
            restriction_id,
            "--reason",
            "obligation performed",
        )
        command("tipstaff_server", *arguments, log=folder / "operator.log")


def supervise(stage: Stage, folder: Path) -> None:
    """What supervision sees: counts, nobody's name."""
    with stage.step("Statistics, after the counters have closed and sent what they had"):
        shown = ("stats", "--config", folder / "operator")
        CONSOLE.print(
            command("tipstaff_server", *shown, log=folder / "operator.log"), end="", markup=False
        )
        rows = json.loads(
            command("tipstaff_server", *shown, "--json", log=folder / "operator.log")
        )["measures"]
        outcomes = {(row["provider_id"], outcome) for row in rows for outcome in row["outcomes"]}
        wanted = {
            ("skyline-air", "DENIED"),
            ("riverside-rail", "DOWNGRADED"),
            ("lantern-hotels", "DENIED"),
            ("harbour-bank", "SURCHARGED"),
        }
        stage.expect(wanted <= outcomes, "what every provider did has arrived")
        stage.expect(
            len(rows) == len(COUNTERS) and all(row["checked"] > 201 for row in rows),
            "every check was counted",
        )


def main() -> int:
    """Run the demo; the exit status says whether every expectation held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=20_000)
    parser.add_argument(
        "--folder", type=Path, default=Path("build/demo"), help="made anew, kept for you to look at"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.perf_counter()
    stage = Stage()
    listed, address = prepare(stage, folder, arguments.subjects)
    people = choose(listed, folder / "others.csv")
    operator = folder / "operator"
    with ExitStack() as running:
        with stage.step(f"The server, a process of its own, on {address} over mutual TLS"):
            ready = folder / "ready"
            running.enter_context(
                Process(
                    "tipstaff_server",
                    "serve",
                    "--config",
                    operator,
                    "--ready-file",
                    ready,
                    log=folder / "server.log",
                )
            )
            deadline = time.perf_counter() + 30
            while not ready.exists() and time.perf_counter() < deadline:
                time.sleep(0.02)
            stage.expect(ready.exists(), "ready")
        with ExitStack() as open_counters:
            with stage.step("Four counters, a process each: first sync, verified"):
                counters = {
                    program: open_counters.enter_context(
                        Counter(
                            program, operator / "providers" / provider, folder / f"{program}.log"
                        )
                    )
                    for program, (_, provider, *_) in COUNTERS.items()
                }
                stage.expect(
                    all(counter.receive()["ready"] for counter in counters.values()), "all ready"
                )
            story(stage, folder, people, counters)
        supervise(stage, folder)
    CONSOLE.print(f"{time.perf_counter() - began:.1f} s in all; logs and state are in {folder}")
    if stage.failed:
        CONSOLE.print(f"demo: {stage.failed} expectations failed")
        return 1
    CONSOLE.print("demo: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
