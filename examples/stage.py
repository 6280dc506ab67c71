"""What the demo stands on: numbered steps with timings, expectations that are counted, and child
processes that are always ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from types import TracebackType

CONSOLE = Console(highlight=False, soft_wrap=True)
PATIENCE_S = (
    10.0  # how long relief may take before the demo calls it lost; a second is what is promised
)


class Stage:
    """Prints steps, counts failed expectations."""

    def __init__(self) -> None:
        self.failed = 0
        self._step = 0

    @contextmanager
    def step(self, title: str) -> Generator[None]:
        """One step; its wall time is printed when it ends."""
        self._step += 1
        CONSOLE.print(f"[bold]{self._step:>2}. {title}[/bold]")
        start = time.perf_counter()
        yield
        CONSOLE.print(f"    [dim]{time.perf_counter() - start:.2f} s[/dim]")

    def expect(self, held: object, what: str) -> None:
        """Print what was expected and whether it held; a failure makes the demo fail at its end."""
        if held:
            CONSOLE.print(f"    [green]✓[/green] {what}")
        else:
            self.failed += 1
            CONSOLE.print(f"    [red]✗ {what}[/red]")


def command(*arguments: str | Path, log: Path) -> str:
    """Run one of our commands, keep what it says on standard error in `log`, and return its
    standard output.
    """
    with log.open("ab") as stderr:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=False,
            text=True,
        )
    if done.returncode != 0:
        raise SystemExit(
            f"{' '.join(map(str, arguments[:3]))} failed with {done.returncode}; see {log}"
        )
    return done.stdout


class Process:
    """A child process, ended with the block."""

    def __init__(self, *arguments: str | Path, log: Path) -> None:
        self._log = log.open("ab")
        self.child = subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        if self.child.stdin is None or self.child.stdout is None:
            raise RuntimeError("pipes were asked for")  # unreachable; tells the type checker so
        self.requests, self.answers = self.child.stdin, self.child.stdout

    def __enter__(self) -> Self:
        """Started already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, and wait until it has."""
        self.requests.close()
        self.end()
        try:
            self.child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.answers.close()
        self._log.close()

    def end(self) -> None:
        """As an operator ends a service."""
        self.child.terminate()


class Counter(Process):
    """One of the example programs: a request in, an answer out."""

    def __init__(self, program: str, kit: Path, log: Path) -> None:
        super().__init__(f"examples.{program}", kit / "tipstaff.toml", log=log)
        self.program = program
        self._log_path = log

    def end(self) -> None:
        """Nothing more to do: a counter ends with its input, when it has sent what it had."""

    def receive(self) -> dict[str, Any]:
        """The next answer line."""
        line = self.answers.readline()
        if not line:
            raise SystemExit(f"{self.program} ended early; see {self._log_path}")
        received: dict[str, Any] = json.loads(line)
        return received

    def ask(
        self,
        person: dict[str, str],
        service: dict[str, str | float] | None = None,
        dispute: str | None = None,
    ) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        return self.send({**person, "service": service or {}, "dispute": dispute})

    def send(self, request: dict[str, Any]) -> dict[str, Any]:
        """Any request, and its answer."""
        self.requests.write(json.dumps(request, ensure_ascii=False) + "\n")
        self.requests.flush()
        return self.receive()

    def remedies_of(self, restriction_id: str) -> int:
        """How many acts this counter has to make good for one restriction; asks again and again
        until there are some, or patience ends.
        """
        deadline = time.perf_counter() + PATIENCE_S
        while True:
            owed = self.send({"make_good": True})["remedies"]
            acts: int = sum(
                remedy["acts"] for remedy in owed if remedy["restriction_id"] == restriction_id
            )
            if acts or time.perf_counter() > deadline:
                return acts
            time.sleep(0.02)

    def ask_until(
        self, verdict: str, person: dict[str, str], service: dict[str, str | float] | None = None
    ) -> dict[str, Any]:
        """Ask again and again until the verdict comes, or patience ends; the answer is the last
        one.
        """
        deadline = time.perf_counter() + PATIENCE_S
        while True:
            said = self.ask(person, service)
            if said["verdict"] == verdict or time.perf_counter() > deadline:
                return said
            time.sleep(0.005)
