"""The main job, end to end: from an authority's list to a decision at the counter, and back.

`python -m examples.demo` (or `make demo`) generates a list of 20,000 made-up subjects, imports it, publishes for four sectors, starts the
server as a process of its own, and runs four booking programs against it, each a process of its own. Somebody is refused, disputes it,
and is cleared at another provider; somebody is released and clears everywhere. The last line is `demo: ok`, and the exit status 0, only
if every expectation held.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from examples.stage import CONSOLE, Counter, Process, Stage, command

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTERS = {
    "airline_booking": ("aviation", "skyline-air", "AIR_TRAVEL", {}),
    "train_booking": ("rail", "riverside-rail", "RAIL_HIGH_CLASS", {"train_class": "G", "seat": "SECOND"}),
    "hotel_checkin": ("hospitality", "lantern-hotels", "STAR_HOTEL", {"stars": 5}),
    "loan_quote": ("banking", "harbour-bank", "LOAN_PRICING", {}),
}
SOLD = {"airline_booking": "ticket sold", "train_booking": "seat sold", "hotel_checkin": "checked in", "loan_quote": "quoted 3.45%"}
AUDIENCES = [audience for audience, *_ in COUNTERS.values()]
STRETCH_N = 256  # scrypt cost: the least that is allowed, so that 20,000 subjects are entered in seconds; a deployment takes 4096


@dataclass
class People:
    """Rows of the generated list that the story is about, as requests want them."""

    disputing: dict[str, str]
    released: dict[str, str]
    clear: dict[str, str]


def free_address() -> str:
    """A free port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def persons(path: Path) -> Iterator[dict[str, str]]:
    """The natural persons of a list under every measure of the four counters."""
    with path.open(encoding="gb18030", newline="") as file:
        for row in csv.DictReader(file):
            if row["证件类型"] == "居民身份证":
                yield {"number": row["证件号码"], "name": row["姓名/名称"]}


def choose(listed: Path, clear: Path) -> People:
    """Two listed persons and one who is not."""
    rows = persons(listed)
    return People(disputing=next(rows), released=next(rows), clear=next(persons(clear)))


def prepare(stage: Stage, folder: Path, subjects: int) -> tuple[Path, str]:
    """Generate, initialise, import and publish; return the list and the server's address."""
    operator, log = folder / "operator", folder / "operator.log"
    listed = folder / "list.csv"
    address = free_address()
    with stage.step(f"A court's list: {subjects:,} made-up subjects, GB18030"):
        command(
            "tipstaff_server",
            "generate",
            "--rows",
            str(subjects),
            "--seed",
            "33",
            "--encoding",
            "gb18030",
            "--measures",
            measures(),
            listed,
            log=log,
        )
        command(
            "tipstaff_server",
            "generate",
            "--rows",
            "100",
            "--seed",
            "34",
            "--encoding",
            "gb18030",
            "--clear",
            folder / "clear.csv",
            log=log,
        )
    with stage.step("The operator's working directory: development certificates, keys, registry, repository"):
        kits = [f"--provider={audience}/{provider}" for audience, provider, *_ in COUNTERS.values()]
        command("tipstaff_server", "init", operator, "--stretch-n", str(STRETCH_N), "--listen", address, *kits, log=log)
    with stage.step("Import, twice"):
        config = ("--config", operator / "tipstaff-server.toml")
        first = json.loads(
            command("tipstaff_server", "import", *config, "--list", "joint-discipline", "--authority", "court", "--json", listed, log=log)
        )
        again = json.loads(
            command("tipstaff_server", "import", *config, "--list", "joint-discipline", "--authority", "court", "--json", listed, log=log)
        )
        stage.expect(first["created"] == subjects and not first["rejected"], f"{first['created']:,} entered, {first['rejected']} rejected")
        stage.expect(again["created"] == 0 and again["unchanged"] == subjects, "the same file again changes nothing")
    with stage.step("Listings for four audiences: built, signed off by a second process with its own key, published"):
        for audience in AUDIENCES:
            command("tipstaff_server", "publish", *config, "--audience", audience, log=log)
        stage.expect(
            all((operator / "repository" / audience / "metadata" / "timestamp.json").exists() for audience in AUDIENCES), "four published"
        )
    return listed, address


def measures() -> str:
    """The measures of the four counters, as the generator takes them."""
    return ",".join(measure for _, _, measure, _ in COUNTERS.values())


def story(stage: Stage, folder: Path, people: People, counters: dict[str, Counter]) -> None:
    """What happens at the counters."""
    service = {program: service for program, (_, _, _, service) in COUNTERS.items()}
    with stage.step("Somebody who is on no list"):
        for program, counter in counters.items():
            said = counter.ask(people.clear, service[program])
            stage.expect(said["action"] == SOLD[program], f"{program}: {said['action']} ({said['verdict']}, {said['check_us']:.0f} µs)")
    with stage.step("Somebody under a restriction"):
        for program, action in {
            "airline_booking": "refused",
            "train_booking": "refused; D train second class offered",
            "hotel_checkin": "refused",
            "loan_quote": "quoted 4.65%",
        }.items():
            said = counters[program].ask(people.disputing, service[program])
            stage.expect(
                said["action"] == action and said["verdict"] == "RESTRICTED",
                f"{program}: {said['action']} ({said['check_us'] / 1000:.1f} ms)",
            )
        CONSOLE.print(f"    [dim]{said['text']}[/dim]", markup=True)
    with stage.step("The same number under another name: never refused, a person looks"):
        mistyped = {**people.disputing, "name": people.clear["name"]}
        said = counters["airline_booking"].ask(mistyped)
        stage.expect(
            said["verdict"] == "REVIEW" and said["action"] == "supervisor called", f"airline_booking: {said['action']} ({said['reason']})"
        )
    with stage.step("A dispute at the airline's counter"):
        start = time.perf_counter()
        said = counters["airline_booking"].ask(
            people.disputing, dispute="The debt was paid in full in March; the receipt is with the court."
        )
        stage.expect(said["suspended"] and said["case_number"], f"case {said['case_number']}: enforcement suspended")
        cleared = counters["train_booking"].ask_until("CLEAR", people.disputing, service["train_booking"])
        took = (time.perf_counter() - start) * 1000
        stage.expect(
            cleared["reason"] == "LIFTED", f"train_booking: {cleared['action']}, {took:.0f} ms after the dispute was opened at the airline"
        )
    with stage.step("The court releases somebody"):
        said = counters["airline_booking"].ask(people.released)
        stage.expect(said["verdict"] == "RESTRICTED", "airline_booking: refused before")
        start = time.perf_counter()
        release(folder, said["restriction_ids"])
        for program, counter in counters.items():
            cleared = counter.ask_until("CLEAR", people.released, service[program])
            took = (time.perf_counter() - start) * 1000
            stage.expect(cleared["action"] == SOLD[program], f"{program}: {cleared['action']}, {took:.0f} ms after the release was begun")


def release(folder: Path, restriction_ids: list[str]) -> None:
    """What the court's clerk does."""
    config = folder / "operator" / "tipstaff-server.toml"
    for restriction_id in restriction_ids:
        command(
            "tipstaff_server",
            "release",
            "--config",
            config,
            restriction_id,
            "--reason",
            "obligation performed",
            log=folder / "operator.log",
        )


def statistics(stage: Stage, folder: Path) -> None:
    """What supervision sees: counts, nobody's name."""
    config = folder / "operator" / "tipstaff-server.toml"
    with stage.step("Statistics, after the counters have closed and sent what they had"):
        rows = json.loads(command("tipstaff_server", "stats", "--config", config, "--json", log=folder / "operator.log"))["measures"]
        CONSOLE.print(command("tipstaff_server", "stats", "--config", config, log=folder / "operator.log"), end="")
        outcomes = {(row["provider_id"], outcome) for row in rows for outcome in row["outcomes"]}
        wanted = {("skyline-air", "DENIED"), ("riverside-rail", "DOWNGRADED"), ("lantern-hotels", "DENIED"), ("harbour-bank", "SURCHARGED")}
        stage.expect(wanted <= outcomes, "every provider's outcome arrived")
        stage.expect(len(rows) == len(COUNTERS) and all(row["checked"] >= 3 for row in rows), "every check was counted")


def main() -> int:
    """Run the demo; the exit status says whether every expectation held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("build/demo"), help="made anew, kept for you to look at")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.perf_counter()
    stage = Stage()
    listed, address = prepare(stage, folder, arguments.subjects)
    people = choose(listed, folder / "clear.csv")
    operator = folder / "operator"
    with ExitStack() as running:
        with stage.step(f"The server, a process of its own, on {address} over mutual TLS"):
            ready = folder / "ready"
            running.enter_context(
                Process(
                    "tipstaff_server",
                    "serve",
                    "--config",
                    operator / "tipstaff-server.toml",
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
                    program: open_counters.enter_context(Counter(program, operator / "providers" / provider, folder / f"{program}.log"))
                    for program, (_, provider, *_) in COUNTERS.items()
                }
                stage.expect(all(counter.receive()["ready"] for counter in counters.values()), "all ready")
            story(stage, folder, people, counters)
        statistics(stage, folder)
    CONSOLE.print(f"{time.perf_counter() - began:.1f} s in all; logs and state are in {folder}")
    if stage.failed:
        CONSOLE.print(f"demo: {stage.failed} expectations failed")
        return 1
    CONSOLE.print("demo: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
