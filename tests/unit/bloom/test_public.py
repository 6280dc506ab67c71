"""The public surface of tipstaff_bloom and its error tree."""

import doctest
import inspect

import pytest

import tipstaff_bloom
from tipstaff_bloom import errors


def test_exported_names_are_exactly_these() -> None:
    assert tipstaff_bloom.__all__ == [
        "BloomError",
        "BloomFilter",
        "CapacityError",
        "ClosedError",
        "DeltaBaseError",
        "DeltaDigestError",
        "DeltaError",
        "DeltaFormatError",
        "DeltaSizeError",
        "EpochMismatchError",
        "FormatError",
        "GeometryMismatchError",
        "LedgerError",
        "TokenError",
        "TokenLedger",
        "diff",
    ]
    assert all(hasattr(tipstaff_bloom, name) for name in tipstaff_bloom.__all__)


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    classes = {
        name: cls
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, Exception)
    }
    assert all(issubclass(cls, tipstaff_bloom.BloomError) for cls in classes.values())
    assert set(classes) <= set(tipstaff_bloom.__all__)
    for name in classes:
        assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        ("EpochMismatchError", "GeometryMismatchError"),
        ("DeltaFormatError", "DeltaError"),
        ("DeltaBaseError", "DeltaError"),
        ("DeltaDigestError", "DeltaError"),
        ("DeltaSizeError", "DeltaError"),
    ],
)
def test_catching_the_parent_catches_the_child(child: str, parent: str) -> None:
    assert issubclass(getattr(errors, child), getattr(errors, parent))


def test_the_example_in_the_package_docstring_runs() -> None:
    results = doctest.testmod(tipstaff_bloom)
    assert (results.failed, results.attempted > 0) == (0, True)
