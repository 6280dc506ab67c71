"""A PKCS#11 token for tests: SoftHSM, which a system's package manager brings (`softhsm2`)."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
PIN = "4711-4711"


def missing() -> str | None:
    """Returns why there is no token here, or None when there is one."""
    if find_spec("pkcs11") is None:
        return "python-pkcs11 is not installed: pip install 'tipstaff[pkcs11]'"
    if _module() is None or shutil.which("softhsm2-util") is None:
        return (
            "SoftHSM is not installed: apt-get install softhsm2 (.ci/run does), or brew install"
            " softhsm"
        )
    return None


def _module() -> Path | None:
    return next((Path(place) for place in PLACES if Path(place).is_file()), None)


@dataclass(frozen=True)
class Tokens:
    """SoftHSM over a folder of its own, made once: a process reads the setting when it first loads
    the library.
    """

    folder: Path
    module: Path

    @classmethod
    def make(cls, folder: Path) -> Tokens:
        """Makes an empty one. Only where `missing()` is None."""
        module = _module()
        assert module is not None
        (folder / "tokens").mkdir()
        configuration = folder / "softhsm2.conf"
        configuration.write_text(
            f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level ="
            " ERROR\n"
        )
        os.environ["SOFTHSM2_CONF"] = str(configuration)
        return cls(folder, module)

    def token(self, label: str, *keys: str) -> None:
        """Makes a token with AES keys of 256 bits that cannot leave it."""
        initialise = [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            label,
            "--pin",
            PIN,
            "--so-pin",
            "0815-0815",
        ]
        subprocess.run(initialise, check=True, capture_output=True)
        library: Any = import_module("pkcs11")
        loaded = library.lib(str(self.module))
        loaded.reinitialize()
        with loaded.get_token(token_label=label).open(rw=True, user_pin=PIN) as session:
            for key in keys:
                session.generate_key(library.KeyType.AES, 256, label=key, store=True)

    def remove(self, label: str) -> None:
        """Deletes a token."""
        subprocess.run(
            ["softhsm2-util", "--delete-token", "--token", label], check=True, capture_output=True
        )
        import_module("pkcs11").lib(str(self.module)).reinitialize()
