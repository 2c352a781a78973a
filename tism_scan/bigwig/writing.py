"""Scores of one track, written as a bigWig that is checked before it is named.

The only door to pyBigWig, which takes NaN and inf as entries, dies on a path that cannot be written, hangs on
a full disk, and reports no error when it could not finish a file; all of that is guarded against here.

References
----------
Kent et al., "BigWig and BigBed: enabling browsing of large distributed datasets", Bioinformatics 26, 2204
(2010), doi 10.1093/bioinformatics/btq351; its supplement is the file format.
"""

import contextlib
import ctypes
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyBigWig
from numpy.typing import NDArray

from tism_scan.bigwig.summary import BigWigSummary, Tally
from tism_scan.errors import ExportError

ReadScores = Callable[[str, int, int], NDArray[np.float32]]
"""Return the scores of ``(chrom, start, end)``, float32 (end - start,), NaN where there is none."""

MAX_CHROM_BP = 2**32 - 1
MAX_ZOOMS = 10  # with 0, IGV cannot open the file

# Measured on noise, which no codec shrinks: 3.7 bytes a base and 1.7 more for the zoom levels, which are
# written last; a run of scores between two gaps costs a section and its place in the index.
BYTES_PER_BASE = 5.5
ZOOM_BYTES_PER_BASE = 1.8
BYTES_PER_RUN = 256

# igv.js fetches a view's zoom records in one range, so none may lie far from its neighbours.
MEND_WITHIN_BYTES = 4 << 20


@dataclass(frozen=True)
class _Export:
    """One call of `write_bigwig`: what is read and where it goes."""

    path: Path
    partial: Path
    chroms: Mapping[str, int]
    chosen: Mapping[str, int]
    read: ReadScores
    block_bp: int
    on_progress: Callable[[int], None]

    def blocks(self) -> Iterator[tuple[str, int, int, NDArray[np.float32]]]:
        """Yield chrom, start, end and scores of each block of the chosen chroms; report it done after use."""
        for chrom, length in self.chosen.items():
            for start in range(0, length, self.block_bp):
                end = min(start + self.block_bp, length)
                yield chrom, start, end, self._scores(chrom, start, end)
                self.on_progress(end - start)

    def _scores(self, chrom: str, start: int, end: int) -> NDArray[np.float32]:
        scores = np.ascontiguousarray(self.read(chrom, start, end), dtype=np.float32)
        if scores.shape != (end - start,):
            # pyBigWig takes entries past a chrom's end without a word.
            raise ValueError(
                f"read({chrom!r}, {start}, {end}) gave shape {scores.shape}, not ({end - start},)"
            )
        infinite = np.isinf(scores)
        if infinite.any():
            position = start + int(infinite.argmax())
            raise ExportError(
                f"the score of {chrom}:{position}-{position + 1} is {scores[position - start]}; a bigWig "
                f"holds finite numbers only; scan that block again, or leave {chrom} out of {self.path.name}"
            )
        return scores


def write_bigwig(
    path: str | Path,
    chroms: Mapping[str, int],
    read: ReadScores,
    *,
    block_bp: int = 1 << 20,
    only: Collection[str] | None = None,
    expected_bases: int | None = None,
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
        Bases that are read at a time. Memory here is a few times this; pyBigWig's own grows while it
        closes the file, to about 3 bytes for each scored base and 12 for each of the longest chrom (measured;
        some 10 GB for all of hg38).
    only : collection of str, optional
        Chroms whose scores are written; all by default.
    expected_bases : int, optional
        How many bases have a score, if known, to foresee the file's size; all bases of `only` by default.
    on_progress : callable, optional
        Called with the number of bases just done. Writing and checking both count: in the end the numbers add
        up to twice the bases of the chosen chroms.

    Raises
    ------
    ExportError
        If a chrom cannot go into a bigWig or is unknown, the folder is missing or cannot be written, the disk
        has too little room, a score is infinite, no base has a score, or the file does not read back as the
        scores that `read` gives.
    ValueError
        If `block_bp` is not positive, or `read` returns another shape than was asked for.

    Notes
    -----
    An interrupt is felt at the next block, but not while pyBigWig closes the file and makes its zoom levels,
    which takes longer than writing it.

    pyBigWig leaves two numbers wrong, which are mended: the header's maximum, and the sum of the last record
    of each zoom level (but where that record is a tiny part of a large file). One zoom record in a thousand
    still covers a single base and has the sum 0.
    """
    if block_bp < 1:
        raise ValueError(f"block_bp is {block_bp}, not positive")
    path = Path(path)
    chosen = _choose(chroms, only)
    partial = _partial_of(path)
    header = {chrom: length for chrom, length in chroms.items() if length > 0}
    export = _Export(path, partial, header, chosen, read, block_bp, on_progress or (lambda _n_bases: None))
    n_bases = sum(chosen.values()) if expected_bases is None else expected_bases
    try:
        _refuse_little_space(path, BYTES_PER_BASE * n_bases)
        summary = _write(export)
        _mend(export, summary.maximum)
        _check(export, summary)
        _publish(export)
    finally:
        partial.unlink(missing_ok=True)
    return summary


def _choose(chroms: Mapping[str, int], only: Collection[str] | None) -> dict[str, int]:
    """Return the chroms to write, in the header's order, after naming all that cannot be."""
    problems = [f"{chrom!r} is not in the genome" for chrom in only or () if chrom not in chroms]
    for chrom, length in chroms.items():
        if not chrom or "\0" in chrom:
            problems.append(f"{chrom!r} is not a chrom's name")
        if not 0 <= length <= MAX_CHROM_BP:
            problems.append(f"{chrom!r} has {length} bp, expected 0 to {MAX_CHROM_BP}")
    chosen = {chrom: n for chrom, n in chroms.items() if n > 0 and (only is None or chrom in only)}
    if not problems and not chosen:
        problems.append("no base of any chrom was chosen")
    if problems:
        raise ExportError(
            f"no bigWig can be made of these chroms: {'; '.join(problems)}; correct or drop them"
        )
    return chosen


def _partial_of(path: Path) -> Path:
    """Return the file, made here and empty, that is written aside; pyBigWig would crash without that try."""
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {path}: {path.parent} is not a folder; make it, or choose another")
    if path.is_dir():
        raise ExportError(f"cannot write {path}: it is a folder; give the name of a file, such as scores.bw")
    partial = path.absolute().with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(b"")
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: no file can be made in {path.parent} ({error.strerror}); "
            "change its permissions, or choose another folder"
        ) from None
    return partial


def _refuse_little_space(path: Path, n_bytes: float) -> None:
    """Raise if a file system has less room than is needed; pyBigWig hangs once a disk is full."""
    free = shutil.disk_usage(path.absolute().parent).free
    if n_bytes > free:
        raise ExportError(
            f"{path} needs up to {n_bytes / 1e9:.3g} GB more and its folder has {free / 1e9:.3g} GB free; "
            "make room there, write to another disk, or export fewer chroms"
        )


def _write(export: _Export) -> BigWigSummary:
    """Write all blocks, aside, and return what was written."""
    tally = Tally()
    bigwig = pyBigWig.open(str(export.partial), "w")
    try:
        bigwig.addHeader(list(export.chroms.items()), maxZooms=MAX_ZOOMS)
        for chrom, start, _end, scores in export.blocks():
            has_score = ~np.isnan(scores)
            runs = np.flatnonzero(np.diff(has_score, prepend=False, append=False)).reshape(-1, 2).tolist()
            n_bases = int(has_score.sum())
            n_bytes = BYTES_PER_BASE * n_bases + BYTES_PER_RUN * len(runs)
            _refuse_little_space(export.path, n_bytes + ZOOM_BYTES_PER_BASE * tally.n_bases)
            for first, last in runs:
                bigwig.addEntries(chrom, start + first, values=scores[first:last], span=1, step=1)
            tally.add(scores[has_score])
        _refuse_little_space(export.path, ZOOM_BYTES_PER_BASE * tally.n_bases)
    except BaseException:
        _abandon(bigwig, export.partial)
        raise
    bigwig.close()
    if not tally.n_bases:
        raise ExportError(
            f"the track has no score in {_shown(export.chosen)}, so {export.path} would be empty; scan these "
            "chroms first, or choose others"
        )
    return tally.summary(export.path)


def _abandon(bigwig: Any, partial: Path) -> None:
    """Give up a half-written bigWig without closing it.

    Closing, which also happens when the object goes, makes the zoom levels first: a quarter of an hour for a
    human genome, after Ctrl-C. So the object is kept to the end of the process; its disk space is not.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(bigwig))
    with contextlib.suppress(OSError):
        os.truncate(partial, 0)


def _mend(export: _Export, maximum: float) -> None:
    """Correct the header's maximum and the last record of each zoom level, as far as these are wrong.

    libBigWig compares a score with the maximum only if it is no new minimum, starts from the smallest
    positive number, and stores a zoom record's sum when the next one begins (`updateStats` and
    `updateInterval` in its bwWrite.c).
    """
    chroms = list(export.chroms)
    with contextlib.closing(_reopened(export)) as bigwig, open(export.partial, "r+b") as file:
        (summary_at,) = _unpack_at(file, "<Q", 44)
        file.seek(summary_at + 16)
        file.write(struct.pack("<d", maximum))
        at = file.seek(-4, os.SEEK_END)  # the magic number is repeated there
        magic = file.read(4)
        for i_level in range(*_unpack_at(file, "<H", 6)):
            (index_at,) = _unpack_at(file, "<Q", 64 + 24 * i_level + 16)
            slot = _last_slot(file, index_at + 48)
            offset, size = _unpack_at(file, "<2Q", slot)
            if at - offset > MEND_WITHIN_BYTES:
                continue
            file.seek(offset)
            records = zlib.decompress(file.read(size))
            i_chrom, start, end = struct.unpack("<3I", records[-32:-20])
            scores = bigwig.values(chroms[i_chrom], start, end, numpy=True).astype(np.float64)
            with np.errstate(over="ignore"):
                sums = np.array([np.nansum(scores), np.nansum(scores**2)]).astype("<f4").tobytes()
            mended = zlib.compress(records[:-8] + sums)
            file.seek(at)
            file.write(mended + magic)
            file.seek(slot)
            file.write(struct.pack("<2Q", at, len(mended)))
            at += len(mended)


def _last_slot(file: BinaryIO, node_at: int) -> int:
    """Return where an R-tree, its root at `node_at`, holds the offset and size of its last data block."""
    while True:
        is_leaf, n_children = _unpack_at(file, "<BxH", node_at)
        if is_leaf:
            return node_at + 4 + 32 * (n_children - 1) + 16
        (node_at,) = _unpack_at(file, "<Q", node_at + 4 + 24 * (n_children - 1) + 16)


def _unpack_at(file: BinaryIO, layout: str, offset: int) -> tuple[int, ...]:
    file.seek(offset)
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _reopened(export: _Export) -> Any:
    try:
        return pyBigWig.open(str(export.partial))
    except RuntimeError as error:
        raise ExportError(f"{export.path} could not be read back ({error}); export it again") from error


def _check(export: _Export, summary: BigWigSummary) -> None:
    """Raise unless the file holds what `read` gives, bit for bit, and its header agrees with the summary."""
    problem = f"{export.path} reads back wrong"
    with contextlib.closing(_reopened(export)) as bigwig:
        for chrom, start, end, scores in export.blocks():
            found = bigwig.values(chrom, start, end, numpy=True)
            is_equal = (scores.view(np.uint32) == found.view(np.uint32)) | (
                np.isnan(scores) & np.isnan(found)
            )
            if not is_equal.all():
                i = int(is_equal.argmin())
                raise ExportError(
                    f"{problem}: {chrom}:{start + i}-{start + i + 1} is {found[i]} in the file and "
                    f"{scores[i]} in the scores ({(~is_equal).sum()} bases of {chrom}:{start}-{end} differ); "
                    "export again, with no scan writing into the store"
                )
    with open(export.partial, "rb") as file:
        # pyBigWig's header() cuts these to integers.
        (summary_at,) = _unpack_at(file, "<Q", 44)
        n_bases, minimum, maximum, total = _unpack_at(file, "<Q3d", summary_at)
    rounding = np.finfo(np.float64).eps * summary.n_bases**2 * max(abs(minimum), abs(maximum))
    header = BigWigSummary(export.path, n_bases, minimum, maximum, total, summary.limit)
    if replace(header, total=0.0) != replace(summary, total=0.0) or abs(total - summary.total) > rounding:
        raise ExportError(f"{problem}: its header says {header}, expected {summary}; export it again")


def _publish(export: _Export) -> None:
    """Give the file its name once it is on the disk."""
    try:
        _sync(export.partial)
        os.replace(export.partial, export.path)
        _sync(export.partial.parent)
    except OSError as error:
        raise ExportError(
            f"cannot write {export.path}: {error.strerror}; expected to rename a finished file to it; "
            "choose another name or folder"
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(chroms: Collection[str]) -> str:
    names = list(chroms)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
