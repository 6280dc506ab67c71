"""What the README tells people to type works as it is printed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = ("README.md", "README.zh-CN.md")


def shell_lines(text: str) -> list[str]:
    """The operator's commands: indented lines from `pip install 'tipstaff[server]'` to `serve`,
    without comments.
    """
    lines = [line.split("  #")[0].strip() for line in text.splitlines() if line.startswith("    ")]
    start = lines.index("pip install 'tipstaff[server]'")
    return lines[start + 1 : lines.index("tipstaff-server serve")]


def python_example(text: str) -> str:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]


@pytest.mark.parametrize("name", READMES)
def test_links_and_pictures_are_there(name: str):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [
        target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target
    ]
    assert links
    assert [target for target in links if target and not (ROOT / target).exists()] == []


def test_both_languages_show_the_same_commands_and_code():
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in READMES)
    assert shell_lines(english) == shell_lines(chinese)
    assert python_example(english) == python_example(chinese)


def test_readme_commands_and_example_run_as_printed(tmp_path: Path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # A free port instead of the printed configuration's own, which may be in use here.
        "TIPSTAFF_SERVER__SERVER__LISTEN": address,
        "TIPSTAFF_SERVER": address,
        # The cheapest, because a thousand people at the usual cost take ten seconds.
        "TIPSTAFF_SERVER__STRETCH__N": "2",
    }
    script = "\n".join(["set -eu", *shell_lines(text)])
    subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (tmp_path / "example.py").write_text(python_example(text), encoding="utf-8")
    server = subprocess.Popen(
        ["tipstaff-server", "serve", "--ready-file", str(tmp_path / "ready")],
        cwd=tmp_path / "operator",
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = subprocess.run(
            [sys.executable, "example.py"],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        server.terminate()
        server.wait(20)
    assert done.returncode == 0, done.stderr
    assert "CLEAR" in done.stdout
    assert "NOT_LISTED" in done.stdout
