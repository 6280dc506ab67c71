"""A Python that starts at once: `python()` is a program that takes the command lines of
`sys.executable`, but runs them in a process that is forked from one that has imported everything.

    subprocess.run([python(), "-m", "tipstaff_server", "--help"])
    multiprocessing.set_executable(python())    # "spawn" then starts its processes this way

Importing is most of what a start takes (two seconds of processor time for the server, some
hundreds of times). A process that is started this way has its own environment, folder and open
files, as if started from a shell. What a real start is, is tested elsewhere (test_readme,
test_commands).

    program --(command line, environment, open files)--> server --fork--> keeper --fork--> process

The program waits for the process and ends as it did; signals that it gets go on to the process, and
the keeper kills the process when the program is killed.
"""

from __future__ import annotations

import array
import atexit
import fcntl
import gc
import os
import pickle
import runpy
import select
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from tests.support.folders import scratch

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MAX_FILES = 250
PRELOADED = (
    "pytest",
    "tests.support.server",
    "tests.support.provider_world",
    "tipstaff_sdk.screener",
)
# Starts in a hundredth of a second: nothing but built-in modules, no site-packages.
PROGRAM = """#!{python} -ISs
import array, os, pickle, signal, socket, struct, sys
SIGNALS = {signals}
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
files = sorted(int(name) for name in os.listdir("/proc/self/fd"))
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
def is_open(file):
    return file != server.fileno() and os.path.exists(f"/proc/self/fd/{{file}}")
files = list(filter(is_open, files))
what = pickle.dumps((sys.argv, dict(os.environ), os.getcwd(), files))
passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))
server.sendmsg([struct.pack("!i", len(what))], [passed])
server.sendall(what)
for file in files:
    os.close(file)
def forward(number, _frame):
    server.sendall(struct.pack("!i", number))
for number in SIGNALS:
    signal.signal(number, forward)
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
answer = server.recv(4)
status = struct.unpack("!i", answer)[0] if answer else 1
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@cache
def python() -> str:
    """Returns the path of the program. Its server runs as long as this process does."""
    folder = scratch()
    atexit.register(shutil.rmtree, folder)
    address = str(folder / "socket")
    ours, theirs = socket.socketpair()
    server = subprocess.Popen(
        [sys.executable, "-m", __name__, address, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    assert ours.recv(1), "the server of prepared processes did not start"

    def end() -> None:
        ours.close()
        server.wait(20)

    atexit.register(end)
    program = folder / "python"
    signals = tuple(map(int, SIGNALS))
    program.write_text(
        PROGRAM.format(python=os.path.realpath(sys.executable), address=address, signals=signals)
    )
    program.chmod(0o700)
    return str(program)


def _serve(address: str, owner: socket.socket) -> None:
    """Starts a process for each request, until the owner is gone."""
    for module in PRELOADED:
        import_module(module)
    for part in import_module("tipstaff_server.commands.app").PARTS:
        import_module(f"tipstaff_server.commands.{part.module}")
    gc.freeze()  # what is never looked at is never copied
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    owner.sendall(b"r")
    program = address.removesuffix("socket") + "python"
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    waiting.register(owner, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            _reap()
            if key.fileobj is owner:
                os._exit(0)
            connection, _ = listening.accept()
            if os.fork() == 0:
                waiting.close()
                listening.close()
                owner.close()
                _keep(connection, program)
            connection.close()


def _reap() -> None:
    """Waits for keepers that have ended, so that their processor time counts."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _keep(connection: socket.socket, program: str) -> NoReturn:
    """Starts the process, and ends with it. This is the keeper."""
    head, files = _receive(connection)
    what = pickle.loads(_exactly(connection, head))
    child = os.fork()
    if child == 0:
        connection.close()
        _become(program, files, *what)
    for file in files:
        os.close(file)
    for null in (0, 1, 2):
        os.close(null)
    watched = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([connection, watched], [], [])
        if watched in ready:
            _, status = os.waitpid(child, 0)
            with suppress(OSError):
                connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
            os._exit(0)
        message = connection.recv(4)
        os.kill(child, struct.unpack("!i", message)[0] if message else signal.SIGKILL)
        if not message:
            os.waitpid(child, 0)
            os._exit(0)


def _receive(connection: socket.socket) -> tuple[int, list[int]]:
    files = array.array("i")
    head, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(MAX_FILES * files.itemsize))
    for _, _, data in ancillary:
        files.frombytes(data)
    return struct.unpack("!i", head)[0], list(files)


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += connection.recv(size - len(content))
    return content


def _become(
    program: str,
    received: list[int],
    argv: list[str],
    environment: dict[str, str],
    folder: str,
    files: list[int],
) -> NoReturn:
    """Turns this process into the one that was asked for: files, environment, command line."""
    spare = [_above(file, max([*files, *received]) + 1) for file in received]
    for file, number in zip(spare, files, strict=True):
        os.dup2(file, number)
        os.set_inheritable(number, number <= 2)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.executable = program
    status = 0
    try:
        _run(argv[1:])
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001  as the interpreter does
        sys.excepthook(*sys.exc_info())
        status = 1
    # What the interpreter does at its end, but for taking apart all that is loaded.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _run(words: list[str]) -> None:
    """Runs what the command line says. Options of the interpreter are passed over."""
    while words[0].startswith("-") and words[0] not in {"-m", "-c"}:
        words = words[2 if words[0] in {"-W", "-X"} else 1 :]
    if words[0] == "-m":
        sys.path[0] = os.getcwd()  # noqa: PTH109
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *words[2:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), main.__dict__)
    else:
        sys.path[0] = os.path.dirname(words[0])  # noqa: PTH120
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def _above(file: int, least: int) -> int:
    number = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, least)
    os.close(file)
    return number


if __name__ == "__main__":
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
