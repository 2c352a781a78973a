"""Files from URLs, read once per machine and kept under the digest of their content."""

import contextlib
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tism_scan.errors import AccessError, StorageError
from tism_scan.object_storage import RemoteObject
from tism_scan.places import WEB, Place, Url, cache_folder
from tism_scan.staging import locked
from tism_scan.web import open_page

PAUSES_S = (0.5, 1, 2, 4, 8)  # before each further try

log = logging.getLogger(__name__)


def local_copy(place: Place, digest: str | None = None) -> Path:
    """Return a path under which a file can be read here: its own, or that of a copy.

    Copies are kept in ``$XDG_CACHE_HOME/tism-scan``, by default ``~/.cache/tism-scan``. Processes that want
    the same file at once wait for the first to read it.

    Parameters
    ----------
    place : Path or Url
    digest : str, optional
        SHA-256, in hexadecimal, that a file from a URL must have. With it, a copy that is here already is
        used without asking; without, only if the URL still holds what was read.

    Raises
    ------
    AccessError
        If there is nothing at the URL, it may not be read, or holds something else, or if the copy cannot be
        written.
    StorageError
        If the server does not answer, after all retries.
    """
    if isinstance(place, Path):
        return place
    home = cache_folder()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / f"{digest or _hash(str(place))}.lock"):
            kept = _kept(home, digest) if digest else None
            return kept or _fetched_patiently(place, home, digest)
    except OSError as error:
        raise AccessError(
            f"{place} cannot be kept in {home} ({error.strerror}); make room there, or set XDG_CACHE_HOME to "
            "another folder"
        ) from None


def _fetched_patiently(place: Url, home: Path, expected: str | None) -> Path:
    """Return the copy of a file, trying web servers several times; obstore does so by itself."""
    for pause_s in PAUSES_S if place.scheme in WEB else ():
        try:
            return _fetched(place, home, expected)
        except StorageError as error:
            log.warning("%s", error)
            time.sleep(pause_s)
    return _fetched(place, home, expected)


def _fetched(place: Url, home: Path, expected: str | None) -> Path:
    """Return the copy of a file, which is read only if it is not here in its present version."""
    remote = open_page(place) if place.scheme in WEB else RemoteObject(place)
    with contextlib.closing(remote):
        seen = home / f"{_hash(f'{place} {remote.version}')}.seen"
        if expected is None and remote.version and seen.exists():
            kept = _kept(home, seen.read_text())
            if kept is not None:
                return kept
        log.info("reading %s", place)
        partial = home / f".{os.getpid()}.{os.urandom(4).hex()}.partial"
        try:
            digest = _written(remote.chunks(), partial)
            if expected not in (None, digest):
                raise AccessError(
                    f"{place} holds another file than when the scan was planned (SHA-256 {digest[:12]}, "
                    f"expected {str(expected)[:12]}); put the planned one there, or start another store"
                )
            (home / digest).mkdir(exist_ok=True)
            copy = home / digest / (place.name or "file")
            partial.replace(copy)
            partial.write_text(digest)
            partial.replace(seen)
        finally:
            partial.unlink(missing_ok=True)
    return copy


def _written(chunks: Iterator[bytes], path: Path) -> str:
    """Write a file durably, and return its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _kept(home: Path, digest: str) -> Path | None:
    """Return the copy of a digest, if there is one and it is sound; else remove it."""
    folder = home / digest
    copies = sorted(folder.iterdir()) if folder.is_dir() else []
    for copy in copies:
        with open(copy, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return copy
    if copies:
        log.warning("the copy in %s is damaged; it is read again", folder)
        shutil.rmtree(folder)
    return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
