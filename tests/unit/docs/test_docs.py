"""The documents say what is there: links, anchors, modules, names, folders, decisions.

Each rule is a function from text to what is wrong with it, and is tried with a wrong text as well.
"""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
TOP = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP), *sorted(DOCS.rglob("*.md"))]
PACKAGES = (
    "bloom/tipstaff_bloom",
    "signing/tipstaff_signing",
    "sdk_python/tipstaff_sdk",
    "server/tipstaff_server",
)
# A path may leave out the folder of its package, or the package as well.
BASES = ("", *(str(Path(package).parent) for package in PACKAGES), *PACKAGES)
SOURCES = (*(Path(package).parts[0] for package in PACKAGES), "tests", "examples", "benchmarks")
WIDTH = 120


# What is wrong with a text


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without blocks of code and tables."""
    fenced = code = False
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            code = line.startswith("    ") and (code or not before.strip())
            if not code and not line.lstrip().startswith("|"):
                yield number, line
        before = line


def wide_lines(text: str) -> list[int]:
    """Numbers of the lines of prose that are too wide."""
    return [number for number, line in prose(text) if len(line) > WIDTH]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings; the same heading again gets a number."""
    found: dict[str, int] = {}
    for _, line in prose(text):
        if heading := re.fullmatch(r"#{1,6} +(.+)", line):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "")
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            times = found[slug] = found.get(slug, -1) + 1
            if times:
                found[f"{slug}-{times}"] = 0
    return set(found)


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links and anchors that lead nowhere."""
    broken: list[str] = []
    without_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        if not to.exists() or (
            anchor and anchor not in anchors(text if to == page else to.read_text("utf-8"))
        ):
            broken.append(target)
    return broken


@cache
def source_names() -> frozenset[str]:
    """The names of all our Python files."""
    folders = [*SOURCES, "proto"]
    return frozenset(path.name for name in folders for path in (ROOT / name).rglob("*.py"))


def module_file(path: str) -> Path | None:
    """The file that a document means by a path; None when there is no such file."""
    files = (ROOT / base / path for base in BASES)
    return next((file for file in files if file.is_file()), None)


def missing_modules(page: Path, text: str) -> list[str]:
    """Python files that are named and do not exist."""
    return [
        path
        for path in re.findall(r"(?<![\w/.*-])(?:\.\./)*[\w/]*\w\.py\b", text)
        if (path not in source_names() if "/" not in path else module_file(path) is None)
        and not (page.parent / path).is_file()
    ]


def missing_names(text: str) -> list[str]:
    """Dotted names of our packages that cannot be imported."""
    named = re.findall(r"\btipstaff_(?:bloom|signing|sdk|server)(?:\.\w+)+", text)
    return [name for name in named if not name.endswith(".py") and not _imports(name)]


def _imports(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = ".".join(parts[:count])
        try:
            thing: object = import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # something that the module itself needs
            continue
        for attribute in parts[count:]:
            if not hasattr(thing, attribute):
                return False
            thing = getattr(thing, attribute)
        return True
    return False


def missing_symbols(text: str) -> list[str]:
    """What a text says is in a module ("`X.y` in `a/b.py`") and is not."""
    said = re.findall(r"`([A-Za-z_][\w.]*)`\s+(?:in|of)\s+`([\w/]+\.py)`", text)
    return [
        f"{symbol} in {path}"
        for symbol, path in said
        if (file := module_file(path)) is None or symbol not in symbols(file)
    ]


@cache
def symbols(file: Path) -> frozenset[str]:
    """Functions, classes and constants of a module; methods with and without their class."""
    names: set[str] = set()
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, definitions):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{item.name}" for item in node.body if isinstance(item, definitions)
            }
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(names)


def folders() -> list[str]:
    """Every folder of our packages that holds Python files."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return sorted({file.parent.relative_to(ROOT).as_posix() for file in files})


def folders_without_line(text: str) -> list[str]:
    """Folders that have no line of their own in the tables of the architecture."""
    named = re.findall(r"^\| `([\w/]+)` \| \S", text, flags=re.MULTILINE)
    return [folder for folder in folders() if named.count(folder) != 1]


def folders_that_are_gone(text: str) -> list[str]:
    """Folders in those tables that do not exist."""
    named = re.findall(r"^\| `(\w+/[\w/]+)` \| \S", text, flags=re.MULTILINE)
    return [folder for folder in named if not (ROOT / folder).is_dir()]


def decisions_not_listed(text: str) -> list[str]:
    """Decisions without a line in their README; a line has the page's own title."""
    missing: list[str] = []
    for page in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        number = page.name[:4]
        title = page.read_text("utf-8").splitlines()[0].removeprefix(f"# {number} ")
        if f"| [{number}]({page.name}) | {title} |" not in text.splitlines():
            missing.append(page.name)
    return missing


def pages_not_named(folder: Path, text: str, base: Path) -> list[str]:
    """Pages of a folder, without those below it, that a text has no link to."""
    linked = {(base / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)", text)}
    return [page.name for page in sorted(folder.glob("*.md")) if page.resolve() not in linked]


def missing_targets(text: str) -> list[str]:
    """Targets that a text tells to `make` and the Makefile does not have."""
    targets = re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), flags=re.MULTILINE)
    return [name for name in re.findall(r"`make ([a-z-]+)", text) if name not in targets]


def layers_said(text: str, heading: str) -> list[list[str]]:
    """The layers in the table under a heading, from the top; those beside each other sorted."""
    table = text.partition(f"### {heading}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| (`.+?) \| ", table, flags=re.MULTILINE)
    return [sorted(re.findall(r"`(\w+)`", row)) for row in rows]


def layers_checked(package: str) -> list[list[str]]:
    """The layers of a package's import contract."""
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(item["layers"] for item in contracts if item.get("containers") == [package])
    return [sorted(names) for names in (re.findall(r"\w+", layer) for layer in layers)]


# The documents as they are


def read(page: Path) -> str:
    return page.read_text("utf-8")


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    assert broken_links(page, read(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_modules_and_names_exist(page: Path) -> None:
    text = read(page)
    assert missing_modules(page, text) == []
    assert missing_names(text) == []
    assert missing_symbols(text) == []
    assert missing_targets(text) == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_line_is_too_wide(page: Path) -> None:
    assert wide_lines(read(page)) == []


def test_every_folder_has_its_line_in_the_architecture() -> None:
    text = read(DOCS / "architecture.md")
    assert folders_without_line(text) == []
    assert folders_that_are_gone(text) == []


@pytest.mark.parametrize(
    ("heading", "package"),
    [("Inside the server", "tipstaff_server"), ("Inside the SDK", "tipstaff_sdk")],
)
def test_layers_are_those_of_the_import_contract(heading: str, package: str) -> None:
    assert layers_said(read(DOCS / "architecture.md"), heading) == layers_checked(package)


def test_every_decision_is_listed_under_its_title() -> None:
    assert decisions_not_listed(read(DOCS / "decisions" / "README.md")) == []


def test_every_page_is_in_the_index_and_every_format_in_formats() -> None:
    index = read(DOCS / "index.md")
    assert pages_not_named(DOCS, index, DOCS) == ["index.md"]
    assert pages_not_named(DOCS / "formats", index, DOCS) == []
    assert pages_not_named(DOCS / "formats", read(DOCS / "formats.md"), DOCS) == []


def test_policy_has_each_mechanism_once() -> None:
    numbers = re.findall(r"^### P(\d+)\. ", read(DOCS / "policy.md"), flags=re.MULTILINE)
    assert sorted(map(int, numbers)) == list(range(1, 21))


# The rules, with wrong texts

HERE = DOCS / "index.md"


@pytest.mark.parametrize(
    ("target", "is_broken"),
    [
        ("architecture.md", False),
        ("architecture.md#layers", False),
        ("#a-title", False),
        ("#a-title-1", False),
        ("https://example.com/nowhere.md", False),
        ("nowhere.md", True),
        ("architecture.md#nowhere", True),
        ("#nowhere", True),
        ("#a-title-2", True),
        ("#a-comment-in-code", True),
    ],
)
def test_a_broken_link_is_found(target: str, is_broken: bool) -> None:
    text = f"# A `title`\n\n## A title\n\n[x]({target})\n\n```sh\n# A comment in code\n```\n"
    assert broken_links(HERE, text) == ([target] if is_broken else [])


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (missing_names, "`tipstaff_sdk.Screener.check`", "tipstaff_sdk.Screener.chekc"),
        (missing_names, "tipstaff_server.rpc.gate", "tipstaff_server.gate"),
        (missing_symbols, "`Gate` in `rpc/gate.py`", "`Gaet` in `rpc/gate.py`"),
        (missing_symbols, "`Gate` in\n`rpc/gate.py`", "`Gate` in `gate/rpc.py`"),
        (missing_symbols, "`Unit.lift` in `registry/unit.py`", "`Gate.lift` in `registry/unit.py`"),
        (missing_targets, "`make lint`", "`make lnt`"),
        (wide_lines, "x" * WIDTH, "x" * (WIDTH + 1)),
        (wide_lines, f"```\n{'x' * 200}\n```", f"```\nx\n```\n{'x' * 200}"),
        (wide_lines, f"text\n\n    {'x' * 200}", f"- text\n    {'x' * 200}"),
        (wide_lines, f"| {'x' * 200} |", f"- | {'x' * 200} |"),
    ],
)
def test_a_wrong_text_is_found(rule: Callable[[str], list[object]], right: str, wrong: str) -> None:
    assert rule(right) == []
    assert len(rule(wrong)) == 1


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (
            "`tests/unit/docs/test_docs.py`, `rpc/gate.py`, `tipstaff_sdk/screener.py`, `gate.py`",
            [],
        ),
        ("[x](../server/tipstaff_server/rpc/gate.py)", []),
        ("`rpc/gaet.py`", ["rpc/gaet.py"]),
        ("`server/gate.py`", ["server/gate.py"]),
        ("gaet.py", ["gaet.py"]),
    ],
)
def test_a_missing_module_is_found(text: str, missing: list[str]) -> None:
    assert missing_modules(HERE, text) == missing


def test_a_missing_line_of_an_index_is_found() -> None:
    architecture, decisions = read(DOCS / "architecture.md"), read(DOCS / "decisions" / "README.md")
    folder = "server/tipstaff_server/rpc"
    assert folders_without_line(architecture.replace(f"| `{folder}` |", "| `x` |")) == [folder]
    assert folders_that_are_gone(f"| `{folder}x` | what is gone |") == [f"{folder}x"]
    for line in decisions.splitlines():
        if line.startswith("| [0"):
            assert len(decisions_not_listed(decisions.replace(line, ""))) == 1
            assert len(decisions_not_listed(decisions.replace(line, f"{line[:-2]}x |"))) == 1
    assert "book.md" in pages_not_named(DOCS / "formats", "[x](formats/pack.md)", DOCS)
