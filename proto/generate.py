"""Generate the Python stubs in `proto/gen` from the .proto files.

`python proto/generate.py` writes them; `python proto/generate.py --check` writes nothing and exits
with 1 when the committed stubs
differ from what the .proto files give, naming the files.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, cast

from grpc_tools import protoc

if TYPE_CHECKING:
    from collections.abc import Callable

PROTO = Path(__file__).resolve().parent
GENERATED = PROTO / "gen"
HEADER = (
    '"""Generated from proto/tipstaff/v1 by proto/generate.py; edit the .proto files instead."""\n'
)


def generate(into: Path) -> None:
    """Write messages, services and their type stubs below `into`."""
    sources = sorted(str(path) for path in PROTO.glob("tipstaff/**/*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={PROTO}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--python_out={into}",
        f"--mypy_out=quiet:{into}",
        f"--grpc_python_out={into}",
        f"--mypy_grpc_out=quiet:{into}",
        *sources,
    ]
    # protoc looks for its plug-ins on the path; they stand beside this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if cast("Callable[[list[str]], int]", protoc.main)(arguments) != 0:  # pyright: ignore[reportUnknownMemberType]  grpc_tools has no types
        raise SystemExit("protoc failed; its messages are above")
    for package in ("tipstaff", "tipstaff/v1"):
        (into / package / "__init__.py").write_text(HEADER, encoding="utf-8")
    (into / "tipstaff" / "py.typed").touch()


def differences(left: Path, right: Path) -> list[str]:
    """Relative paths of files that only one side has, or that differ."""
    names = {
        path.relative_to(side)
        for side in (left, right)
        for path in side.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(
        str(name)
        for name in names
        if not (
            (left / name).is_file()
            and (right / name).is_file()
            and filecmp.cmp(left / name, right / name, shallow=False)
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    arguments = parser.parse_args()
    if not arguments.check:
        GENERATED.mkdir(exist_ok=True)
        generate(GENERATED)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        differing = differences(Path(folder), GENERATED)
    for name in differing:
        print(
            f"proto/gen/{name} is not what the .proto files give; run 'make proto'", file=sys.stderr
        )
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
