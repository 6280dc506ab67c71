"""The command line is put together of what is asked for, and is the same whole or in part."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer import main as typer_main

from tipstaff_server.commands.app import PARTS, CommandModule, make

WORDS = [word for part in PARTS for word in part.words]


def names(*arguments: str) -> list[str]:
    command = typer_main.get_command(make(arguments))
    return list(command.commands)  # type: ignore[attr-defined]  # a group


def test_the_table_has_every_command_in_the_order_of_the_help() -> None:
    assert names() == WORDS
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.words[0])
def test_a_command_is_found_with_its_module_alone(part: CommandModule) -> None:
    for word in part.words:
        assert names(word, "--help") == list(part.words)


@pytest.mark.parametrize("words", [("--help",), ("nonsense",), ("--nonsense", "serve")])
def test_where_no_command_is_named_all_are_there(words: tuple[str, ...]) -> None:
    assert names(*words) == WORDS


def test_a_command_does_not_import_what_only_others_need() -> None:
    program = (
        "import sys; from tipstaff_server.commands.app import make; make(['prune']);"
        " print('\\n'.join(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "tipstaff_server.commands.prune" in found
    assert not {"tipstaff_server.commands.registry.import_list", "tipstaff_server.services"} & set(
        found
    )
