"""Copies on this machine: of files from URLs, and of a genome on a slow shared disk.

Each is kept under the digest of its content, when a scan ends as well: the next run finds it. The digest is
computed again whenever a process begins to use a copy, for a scratch disk is often open to others, and a copy
that is not sound would be another genome's scores.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tism_scan.errors import AccessError, StorageError
from tism_scan.storage.atomic import file_digest, partial_beside, put_in_place, sync_file
from tism_scan.storage.object_folder import RemoteObject
from tism_scan.storage.places import WEB, Place, Url, cache_folder
from tism_scan.storage.web import open_page

PAUSES_S = (0.5, 1, 2, 4, 8)  # before each further try
CHUNK_BYTES = 8 << 20
INDEXES = (".fai", ".gzi")

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
            digest = _written(remote.chunks(), partial)
            if expected not in (None, digest):
                raise AccessError(
                    f"{place} holds another file than when the scan was planned (SHA-256 {digest[:12]}, "
                    f"expected {str(expected)[:12]}); put the planned one there, or start another store"
                )
            (home / digest).mkdir(exist_ok=True)
            copy = home / digest / (place.name or "file")
            put_in_place(partial, copy)
            _written([digest.encode()], partial)
            put_in_place(partial, seen)
        finally:
            partial.unlink(missing_ok=True)
    return copy


def _written(chunks: Iterable[bytes], path: Path) -> str:
    """Write a file durably, and return its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        sync_file(file)
    return digest.hexdigest()


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


def staged(genome: Path, folder: Path, digest: str) -> Path:
    """Return the path of a sound copy of a genome in a folder of this node, made if there is none.

    Processes that want the same copy at once wait for the first to make it.

    Parameters
    ----------
    genome : Path
        FASTA; its indexes, which are beside it, are copied too.
    folder : Path
        On a disk of this node's own.
    digest : str
        SHA-256 of the FASTA's bytes, in hexadecimal.

    Raises
    ------
    AccessError
        If the genome cannot be read or is another one, or the folder has no room or cannot be written.
    """
    home = folder / "tism-scan-genomes" / digest
    copy = home / genome.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / "lock"):
            is_new = not _is_whole(copy, genome)
            if is_new:
                _make(genome, copy, digest)
        if not is_new and file_digest(copy) != digest:
            log.warning("the copy %s is damaged; it is made again", copy)
            with locked(home / "lock"):
                if file_digest(copy) != digest:
                    _make(genome, copy, digest)
    except OSError as error:
        raise AccessError(
            f"{genome} cannot be copied to {folder} ({error.strerror}: {error.filename}); check both, or "
            "leave --stage-genome out"
        ) from None
    return copy


def _is_whole(copy: Path, genome: Path) -> bool:
    try:
        return copy.stat().st_size == genome.stat().st_size
    except FileNotFoundError:
        return False


def _make(genome: Path, copy: Path, digest: str) -> None:
    """Copy a genome and its indexes; the FASTA comes last, and is there whole or not at all."""
    n_bytes, n_free = genome.stat().st_size, shutil.disk_usage(copy.parent).free
    if n_bytes > n_free:
        raise AccessError(
            f"{genome} does not fit {copy.parent}: {n_bytes:,} bytes, and {n_free:,} are free; make room, or "
            "stage to another folder"
        )
    log.info("copying %s to %s", genome, copy)
    partial = partial_beside(copy)
    try:
        found = _written(_chunks(genome), partial)
        if found != digest:
            raise AccessError(
                f"{genome} is another file here (SHA-256 {found[:12]}, expected {digest[:12]}); put the "
                "planned one there, or start another store"
            )
        for suffix in INDEXES:
            index = Path(f"{genome}{suffix}")
            if index.exists():
                shutil.copyfile(index, f"{partial}{suffix}")
                os.replace(f"{partial}{suffix}", f"{copy}{suffix}")
        put_in_place(partial, copy)
        for suffix in INDEXES:  # an index must not be older than its FASTA
            with contextlib.suppress(FileNotFoundError):
                os.utime(f"{copy}{suffix}")
    finally:
        partial.unlink(missing_ok=True)


def _chunks(source: Path) -> Iterator[bytes]:
    """Yield the content of a file."""
    with open(source, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file of this machine, which ends with the process, too."""
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
