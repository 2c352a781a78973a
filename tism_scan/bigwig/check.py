"""A bigWig that was just written, read back with pyBigWig and compared with the scores.

pyBigWig's library is not ours: what it reads right, other readers do.
"""

import contextlib
import struct
from typing import Any, BinaryIO

import numpy as np
import pyBigWig
from numpy.typing import NDArray

from tism_scan.bigwig.summary import BigWigSummary
from tism_scan.bigwig.task import WriteTask
from tism_scan.errors import ExportError

# pyBigWig takes several times the memory of the values that it is asked for.
_PIECE_BP = 1 << 18


def check(task: WriteTask, summary: BigWigSummary) -> None:
    """Raise unless the file holds the scores, bit for bit, and its header agrees with the summary.

    Raises
    ------
    ExportError
    """
    with contextlib.closing(reopened(task)) as bigwig:
        if bigwig.chroms() != dict(task.chroms):
            raise ExportError(f"{task.path} reads back wrong: it has other chroms; export it again")
        for chrom in task.chosen:
            for start, scores in task.blocks(chrom):
                for first in range(0, len(scores), _PIECE_BP):
                    piece = scores[first : first + _PIECE_BP]
                    _compare(task, bigwig, chrom, start + first, piece)
    _check_header(task, summary)


def reopened(task: WriteTask) -> Any:
    """Return the unfinished file, opened with pyBigWig."""
    try:
        return pyBigWig.open(str(task.partial))
    except RuntimeError as error:
        raise ExportError(f"{task.path} could not be read back ({error}); export it again") from error


def unpack_at(file: BinaryIO, form: str, offset: int) -> tuple[Any, ...]:
    """Return numbers of a file."""
    file.seek(offset)
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _compare(task: WriteTask, bigwig: Any, chrom: str, start: int, scores: NDArray[np.float32]) -> None:
    end = start + len(scores)
    found = bigwig.values(chrom, start, end, numpy=True)
    is_equal = (scores.view(np.uint32) == found.view(np.uint32)) | (np.isnan(scores) & np.isnan(found))
    if not is_equal.all():
        i = int(is_equal.argmin())
        raise ExportError(
            f"{task.path} reads back wrong: {chrom}:{start + i}-{start + i + 1} is {found[i]} in the file "
            f"and {scores[i]} in the scores ({(~is_equal).sum()} bases of {chrom}:{start}-{end} differ); "
            "export again, with no scan writing into the store"
        )


def _check_header(task: WriteTask, summary: BigWigSummary) -> None:
    with open(task.partial, "rb") as file:
        # pyBigWig's header() cuts these to integers.
        (summary_at,) = unpack_at(file, "<Q", 44)
        n_bases, minimum, maximum, total = unpack_at(file, "<Q3d", summary_at)
    rounding = np.finfo(np.float64).eps * summary.n_bases**2 * max(abs(minimum), abs(maximum))
    expected = (summary.n_bases, summary.minimum, summary.maximum)
    if (n_bases, minimum, maximum) != expected or abs(total - summary.total) > rounding:
        found = f"{n_bases} bases from {minimum} to {maximum}, {total} in sum"
        raise ExportError(
            f"{task.path} reads back wrong: its header says {found}, expected {summary}; export it again"
        )
