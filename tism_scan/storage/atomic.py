"""Files to be written: checked before the work, and put in place when they are whole."""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tism_scan.errors import ExportError, StorageFullError

SCORE_SUFFIXES = (".npz", ".tsv")
PICTURE_SUFFIXES = (".png", ".svg", ".pdf")


def check_target(path: Path, suffixes: Sequence[str]) -> None:
    """Raise unless a file can be written at a path, as far as can be told before the work.

    Raises
    ------
    ExportError
        If the name has another suffix, or its folder is not there or cannot be written to.
    """
    folder = path.absolute().parent
    if path.suffix.lower() not in suffixes:
        raise ExportError(
            f"{str(path)!r} has the suffix {path.suffix!r}; expected {', '.join(suffixes)}; rename it"
        )
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ExportError(
            f"cannot write {str(path)!r}; expected a folder that is there and can be written to; make "
            f"{str(folder)!r}, or choose another place"
        )


@contextmanager
def replaced_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` once it is whole.

    Raises
    ------
    ExportError
        If it cannot be written; what was there before stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise ExportError(
            f"cannot write {str(path)!r}: {error.strerror}; expected room in a folder that can be written "
            "to; choose another place"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Turn a full disk or an exhausted quota into an error that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"no room left to write {path}; what is finished is kept: make room and run the same command "
                "again"
            ) from None
        raise


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
