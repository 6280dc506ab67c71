"""One file for a site without a network: made where there is one, carried, taken in there with the
same verification as ever.

The file holds what is published for the audience, and no key: the epoch key goes to such a site by
another way, into `key_store = "file"`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tipstaff_sdk import errors
from tipstaff_sdk.sync.loaded import role_names
from tipstaff_signing import DirectoryFetcher, Reader
from tipstaff_signing import errors as signing_errors
from tipstaff_signing.files import fsync_dir
from tipstaff_signing.model import utc_now
from tipstaff_signing.reader.mirror import pack, survey, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime

    from tipstaff_sdk.settings import Settings
    from tipstaff_signing import Fetcher, VerifiedState

__all__ = ["export_bundle", "import_bundle"]


def export_bundle(settings: Settings, fetcher: Fetcher, file: Path) -> int:
    """Write what a source has now into one file, whole or not at all. Returns the version.

    Raises:
        UntrustedError: the source must not be believed. TransportError: it did not deliver.
            StorageError: the disk refused.
    """
    aside = file.with_name(f".{file.name}.new")
    with _ours(file):
        copy = survey(fetcher, settings.read("trusted_root_file"), settings.audience)
        aside.unlink(missing_ok=True)
        try:
            with aside.open("xb") as stream:
                pack(copy, fetcher, stream)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(file)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        fsync_dir(file.absolute().parent)
    return copy.version


def import_bundle(
    settings: Settings, file: Path, *, clock: Callable[[], datetime] = utc_now
) -> VerifiedState:
    """Take a bundle into this provider's state. What was in force stays when it is not believed.

    Raises:
        UntrustedError: it must not be believed, or is older than what is in force. StorageError: it
            cannot be read, or the disk refused.
    """
    with _ours(file):
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".bundle-", dir=settings.state_dir))
        try:
            with file.open("rb") as stream:
                unpack(stream, folder)
            reader = Reader(
                settings.state_dir / "verified",
                view=settings.audience,
                trusted_root=settings.read("trusted_root_file"),
                roles=role_names(settings.audience),
                clock=clock,
            )
            return reader.refresh(DirectoryFetcher(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _ours(file: Path) -> Generator[None]:
    """The errors of signing as ours."""
    try:
        yield
    except signing_errors.FetchError as error:
        if isinstance(error.__cause__, errors.TransportError):
            raise error.__cause__ from error
        raise errors.UnavailableError(str(error)) from error
    except signing_errors.TrustError as error:
        raise errors.UntrustedError(str(error)) from error
    except signing_errors.StateError as error:
        raise errors.StorageError(str(error)) from error
    except OSError as error:
        raise errors.StorageError(
            f"{file}: {error.strerror or type(error).__name__}; check the path and the disk"
        ) from error
