"""A folder whose files survive a power cut, and the few verbs that the store needs of it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tism_scan.errors import StoreError
from tism_scan.storage.atomic import (
    PARTIAL,
    full_disk_explained,
    partial_beside,
    put_in_place,
    sync_file,
    sync_path,
)
from tism_scan.storage.object_folder import ObjectFolder
from tism_scan.storage.places import Place, Url, store_place


class Folder(Protocol):
    """Objects under keys such as ``chr1/c/0/5``, on a file system or in an object store."""

    @property
    def place(self) -> Place:
        """Where it is: an absolute path, or a URL."""
        ...

    def put(self, key: str, content: bytes) -> None:
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

    def sweep(self, idle_s: float) -> list[str]:
        """Remove what broken-off writers left and nobody has touched for so long, and return the keys."""
        ...

    def is_there(self) -> bool:
        """Return whether there is such a folder."""
        ...

    def stranger(self, own: str) -> str | None:
        """Return the name of something at its top that is not our own, or None; without reading it all."""
        ...

    def clear(self, last: str) -> None:
        """Remove everything, one object last."""
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

    An object is written to a temporary file, synced, and renamed, and then its folder is synced: after a
    power cut it is there whole or not at all.

    Parameters
    ----------
    root : Path
        Made when the first object is published.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.place: Place = self.root

    def put(self, key: str, content: bytes) -> None:
        """Publish an object, whole or not at all; what was under the key is replaced.

        Raises
        ------
        StorageFullError
            If there is no room left.
        OSError
            If it cannot be written for another reason.
        """
        path = self.root / key
        with full_disk_explained(path):
            partial = self._write_partial(path, content)
            try:
                put_in_place(partial, path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def put_new(self, key: str, content: bytes) -> bool:
        """Publish an object unless the key is taken, and return whether it was published.

        Of several callers at once, on one machine or many, exactly one gets True.
        """
        path = self.root / key
        with full_disk_explained(path):
            partial = self._write_partial(path, content)
            try:
                os.link(partial, path)
            except FileExistsError:
                # NFS repeats a request whose answer was lost, and the repeat finds the first one's link.
                if os.stat(partial).st_nlink < 2:
                    return False
            finally:
                os.unlink(partial)
            sync_path(path.parent)
        return True

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

    def sweep(self, idle_s: float) -> list[str]:
        """Remove temporary files that nobody has written to for so long, and return their keys.

        Their age is measured by the file system's own clock.
        """
        # A chrom may be named so, too, and its folder then is.
        partials = [path for path in self.root.rglob(f"*{PARTIAL}") if path.is_file()]
        if not partials:
            return []
        now = self._now()
        swept = []
        for path in partials:
            with contextlib.suppress(FileNotFoundError):  # its writer ended in between
                if now - path.stat().st_mtime >= idle_s:
                    path.unlink()
                    swept.append(path.relative_to(self.root).as_posix())
        return sorted(swept)

    def _now(self) -> float:
        """Return the file system's time; a file server's clock may differ from ours."""
        path = self.root / "clock"
        with full_disk_explained(path):
            partial = self._write_partial(path, b"")
        try:
            return partial.stat().st_mtime
        finally:
            partial.unlink()

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

    def clear(self, last: str) -> None:
        """Remove everything, one object last, and the folder itself, unless a link leads to it.

        Raises
        ------
        StoreError
            If the last object is behind a link: it is of another folder.
        """
        kept = self.root / last
        self._refuse_links(kept)
        for path in [*self.root.iterdir(), *kept.parent.iterdir()]:
            if path in (kept, kept.parent):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        shutil.rmtree(kept.parent if self.root.is_symlink() else self.root)

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

    def _write_partial(self, path: Path, content: bytes) -> Path:
        """Write and sync a temporary file beside a path, and return where it is."""
        self._refuse_links(path)
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_path(folder.parent)
        partial = partial_beside(path)
        try:
            with open(partial, "xb") as file:
                file.write(content)
                sync_file(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return partial
