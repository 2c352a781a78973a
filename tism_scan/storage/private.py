"""Folders and locks that no other user of a machine can put a hand on.

Where everybody may write, such as a scratch disk, somebody else may have taken a name before: a link in its
place would lead a write to a file of this user's.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tism_scan.errors import AccessError

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_folder(path: Path) -> Path:
    """Return a folder in which only this user can write, made if it is not there.

    Raises
    ------
    AccessError
        If what has the name is no folder, belongs to another user, or lets others write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=stat.S_IRWXU)
    found = path.lstat()
    fault = None
    if not stat.S_ISDIR(found.st_mode):
        fault = "is no folder"
    elif found.st_uid != os.geteuid():
        fault = f"belongs to the user {found.st_uid}"
    elif found.st_mode & _OTHERS_MAY_WRITE:
        fault = "lets other users write"
    if fault:
        raise AccessError(
            f"{path} {fault}; expected a folder that belongs to the user {os.geteuid()}, and in which nobody "
            "else can write; remove it, or name another place"
        )
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file of this machine, which ends with the process, too.

    The file is made if it is not there, and what it holds is left alone.

    Raises
    ------
    AccessError
        If a symbolic link has the name.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise AccessError(f"{path} is a symbolic link; expected a file to lock; remove it") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
