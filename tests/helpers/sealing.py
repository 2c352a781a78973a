"""Folders that can be read, and not written."""

import contextlib
import errno
import os
from pathlib import Path

from mounting import mounted

from tism_scan.storage import folder as storage


@contextlib.contextmanager
def sealed(path):
    """Make a folder read-only: by a mount for root, whom no permission keeps from writing, else by those."""
    if os.geteuid() == 0:
        with mounted(path, path, "--bind", "-o", "ro"):
            yield
        return
    modes = {each: each.stat().st_mode for each in (path, *path.rglob("*"))}
    for each, mode in modes.items():
        each.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.chmod(mode)


@contextlib.contextmanager
def as_of_another_user(monkeypatch):
    """Refuse all that the store's folders would write, as the system does where they are another user's."""

    def deny(*_arguments, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        for name in ("mkdir", "link", "replace", "unlink"):
            patch.setattr(os, name, deny)
        patch.setattr(Path, "unlink", deny)
        patch.setattr(storage, "open", deny, raising=False)
        yield
