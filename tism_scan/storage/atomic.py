"""Files that are whole or not there: checked before the work, written aside, synced, and renamed."""

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tism_scan.errors import ExportError, StorageFullError
from tism_scan.storage.partials import partial_beside, remove_partials

SCORE_SUFFIXES = (".npz", ".tsv")
PICTURE_SUFFIXES = (".png", ".svg", ".pdf")
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_target(path: Path, suffixes: Sequence[str]) -> None:
    """Raise unless a file can be written at a path, as far as can be known before the work.

    Raises
    ------
    ExportError
        If the name has another suffix, or its folder is not there or cannot be written to.
    """
    if path.suffix.lower() not in suffixes:
        raise ExportError(
            f"{str(path)!r} has the suffix {path.suffix!r}; expected {', '.join(suffixes)}; rename it"
        )
    check_folder(path, "choose another place")


def check_folder(path: Path, otherwise: str) -> None:
    """Raise unless a file can be put at a path, as far as its folder says.

    Parameters
    ----------
    path : Path
    otherwise : str
        What to do instead of making the folder.

    Raises
    ------
    ExportError
        If the folder is not there or cannot be written to, or the path is a folder itself.
    """
    folder = path.absolute().parent
    if path.is_dir():
        fault, remedy = "it is a folder; expected the name of a file", f"add one, or {otherwise}"
    elif not folder.exists():
        fault = f"there is no folder {str(folder)!r}; expected a folder that is there"
        remedy = f"make it, or {otherwise}"
    elif not folder.is_dir():
        fault, remedy = f"{str(folder)!r} is a file; expected a folder", otherwise
    elif not os.access(folder, os.W_OK):
        fault = f"{str(folder)!r} is read-only for you; expected a folder that can be written to"
        remedy = otherwise
    else:
        return
    raise ExportError(f"cannot write {str(path)!r}: {fault}; {remedy}")


@contextmanager
def replaced_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path`, durably, once it is whole.

    Unfinished files that killed processes left in its folder are removed.

    Raises
    ------
    ExportError
        If it cannot be written; what was there before stays.
    """
    remove_partials(path.parent)
    partial = partial_beside(path)
    try:
        with open(partial, "xb") as file:
            yield file
            sync_file(file)
        put_in_place(partial, path)
    except OSError as error:
        raise ExportError(
            f"cannot write {str(path)!r}: {error.strerror}; expected room in a folder that can be written "
            "to; choose another place"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def write_chunks(chunks: Iterable[bytes], path: Path) -> str:
    """Write a file that is not there yet, durably, and return the SHA-256 of its bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        sync_file(file)
    return digest.hexdigest()


def put_in_place(partial: Path, path: Path) -> None:
    """Give a whole and synced file its name, durably; what had the name is replaced."""
    os.replace(partial, path)
    sync_path(path.parent)


def link_in_place(partial: Path, path: Path) -> bool:
    """Give a whole and synced file its name, durably, unless the name is taken; return whether it was not."""
    try:
        os.link(partial, path)
    except FileExistsError:
        # NFS repeats a request whose answer was lost, and the repeat finds the first one's link.
        if os.stat(partial).st_nlink < 2:
            return False
    sync_path(path.parent)
    return True


def sync_file(file: IO[bytes]) -> None:
    """Bring what was written into an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_path(path: Path) -> None:
    """Bring a file, or the names in a folder where the file system can, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Turn a full disk, an exhausted quota or a limit of file sizes into an error that says so.

    Raises
    ------
    StorageFullError
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            limit = _what_is_full(path, error.errno)
            raise StorageFullError(
                f"no room left to write {path} ({limit}); what is finished is kept: make room and run the "
                "same command again"
            ) from None
        raise


def _what_is_full(path: Path, number: int | None) -> str:
    """Return which limit a write met; a disk may have room for bytes, and none for another file."""
    if number == errno.EDQUOT:
        return "your quota is used up, see `quota`"
    if number == errno.EFBIG:
        return "the file is larger than allowed, see `ulimit -f`"
    folder = next((folder for folder in path.absolute().parents if folder.exists()), Path("/"))
    disk = os.statvfs(folder)
    is_out_of_names = disk.f_files > 0 and disk.f_favail == 0  # some file systems count no files
    return "the disk takes no more files, see `df -i`" if is_out_of_names else "the disk is full, see `df`"


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
