"""A node's own copy of a genome, for clusters whose shared file system is slow or far away.

Copies are kept when a scan ends: the next run, or the same one resumed, finds them. They lie under the
digest of their content, which is computed again whenever a process begins to use one: a node's scratch disk
is often open to others, and a copy that is not sound would be another genome's scores.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tism_scan.errors import AccessError

CHUNK_BYTES = 8 << 20
INDEXES = (".fai", ".gzi")

log = logging.getLogger(__name__)


def staged(genome: Path, folder: Path, digest: str) -> Path:
    """Return the path of a sound copy of a genome in a folder of this node, made if there is none.

    Processes that want the same copy at once wait for the first to make it.

    Parameters
    ----------
    genome : Path
        FASTA; its indexes, which lie beside it, are copied too.
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
        if not is_new and _digest(copy) != digest:
            log.warning("the copy %s is damaged; it is made again", copy)
            with locked(home / "lock"):
                if _digest(copy) != digest:
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
    partial = copy.with_name(f".{os.getpid()}.{os.urandom(4).hex()}.partial")
    try:
        found = _copied(genome, partial)
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
        os.replace(partial, copy)
        for suffix in INDEXES:  # an index must not be older than its FASTA
            with contextlib.suppress(FileNotFoundError):
                os.utime(f"{copy}{suffix}")
    finally:
        partial.unlink(missing_ok=True)


def _copied(source: Path, target: Path) -> str:
    """Copy a file, and return the SHA-256 of what was read."""
    found = hashlib.sha256()
    with open(source, "rb") as reading, open(target, "xb") as writing:
        while chunk := reading.read(CHUNK_BYTES):
            found.update(chunk)
            writing.write(chunk)
    return found.hexdigest()


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file of this machine, which ends with the process, too."""
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
