"""Runs python-tuf's client workflow (tuf.ngclient) over a fetcher of ours, in a private copy of the
metadata.

Imported when first needed: the workflow brings an HTTP library with it that is never used.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from tuf.api import exceptions as tuf
from tuf.api.serialization import DeserializationError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from tipstaff_signing.chain import check_json, check_view
from tipstaff_signing.errors import (
    ExpiredError,
    FetchError,
    MetadataFormatError,
    MismatchError,
    NotFoundError,
    RollbackError,
    SignatureError,
    TooLargeError,
    TrustError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tipstaff_signing.model import Limits
    from tipstaff_signing.reader.fetchers import Fetcher
    from tipstaff_signing.tuf_names import TargetFile

__all__ = ["PlainWorkflow", "collect", "lay_out", "run_workflow"]

_BASE = "tipstaff:metadata/"
_HISTORY = "root_history"


def lay_out(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put metadata where the workflow looks for what it already has: roots by number in their own
    folder, the rest without numbers.
    """
    (folder / _HISTORY).mkdir(parents=True)
    for name, data in files.items():
        (folder / _HISTORY / name if name.endswith(".root.json") else folder / name).write_bytes(
            data
        )


def collect(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """What the workflow left: every root by number, and the named metadata as far as they are
    there.
    """
    files = {path.name: path.read_bytes() for path in (folder / _HISTORY).glob("*.root.json")}
    for name in names:
        path = folder / f"{name}.json"
        if path.is_file():
            files[path.name] = path.read_bytes()
    return files


def run_workflow(
    folder: Path,
    trusted_root: bytes,
    fetcher: Fetcher,
    *,
    view: str,
    roles: Sequence[str],
    now: datetime,
    limits: Limits,
) -> None:
    """The detailed client workflow of the TUF specification, 5.3 to 5.6, for the top-level and some
    delegated roles.

    Raises:
        TrustError: something must not be believed.
        FetchError: something could not be had.
        OSError: the private copy could not be written.
    """
    with _translated():
        updater = _updater(folder, trusted_root, fetcher, view, now, limits)
        updater.refresh()
        for role in roles:
            # Looking up any path of the role's makes the workflow fetch and verify the role itself.
            updater.get_targetinfo(_some_path_of(role, folder))


class PlainWorkflow:
    """The same for a repository that is not ours, a step at a time; raises as run_workflow."""

    def __init__(
        self, folder: Path, trusted_root: bytes, fetcher: Fetcher, *, now: datetime, limits: Limits
    ) -> None:
        with _translated():
            self._updater = _updater(folder, trusted_root, fetcher, None, now, limits)

    def refresh(self) -> None:
        """The top-level roles (5.3 to 5.6)."""
        with _translated():
            self._updater.refresh()

    def find(self, path: str) -> TargetFile | None:
        """Search delegations of any depth for what is signed of a target path (5.6.7).

        None: nobody who may has signed it.
        """
        with _translated():
            return self._updater.get_targetinfo(path)


def _updater(
    folder: Path,
    trusted_root: bytes,
    fetcher: Fetcher,
    view: str | None,
    now: datetime,
    limits: Limits,
) -> _Updater:
    config = UpdaterConfig(
        max_root_rotations=limits.root_rotations,
        root_max_length=limits.root_bytes,
        timestamp_max_length=limits.timestamp_bytes,
        snapshot_max_length=limits.snapshot_bytes,
        targets_max_length=limits.targets_bytes,
    )
    updater = _Updater(
        str(folder),
        _BASE,
        fetcher=_Source(fetcher, view, limits),
        config=config,
        bootstrap=trusted_root,
    )
    updater.judge_at(now)
    return updater


class _Updater(Updater):
    """The workflow with a clock of ours."""

    def judge_at(self, now: datetime) -> None:
        """Judge expiry at `now`; python-tuf has no public way to say so. chain.py and floor.py do
        not depend on it.
        """
        self._trusted_set.reference_time = now


class _Source(FetcherInterface):
    """python-tuf's fetcher interface over ours: caps, well-formedness and the view come first, and
    every failure is one of ours.
    """

    def __init__(self, fetcher: Fetcher, view: str | None, limits: Limits) -> None:
        self._fetcher = fetcher
        self._view = view
        self._largest = max(
            limits.root_bytes, limits.timestamp_bytes, limits.snapshot_bytes, limits.targets_bytes
        )

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """One metadata file, in memory."""
        name = url.removeprefix(_BASE)
        limit = min(max_length, self._largest)
        try:
            data = self._fetcher.metadata(name, limit)
        except NotFoundError as error:
            if name.endswith(
                ".root.json"
            ):  # there is no newer root: the workflow wants to hear it like this
                raise tuf.DownloadHTTPError("no newer root", 404) from error
            raise
        except FetchError:
            raise
        except Exception as error:
            raise UnavailableError(
                f"{name} could not be fetched ({type(error).__name__}): check the connection and"
                " try again"
            ) from error
        if len(data) > limit:
            raise TooLargeError(
                f"{name} is larger than {limit} bytes: it is not what it should be, ask the"
                " operator"
            )
        self._check(check_json(data, name), name)
        return data

    def _check(self, content: object, name: str) -> None:
        """Refuse another audience's files by name, before version numbers of two audiences are
        compared. chain.py does so for good.
        """
        if self._view is not None and name.endswith(("timestamp.json", "snapshot.json")):
            signed = (
                cast("dict[str, object]", content).get("signed")
                if isinstance(content, dict)
                else None
            )
            if isinstance(signed, dict):
                check_view(cast("dict[str, object]", signed), self._view, name)

    def _fetch(self, url: str) -> Iterator[bytes]:
        """The interface's own hook, for streams; the workflow above only asks for whole metadata
        files.
        """
        yield self.download_bytes(url, self._largest)


def _some_path_of(role: str, folder: Path) -> str:
    targets = cast(
        "dict[str, dict[str, dict[str, list[dict[str, object]]]]]",
        json.loads((folder / "targets.json").read_bytes()),
    )
    for delegation in targets["signed"].get("delegations", {}).get("roles", []):
        if delegation["name"] == role:
            for pattern in cast("list[str]", delegation.get("paths", [])):
                return pattern.replace("*", "any")
    raise TrustError(
        f"{role} is not a role of this repository: check the audience in the configuration, and ask"
        " the operator"
    )


@contextmanager
def _translated() -> Generator[None]:
    """python-tuf's errors as ours. Anything of ours, and OSErrors, pass."""
    try:
        yield
    except tuf.ExpiredMetadataError as error:
        raise ExpiredError(
            f"the source only has expired data ({error}): it is held back or no longer maintained;"
            " ask the operator"
        ) from error
    except tuf.BadVersionNumberError as error:
        raise RollbackError(f"the source is behind, or replays old data ({error})") from error
    except tuf.UnsignedMetadataError as error:
        raise SignatureError(
            f"not signed by enough of its keys ({error}): do not use this source, and ask the"
            " operator"
        ) from error
    except tuf.LengthOrHashMismatchError as error:
        raise MismatchError(
            f"parts of different versions are mixed ({error}): refresh again"
        ) from error
    except DeserializationError as error:
        raise MetadataFormatError(
            f"not well-formed metadata ({error}): the sender is not a Tipstaff repository, or it"
            " was altered"
        ) from error
    except (
        tuf.RepositoryError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise TrustError(
            f"the metadata contradicts itself ({type(error).__name__}): do not use this source, and"
            " ask the operator"
        ) from error
    except tuf.DownloadError as error:
        raise UnavailableError(
            f"metadata could not be fetched ({error}): check the connection and try again"
        ) from error
