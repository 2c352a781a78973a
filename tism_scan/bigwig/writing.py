"""Scores of one track, written as a bigWig that is checked before it gets its name."""

import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from tism_scan.bigwig.check import check
from tism_scan.bigwig.pybigwig import memory_available, memory_needed, write_with_pybigwig
from tism_scan.bigwig.stream import bigwig_stream
from tism_scan.bigwig.summary import BigWigSummary, Tally
from tism_scan.bigwig.task import ReadScores, WriteTask, choose_chroms, partial_of, refuse_little_space
from tism_scan.errors import ExportError
from tism_scan.storage.atomic import full_disk_explained, put_in_place, sync_path

Writer = Literal["stream", "pybigwig"]

# Measured on noise, which no codec shrinks: a base takes 3.73 bytes, or 2.62 with 10 bits of mantissa, and
# 0.83 in the zoom levels, which are there twice while the file is completed.
_MOST_BYTES_PER_BASE = 3.75
_ZOOM_BYTES_PER_BASE = 0.85


def foreseen_bytes(n_bases: int, keep_bits: int = 23) -> tuple[float, float]:
    """Return the size of a bigWig of so many bases, and the room that is needed to write it.

    Parameters
    ----------
    n_bases : int
    keep_bits : int
        Bits of mantissa that its scores have.
    """
    scores = min(_MOST_BYTES_PER_BASE, (keep_bits + 11) / 8) * n_bases
    zooms = _ZOOM_BYTES_PER_BASE * n_bases
    return scores + zooms, scores + 2 * zooms


def writers_that_fit(writer: Writer, lengths: Collection[int]) -> int:
    """Return how many bigWigs of chroms of these lengths the memory lets one write at once; at least one."""
    if writer == "stream":
        return sys.maxsize
    return max(1, int(memory_available() / memory_needed(lengths)))


def write_bigwig(
    path: str | Path,
    chroms: Mapping[str, int],
    read: ReadScores,
    *,
    block_bp: int = 1 << 20,
    only: Collection[str] | None = None,
    expected_bytes: float | None = None,
    writer: Writer = "stream",
    n_threads: int = 2,
    on_progress: Callable[[int], None] | None = None,
) -> BigWigSummary:
    """Return the summary of the bigWig that it writes, after every base was read back and compared.

    The file is written aside, in the same folder, and takes its name once it is checked and on the disk.
    After any failure or interrupt the unfinished file is gone, and an older one at `path` is as it was.

    Parameters
    ----------
    path : str or Path
        Where the bigWig goes; its folder must exist.
    chroms : Mapping from str to int
        Length of every chrom in bp, in the order of the FASTA; all but empty ones go into the header.
    read : ReadScores
        Called twice for each block, to write and to check. NaN becomes a gap.
    block_bp : int
        Bases that are read at a time. Memory is a few times this, however long the chroms are.
    only : collection of str, optional
        Chroms whose scores are written; all by default.
    expected_bytes : float, optional
        Room that is needed for the file; by default, if all bases of `only` have a score.
    writer : {"stream", "pybigwig"}
        Who writes. pyBigWig is several times slower, and takes 10.5 bytes of memory for each base of the
        longest chrom and 2.3 for each base of all.
    n_threads : int
        Threads that compress.
    on_progress : callable, optional
        Called with the number of bases just done. Writing and checking both count: in the end the numbers add
        up to twice the bases of the chosen chroms.

    Raises
    ------
    ExportError
        If a chrom cannot go into a bigWig or is unknown, the folder is missing or cannot be written, the disk
        has too little room, a score is infinite, or the file does not read back as the scores that `read`
        gives.
    StorageFullError
        If the disk is full before the file is complete.
    ValueError
        If `block_bp` is not positive, or `read` returns another shape than was asked for.
    """
    if block_bp < 1:
        raise ValueError(f"block_bp is {block_bp}, not positive")
    path = Path(path)
    chosen = choose_chroms(chroms, only)
    partial = partial_of(path)
    header = {chrom: length for chrom, length in chroms.items() if length > 0}
    task = WriteTask(path, partial, header, chosen, read, block_bp, on_progress or (lambda _n_bases: None))
    if expected_bytes is None:
        _, expected_bytes = foreseen_bytes(sum(chosen.values()))
    try:
        refuse_little_space(path, expected_bytes)
        with full_disk_explained(path):
            tally = _stream(task, n_threads) if writer == "stream" else write_with_pybigwig(task)
        summary = tally.summary(path)
        check(task, summary)
        _publish(task)
    finally:
        partial.unlink(missing_ok=True)
    return summary


def _stream(task: WriteTask, n_threads: int) -> Tally:
    """Write the file with our own writer, and return what was counted."""
    folder = task.partial.parent
    with (
        open(task.partial, "wb", buffering=1 << 20) as file,
        bigwig_stream(file, task.chroms, folder, n_threads) as stream,
    ):
        for chrom in task.chosen:
            stream.write_chrom(chrom, (scores for _start, scores in task.blocks(chrom)))
        return stream.finish()


def _publish(task: WriteTask) -> None:
    """Give the file its name once it is on the disk."""
    try:
        with full_disk_explained(task.path):
            sync_path(task.partial)
            put_in_place(task.partial, task.path)
    except OSError as error:
        raise ExportError(
            f"cannot write {task.path}: {error.strerror}; expected to rename a finished file to it; "
            "choose another name or folder"
        ) from error
