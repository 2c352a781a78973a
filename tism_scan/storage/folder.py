"""A folder whose files survive a power cut, and the few verbs that the store needs of it."""

import contextlib
import copy
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, Self, TypeVar

from tism_scan.errors import StoreError
from tism_scan.storage.atomic import (
    full_disk_explained,
    link_in_place,
    put_in_place,
    sync_file,
    sync_path,
)
from tism_scan.storage.object_folder import ObjectFolder
from tism_scan.storage.partials import PARTIAL, partial_beside
from tism_scan.storage.places import Place, Url, store_place

N_TRIES = 20  # of what another process interferes with
_MOST_READERS = 8  # each holds a whole object, up to 128 MB, in memory
Content = bytes | memoryview
_Answer = TypeVar("_Answer")


class Folder(Protocol):
    """Objects under keys such as ``chr1/c/0/5``, on a file system or in an object store."""

    @property
    def place(self) -> Place:
        """Where it is: an absolute path, or a URL."""
        ...

    @property
    def identity(self) -> str:
        """What tells it, on this machine, from a copy of it; empty if it is not there."""
        ...

    def fenced(self, fence: Callable[[], None]) -> Self:
        """Return the same folder for a writer that has to own it.

        Parameters
        ----------
        fence : callable
            Raises if the writer does not own the folder any more. It is called while an object is published,
            at a point after which a new owner's deletion, or object of the same key, keeps ours from
            appearing: the writer may be stopped between any two steps, for any time.
        """
        ...

    def put(self, key: str, content: Content) -> None:
        """Publish an object, whole or not at all; what was under the key is replaced."""
        ...

    def put_new(self, key: str, content: bytes) -> bool:
        """Publish an object unless the key is taken, and return whether it was published."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return an object, or None where there is none."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size of every object below a prefix, by key."""
        ...

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        ...

    def sweep(self) -> list[str]:
        """Remove what writers have not finished, and return the keys; only the folder's owner may call it."""
        ...

    def is_there(self) -> bool:
        """Return whether there is such a folder."""
        ...

    def stranger(self, own: str) -> str | None:
        """Return the name of something at its top that is not our own, or None; without reading it all."""
        ...

    def clear(self, last: tuple[str, ...], kept: str) -> None:
        """Remove everything but what is below a key; what is at or below some others last, in their order."""
        ...

    def explained(self, key: str) -> contextlib.AbstractContextManager[None]:
        """Turn what the storage itself raises into errors of ours, while another library reads it."""
        ...


def open_folder(place: str | Path | Url) -> Folder:
    """Return the folder at a path, or at ``s3://bucket/prefix`` or ``gs://bucket/prefix``.

    Raises
    ------
    InputError
        If it is another kind of URL, or object storage cannot be used from here.
    """
    place = store_place(place)
    return ObjectFolder(place) if isinstance(place, Url) else LocalFolder(place)


class LocalFolder:
    """A `Folder` on a local or shared file system.

    An object is written to a temporary file, synced unless it is empty, and renamed, and then its folder is
    synced: after a power cut it is there whole or not at all.

    Parameters
    ----------
    root : Path
        Made when the first object is published.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.place: Place = self.root
        self._fence: Callable[[], None] = lambda: None

    @property
    def identity(self) -> str:
        """What tells it, on this machine, from a copy of it; empty if it is not there."""
        try:
            status = self.root.stat()
        except OSError:
            return ""
        return f"{status.st_dev}:{status.st_ino}"

    def fenced(self, fence: Callable[[], None]) -> Self:
        """Return the same folder for a writer that has to own it.

        The fence is called between the temporary file and its renaming. Whoever owned the folder next swept
        or deleted the file, so that the renaming fails, and the next try meets the fence.
        """
        folder = copy.copy(self)
        folder._fence = fence
        return folder

    def put(self, key: str, content: Content) -> None:
        """Publish an object, whole or not at all; what was under the key is replaced.

        Raises
        ------
        StorageFullError
            If there is no room left.
        OSError
            If it cannot be written for another reason.
        """
        self._publish(key, content, put_in_place)

    def put_new(self, key: str, content: bytes) -> bool:
        """Publish an object unless the key is taken, and return whether it was published.

        Of several callers at once, on one machine or many, exactly one gets True.
        """
        return self._publish(key, content, link_in_place)

    def _publish(self, key: str, content: Content, place: Callable[[Path, Path], _Answer]) -> _Answer:
        """Write an object aside, make sure that the folder is still ours, and put it in its place."""
        path = self.root / key
        with full_disk_explained(path):
            for i_try in range(N_TRIES):
                partial = partial_beside(path)
                try:
                    self._write_partial(partial, content)
                    self._fence()
                    return place(partial, path)
                except FileNotFoundError:  # another process swept it, or deleted its folder
                    if i_try == N_TRIES - 1:
                        raise
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        partial.unlink()
        raise AssertionError  # the last try returns or raises

    def get(self, key: str) -> bytes | None:
        """Return an object, or None where there is none."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size of every object below a prefix, by key; unfinished ones are left out."""
        found: dict[str, int] = {}
        waiting = [prefix.strip("/")]
        while waiting:
            here = waiting.pop()
            absent = contextlib.suppress(FileNotFoundError, NotADirectoryError)
            with absent, os.scandir(self.root / here) as entries:
                for entry in entries:
                    key = f"{here}/{entry.name}" if here else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(key)
                    elif not entry.name.endswith(PARTIAL):
                        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                            found[key] = entry.stat().st_size
        return found

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (self.root / key).unlink()

    def sweep(self) -> list[str]:
        """Remove every temporary file, and return their keys; a live writer begins its own again."""
        swept = []
        # A chrom may be named so, too, and its folder then is.
        for path in [path for path in self.root.rglob(f"*{PARTIAL}") if path.is_file()]:
            with contextlib.suppress(FileNotFoundError):  # its writer ended in between
                path.unlink()
                swept.append(path.relative_to(self.root).as_posix())
        return sorted(swept)

    def is_there(self) -> bool:
        """Return whether there is such a folder."""
        return self.root.is_dir()

    def stranger(self, own: str) -> str | None:
        """Return the name of something at its top that is not our own, or None.

        Raises
        ------
        StoreError
            If it is a file.
        """
        if not self.root.exists():
            return None
        if not self.root.is_dir():
            raise StoreError(f"{self.root} is a file; expected a folder for the store, choose another --out")
        return min((name for name in os.listdir(self.root) if name != own), default=None)

    def clear(self, last: tuple[str, ...], kept: str) -> None:
        """Remove everything but what is below a key, some others last; if nothing is left, the folder, too.

        Raises
        ------
        StoreError
            If what is to be last is behind a link: it is of another folder.
        """
        records, spared = [self.root / key for key in last], self.root / kept
        home = records[0].parent
        self._refuse_links(records[0])
        self.sweep()
        others = [*self.root.iterdir(), *home.iterdir()]
        for path in [*(path for path in others if path not in (*records, home, spared)), *records]:
            self._fence()
            _remove_whole(path)
        if not self.sizes(kept):
            shutil.rmtree(home)
            if not self.root.is_symlink():
                self.root.rmdir()

    @contextlib.contextmanager
    def explained(self, key: str) -> Iterator[None]:
        """Leave errors as they are: the system's own say what is wrong."""
        yield

    def _refuse_links(self, path: Path) -> None:
        """Raise if a folder between the root and a path is a link, which may lead anywhere."""
        for folder in path.parents:
            if folder == self.root:
                return
            if folder.is_symlink():
                raise StoreError(
                    f"{folder} is a link; expected a folder of the store's own; copy into its place what it "
                    "leads to"
                )

    def _write_partial(self, partial: Path, content: Content) -> None:
        """Write and sync a temporary file."""
        self._refuse_links(partial)
        missing = [folder for folder in partial.parents if not folder.exists()]
        partial.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_path(folder.parent)
        with open(partial, "xb") as file:
            file.write(content)
            if content:  # what is empty has no more than its name, which its folder brings to the disk
                sync_file(file)


def _remove_whole(path: Path) -> None:
    """Remove a file, a link or a folder, even while a former owner writes into it."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for i_try in range(N_TRIES):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            if not path.exists():
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or i_try == N_TRIES - 1:
                raise
        else:
            return


def reading_threads() -> ThreadPoolExecutor:
    """Return the threads that read many whole objects."""
    return ThreadPoolExecutor(min(_MOST_READERS, 2 * (os.cpu_count() or 1)))
