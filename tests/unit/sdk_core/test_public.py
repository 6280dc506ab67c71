"""The public surface: what it is, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tipstaff_sdk
from tipstaff_sdk import errors

NAMES = [
    "Action",
    "ActionKind",
    "Availability",
    "Bilingual",
    "Capacity",
    "ClosedError",
    "ConfigurationError",
    "Decision",
    "Dispute",
    "DisputeGround",
    "DisputeProgress",
    "DisputeState",
    "Exemption",
    "Force",
    "FormatError",
    "Identifier",
    "IdentifierKind",
    "InvalidIdentifierError",
    "InvalidNameError",
    "InvalidServiceError",
    "MeasureNotCoveredError",
    "Nature",
    "NotDisputableError",
    "NotReadyError",
    "OutboxError",
    "OutboxFullError",
    "Outcome",
    "Policy",
    "Reason",
    "Remedy",
    "RemedyOutcome",
    "Restriction",
    "Screener",
    "Settings",
    "Status",
    "StorageError",
    "SyncState",
    "TipstaffError",
    "TransportError",
    "UnknownMeasureError",
    "UntrustedError",
    "Verdict",
]


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_the_names_are_pinned_and_all_there() -> None:
    assert tipstaff_sdk.__all__ == NAMES
    for name in NAMES:
        assert getattr(tipstaff_sdk, name).__name__ == name
    assert set(NAMES) <= set(dir(tipstaff_sdk))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        tipstaff_sdk.Nothing  # noqa: B018


def test_the_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(tipstaff_sdk.__file__).read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(seen) == NAMES
    homes = {name: f"tipstaff_sdk.{tipstaff_sdk._HOMES.get(name, 'errors')}" for name in NAMES}
    assert homes == seen


def test_importing_the_package_imports_next_to_nothing() -> None:
    heavy = (
        "grpc",
        "numpy",
        "cryptography",
        "google",
        "tuf",
        "stdnum",
        "tipstaff_bloom",
        "tipstaff_signing",
        "typer",
        "rich",
    )
    assert run(f"import sys, tipstaff_sdk; print(*[m for m in {heavy} if m in sys.modules])") == []


def test_the_core_imports_neither_grpc_nor_the_network() -> None:
    modules = [
        "identity.identifier", "identity.names", "listing.tokens", "listing.sealing", "packs.pack", "packs.builder",
        "listing.relief", "listing.catalogue", "listing.records", "decision.decide", "texts", "errors",
    ]  # fmt: skip
    program = (
        f"import sys, importlib\nfor m in {modules}: importlib.import_module('tipstaff_sdk.' + m)\n"
    )
    assert run(program + "print('grpc' in sys.modules, 'tuf' in sys.modules)") == ["False", "False"]


def test_every_error_has_the_one_root_and_stands_in_the_tree() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(value, errors.TipstaffError) for value in classes)
    assert errors.__doc__ is not None
    for value in classes:
        assert f" {value.__name__} " in errors.__doc__.replace("\n", " \n"), value
        assert value.__doc__


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(tipstaff_sdk.__file__).with_name("py.typed").exists()
