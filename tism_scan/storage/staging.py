"""Copies of a genome on a node's own disk, so that actors do not all read a slow shared one.

A copy is kept under the digest of its content, when a scan ends as well: the next run finds it. The digest is
computed again whenever a process begins to use it, since a copy that is not sound would be another genome's
scores. The disk may be open to others: what is written there stands in a folder of this user's own.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tism_scan.errors import AccessError
from tism_scan.storage.atomic import file_digest, put_in_place, write_chunks
from tism_scan.storage.partials import partial_beside
from tism_scan.storage.private import locked, private_folder

CHUNK_BYTES = 8 << 20
INDEXES = (".fai", ".gzi")

log = logging.getLogger(__name__)


def staged(genome: Path, folder: Path, digest: str) -> Path:
    """Return the path of a sound copy of a genome in a folder of this node, made if there is none.

    Processes that want the same copy at once wait for the first to make it.

    Parameters
    ----------
    genome : Path
        FASTA; its indexes, which are beside it, are copied too.
    folder : Path
        On a disk of this node's own; other users may write there too.
    digest : str
        SHA-256 of the FASTA's bytes, in hexadecimal.

    Raises
    ------
    AccessError
        If the genome cannot be read or is another one, or the folder has no room or cannot be written, or
        others can reach into the place of this user's copies.
    """
    try:
        home = private_folder(folder / f"tism-scan-genomes-{os.geteuid()}") / digest
        copy = home / genome.name
        home.mkdir(exist_ok=True)
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
        found = write_chunks(_chunks(genome), partial)
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
