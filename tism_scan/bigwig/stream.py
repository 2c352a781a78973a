"""A bigWig written as its scores come, in memory that grows neither with a chrom nor with the genome."""

import shutil
import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig.headers import (
    ITEMS_PER_SECTION,
    MAGIC,
    RECORDS_PER_BLOCK,
    ZoomPlace,
    chrom_tree,
    chrom_tree_at,
    head,
    reductions,
)
from tism_scan.bigwig.index import IndexedParts
from tism_scan.bigwig.sections import Packed, pack_sections
from tism_scan.bigwig.summary import Tally
from tism_scan.bigwig.zooms import RECORD, Records, ZoomLevels

# Scores are cut into pieces of this many bases, counted from the chrom's start: the file is the same however
# they were handed over.
PIECE_BP = 1 << 18
PIECES_IN_FLIGHT = 4
_COPY_BYTES = 1 << 20

Scores = NDArray[np.float32]


NewFile = Callable[[], BinaryIO]


@contextmanager
def bigwig_stream(
    file: BinaryIO, chroms: Mapping[str, int], scratch: Path, n_threads: int = 1
) -> Iterator["BigWigStream"]:
    """Yield what writes a bigWig into a file, empty and open for writing.

    Parameters
    ----------
    file : BinaryIO
    chroms : Mapping from str to int
        Length of every chrom, in the order of their numbers.
    scratch : Path
        Folder of temporary files without a name, which take a quarter of the file's size.
    n_threads : int
        Threads that compress.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(n_threads, "bigwig"))

        def new_file() -> BinaryIO:
            return stack.enter_context(tempfile.TemporaryFile(dir=scratch))

        yield BigWigStream(file, chroms, new_file, pool)


class BigWigStream:
    """Writes one bigWig; made by `bigwig_stream`."""

    def __init__(
        self, file: BinaryIO, chroms: Mapping[str, int], new_file: NewFile, pool: ThreadPoolExecutor
    ) -> None:
        self._file = file
        self._pool = pool
        self._lengths = list(chroms.values())
        self._i_chrom = {chrom: i for i, chrom in enumerate(chroms)}
        self._reductions = reductions(max(self._lengths))
        self._tally = Tally()
        self._zoom_levels = ZoomLevels(self._reductions)
        self._i_last_chrom = -1
        self._in_flight: deque[Future[list[Packed]]] = deque()
        self._sections = IndexedParts(file, new_file())
        self._levels = [_SpilledLevel(new_file(), new_file()) for _ in self._reductions]
        tree_at = chrom_tree_at(len(self._reductions))
        file.write(b"\0" * tree_at)
        file.write(chrom_tree(chroms, tree_at))
        self._sections_at = file.tell()
        file.write(struct.pack("<Q", 0))

    def write_chrom(self, chrom: str, blocks: Iterator[Scores]) -> None:
        """Write all scores of a chrom.

        Parameters
        ----------
        chrom : str
            It comes after those that are written already.
        blocks : iterator of float32 (n,)
            Consecutive, as long as the chrom together. Finite, or NaN for a gap. They must not change
            afterwards.

        Raises
        ------
        ValueError
            If a chrom comes out of order, or its scores are not as many as it has bases.
        """
        i_chrom = self._i_chrom[chrom]
        length = self._lengths[i_chrom]
        if i_chrom <= self._i_last_chrom:
            raise ValueError(f"{chrom} comes after a chrom that stands behind it in the genome")
        self._i_last_chrom = i_chrom
        self._zoom_levels.begin_chrom(i_chrom, length)
        start = 0
        for scores in _in_pieces(blocks):
            if start + len(scores) > length:
                raise ValueError(f"more scores came than the {length} bases of {chrom}")
            self._in_flight.append(self._pool.submit(pack_sections, i_chrom, start, scores))
            start += len(scores)
            self._tally.add(scores[~np.isnan(scores)])
            for level, records in self._zoom_levels.add(scores):
                self._levels[level].append(records)
            while len(self._in_flight) > PIECES_IN_FLIGHT:
                self._sections.append(self._in_flight.popleft().result())
        if start != length:
            raise ValueError(f"{start} scores came for the {length} bases of {chrom}")

    def finish(self) -> Tally:
        """Write what comes after the last score, and return what was counted."""
        while self._in_flight:
            self._sections.append(self._in_flight.popleft().result())
        index_at = self._sections.write_index(self._file, per_part=ITEMS_PER_SECTION)
        places = [
            level.write_to(self._file, reduction)
            for level, reduction in zip(self._levels, self._reductions, strict=True)
        ]
        self._file.write(struct.pack("<I", MAGIC))
        self._file.seek(0)
        self._file.write(head(self._tally, self._sections_at, index_at, places))
        self._file.seek(self._sections_at)
        self._file.write(struct.pack("<Q", self._sections.n_parts))
        return self._tally


class _SpilledLevel:
    """The records of one zoom level, compressed into a temporary file until the sections are complete."""

    def __init__(self, file: BinaryIO, leaves: BinaryIO) -> None:
        self._file = file
        self._parts = IndexedParts(file, leaves)
        self._waiting: list[Records] = []
        self._n_waiting = self._n_records = 0

    def append(self, records: Records) -> None:
        """Add records, which come after all that were added."""
        self._waiting.append(records)
        self._n_waiting += len(records)
        if self._n_waiting >= RECORDS_PER_BLOCK:
            self._pack(self._n_waiting // RECORDS_PER_BLOCK * RECORDS_PER_BLOCK)

    def write_to(self, file: BinaryIO, reduction: int) -> ZoomPlace:
        """Write all records and their index, and return where they are."""
        self._pack(self._n_waiting)
        records_at = file.tell()
        file.write(struct.pack("<I", self._n_records))
        moved_by = file.tell()
        self._file.seek(0)
        shutil.copyfileobj(self._file, file, _COPY_BYTES)
        index_at = self._parts.write_index(file, moved_by=moved_by, per_part=RECORDS_PER_BLOCK)
        return ZoomPlace(reduction, records_at, index_at)

    def _pack(self, n_records: int) -> None:
        """Compress so many of the waiting records."""
        records = np.concatenate(self._waiting) if self._waiting else np.zeros(0, RECORD)
        parts = []
        for first in range(0, n_records, RECORDS_PER_BLOCK):
            block = records[first : min(first + RECORDS_PER_BLOCK, n_records)]
            (first_chrom, start), (last_chrom, end) = (
                block[0][["chrom", "start"]],
                block[-1][["chrom", "end"]],
            )
            content = zlib.compress(block.tobytes(), 1)
            parts.append(Packed(int(first_chrom), int(start), int(last_chrom), int(end), content))
        self._parts.append(parts)
        self._waiting, self._n_waiting = [records[n_records:]], len(records) - n_records
        self._n_records += n_records


def _in_pieces(blocks: Iterator[Scores]) -> Iterator[Scores]:
    """Yield the scores of a chrom cut at every `PIECE_BP` from its start."""
    waiting: Scores = np.zeros(0, np.float32)
    for block in blocks:
        scores = np.concatenate([waiting, block]) if len(waiting) else block
        n_full = len(scores) // PIECE_BP * PIECE_BP
        for first in range(0, n_full, PIECE_BP):
            yield scores[first : first + PIECE_BP]
        waiting = scores[n_full:]
    if len(waiting):
        yield waiting
