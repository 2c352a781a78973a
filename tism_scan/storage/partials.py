"""Files and folders that are still being written: their names tell who writes them.

So what a killed process left can be removed, and what another host writes into the same folder stays.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tism_scan.storage.hosts import this_host

PARTIAL = ".partial"
_NAME = re.compile(rf"\.([0-9a-f]{{8}})\.([0-9]+)\.[0-9a-f]{{8}}{re.escape(PARTIAL)}")


def partial_beside(path: Path) -> Path:
    """Return where a file is written before it takes a path: a hidden name in the same folder."""
    return path.with_name(f".{_host_mark()}.{os.getpid()}.{os.urandom(4).hex()}{PARTIAL}")


def remove_partials(folder: Path) -> None:
    """Remove from a folder what processes of this host were writing there when they were killed."""
    for partial in folder.glob(f".*{PARTIAL}"):
        name = _NAME.fullmatch(partial.name)
        if name and name[1] == _host_mark() and not _is_running(int(name[2])):
            with suppress(OSError):
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield a folder for what a file is made of, in the same file system; it is removed in the end.

    What killed processes left beside the file is removed first.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    path = path.absolute()
    remove_partials(path.parent)
    folder = partial_beside(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _host_mark() -> str:
    return hashlib.sha256(this_host().encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True
