"""The other writer: pyBigWig, in a process of its own.

It dies on a path that cannot be written, hangs on a full disk, cannot be interrupted while it makes the zoom
levels, and reports no error when it could not finish a file. In a process of its own none of this is ours.
"""

import contextlib
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np
import psutil
from numpy.typing import NDArray

from tism_scan.bigwig.check import reopened, unpack_at
from tism_scan.bigwig.pybigwig_process import ACKNOWLEDGED, FRAME
from tism_scan.bigwig.summary import Tally
from tism_scan.bigwig.task import WriteTask
from tism_scan.errors import ExportError, StorageFullError

# Measured with 0.3.29, while it closes a file.
BYTES_PER_BASE_OF_LONGEST = 10.5
BYTES_PER_BASE_OF_ALL = 2.3

_PATIENCE_S = 1.0
_FULL_BELOW_BYTES = 1 << 20
_LINES_SHOWN = 3

# igv.js fetches a view's zoom records in one range, so none may be far from its neighbours.
_MEND_WITHIN_BYTES = 4 << 20


def memory_needed(lengths: Collection[int]) -> float:
    """Return the bytes of memory that pyBigWig takes to write chroms of these lengths."""
    return BYTES_PER_BASE_OF_LONGEST * max(lengths) + BYTES_PER_BASE_OF_ALL * sum(lengths)


def memory_available() -> float:
    """Return the bytes of memory that may be taken without swapping."""
    return float(psutil.virtual_memory().available)


def write_with_pybigwig(task: WriteTask) -> Tally:
    """Write the file, and return what was counted.

    Raises
    ------
    ExportError
        If there is too little memory, no base has a score, or pyBigWig fails.
    StorageFullError
        If the disk is full.

    Notes
    -----
    pyBigWig leaves two numbers wrong, which are mended: the header's maximum, and the sum of the last record
    of each zoom level (but where that record is a tiny part of a large file). One zoom record in a thousand
    still covers a single base and has the sum 0.
    """
    needed, available = memory_needed(task.chosen.values()), memory_available()
    if needed > available:
        raise ExportError(
            f"pyBigWig needs about {needed / 1e9:.3g} GB of memory to write {task.path}, and "
            f"{available / 1e9:.3g} GB are available; leave out --writer pybigwig: the default writer needs "
            "less than 0.2 GB"
        )
    tally = Tally()
    with tempfile.TemporaryFile() as complaints, _Process(task, complaints) as process:
        process.begin()
        for i_chrom, chrom in enumerate(task.chroms):
            if chrom not in task.chosen:
                continue
            for start, scores in task.blocks(chrom):
                process.send(i_chrom, start, scores)
                tally.add(scores[~np.isnan(scores)])
        if not tally.n_bases:
            raise ExportError(
                "the track has no score, and pyBigWig makes no valid file of it; leave out --writer pybigwig "
                f"to get an empty {task.path.name}"
            )
        process.close()
    _mend(task, tally.maximum)
    return tally


class _Process:
    """The process that holds the file, driven block by block over pipes."""

    def __init__(self, task: WriteTask, complaints: BinaryIO) -> None:
        self._request, self._complaints = task, complaints
        command = [sys.executable, "-m", "tism_scan.bigwig.pybigwig_process", str(task.partial)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, env=environment
        )

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def begin(self) -> None:
        """Have the file made."""
        chroms = json.dumps(list(self._request.chroms.items())).encode()
        self._send(struct.pack("<Q", len(chroms)) + chroms)

    def send(self, i_chrom: int, start: int, scores: NDArray[np.float32]) -> None:
        """Have a block written."""
        self._send(FRAME.pack(i_chrom, start, len(scores)) + scores.tobytes())

    def close(self) -> None:
        """Have the file completed."""
        self._send(FRAME.pack(0, 0, 0))
        if self._process.wait():
            self._fail()

    def _send(self, content: bytes) -> None:
        """Hand bytes over, and wait until they are dealt with."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the process has no pipes")
        try:
            self._process.stdin.write(content)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        while not select.select([self._process.stdout], [], [], _PATIENCE_S)[0]:
            self._request.on_progress(0)  # a chance to stop
            if shutil.disk_usage(self._request.partial.parent).free < _FULL_BELOW_BYTES:
                raise StorageFullError(
                    f"no room left to write {self._request.path}; finished files are kept: make room and run "
                    "the same command again"
                )
        if self._process.stdout.read(1) != ACKNOWLEDGED:
            self._fail()

    def _fail(self) -> None:
        code = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").splitlines()[-_LINES_SHOWN:]
        raise ExportError(
            f"pyBigWig could not write {self._request.path} (exit code {code}: "
            f"{' '.join(lines) or 'no word'}); leave out --writer pybigwig"
        )


def _mend(task: WriteTask, maximum: float) -> None:
    """Correct the header's maximum and the last record of each zoom level, as far as these are wrong.

    libBigWig compares a score with the maximum only if it is no new minimum, starts from the smallest
    positive number, and stores a zoom record's sum when the next one begins (`updateStats` and
    `updateInterval` in its bwWrite.c).
    """
    chroms = list(task.chroms)
    with contextlib.closing(reopened(task)) as bigwig, open(task.partial, "r+b") as file:
        (summary_at,) = unpack_at(file, "<Q", 44)
        file.seek(summary_at + 16)
        file.write(struct.pack("<d", maximum))
        at = file.seek(-4, os.SEEK_END)  # the magic number is repeated there
        magic = file.read(4)
        for i_level in range(*unpack_at(file, "<H", 6)):
            (index_at,) = unpack_at(file, "<Q", 64 + 24 * i_level + 16)
            slot = _last_slot(file, index_at + 48)
            offset, size = unpack_at(file, "<2Q", slot)
            if at - offset > _MEND_WITHIN_BYTES:
                continue
            file.seek(offset)
            records = zlib.decompress(file.read(size))
            mended = zlib.compress(records[:-8] + _sums_of_last(records, bigwig, chroms))
            file.seek(at)
            file.write(mended + magic)
            file.seek(slot)
            file.write(struct.pack("<2Q", at, len(mended)))
            at += len(mended)


def _sums_of_last(records: bytes, bigwig: Any, chroms: list[str]) -> bytes:
    """Return the sum and the sum of squares of the bases of the last zoom record."""
    i_chrom, start, end = struct.unpack("<3I", records[-32:-20])
    scores = bigwig.values(chroms[i_chrom], start, end, numpy=True).astype(np.float64)
    with np.errstate(over="ignore"):
        return np.array([np.nansum(scores), np.nansum(scores**2)]).astype("<f4").tobytes()


def _last_slot(file: BinaryIO, node_at: int) -> int:
    """Return where an R-tree, its root at `node_at`, holds the offset and size of its last data block."""
    while True:
        is_leaf, n_children = unpack_at(file, "<BxH", node_at)
        if is_leaf:
            return int(node_at + 4 + 32 * (n_children - 1) + 16)
        (node_at,) = unpack_at(file, "<Q", node_at + 4 + 24 * (n_children - 1) + 16)
