"""Files that must stay as they are while they are read, and what tells that they did."""

import hashlib
import os
import weakref
from pathlib import Path

from tism_scan.errors import InputChangedError

Stamp = tuple[int, int]

# Stamp and digest of each file that this process has read as a whole.
_DIGESTS: dict[Path, tuple[Stamp, str]] = {}


class WatchedFile:
    """A file that is kept open to see changes of its content.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    stamp : tuple of int
        Size and time of last change, as `stamp_of`, from when it was opened.

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.abspath(path))
        self._descriptor = os.open(path, os.O_RDONLY)
        self._let_go = weakref.finalize(self, os.close, self._descriptor)
        self.stamp = _stamp(os.fstat(self._descriptor))

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._let_go()

    def digest(self) -> str:
        """Return the SHA-256 of the file's bytes, in hexadecimal; one thread at a time may ask.

        Raises
        ------
        OSError
            If it cannot be read.
        InputChangedError
            If it was written since it was opened.
        """
        with open(self._descriptor, "rb", closefd=False) as file:
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.check_unchanged()
        _DIGESTS[self._path] = self.stamp, digest
        return digest

    def check_unchanged(self) -> None:
        """Raise InputChangedError if the file was written since it was opened.

        What was read before the last call that does not raise is the file's content as it was opened. A file
        that took its name is no change: the old one stays open.
        """
        if _stamp(os.fstat(self._descriptor)) != self.stamp:
            raise InputChangedError(
                f"{str(self._path)!r} was changed while it was read; expected that it stays as it is; "
                "restore it, and run the same command again"
            )


def stamp_of(path: Path) -> Stamp | None:
    """Return a file's size in bytes and the time of its last change in ns since 1970; None without a file.

    What has the same path and stamp on two machines is taken for the same file, and is not read.
    """
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def stamp_of_content(path: Path, digest: str) -> Stamp | None:
    """Return the stamp that a file had before this process found its digest so; None if it did not."""
    stamp, found = _DIGESTS.get(Path(os.path.abspath(path)), (None, ""))
    return stamp if found == digest else None


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns
