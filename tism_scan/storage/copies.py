"""Copies on this machine of files from URLs.

Each is kept under the digest of its content, when a scan ends as well: the next run finds it. The digest is
computed again whenever a process begins to use a copy, for a scratch disk is often open to others, and a copy
that is not sound would be another genome's scores.
"""

import contextlib
import hashlib
import logging
import shutil
import time
from pathlib import Path

from tism_scan.errors import AccessError, StorageError
from tism_scan.storage.atomic import file_digest, put_in_place, write_chunks
from tism_scan.storage.partials import partial_beside
from tism_scan.storage.places import WEB, Place, Url, cache_folder
from tism_scan.storage.private import locked
from tism_scan.storage.remote_object import RemoteObject
from tism_scan.storage.web import open_page

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
        partial = partial_beside(seen)
        try:
            digest = write_chunks(remote.chunks(), partial)
            if expected not in (None, digest):
                raise AccessError(
                    f"{place} holds another file than when the scan was planned (SHA-256 {digest[:12]}, "
                    f"expected {str(expected)[:12]}); put the planned one there, or start another store"
                )
            (home / digest).mkdir(exist_ok=True)
            copy = home / digest / (place.name or "file")
            put_in_place(partial, copy)
            write_chunks([digest.encode()], partial)
            put_in_place(partial, seen)
        finally:
            partial.unlink(missing_ok=True)
    return copy


def _kept(home: Path, digest: str) -> Path | None:
    """Return the copy of a digest, if there is one and it is sound; else remove it."""
    folder = home / digest
    copies = sorted(folder.iterdir()) if folder.is_dir() else []
    for copy in copies:
        if file_digest(copy) == digest:
            return copy
    if copies:
        log.warning("the copy in %s is damaged; it is read again", folder)
        shutil.rmtree(folder)
    return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
