"""Scores around peaks: each stored chunk is read once, and the rows come back in the peaks' order.

Peaks are read in the order of the store, whatever their own, and each row is put at its place in a file
without a name. So memory is that of a block and a batch of rows, however many peaks there are, and an export
that is killed leaves nothing of it behind.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import StoreError
from tism_scan.export.reference import UNSURE, Reference, codes_of_scores
from tism_scan.genome.alphabet import N_CODE, Codes
from tism_scan.genome.peaks import PeakSet
from tism_scan.genome.spans import span_mask
from tism_scan.store.score_store import ScoreStore

BATCH_BYTES = 8 << 20
_HALF_EXPONENT = 10  # the largest magnitude in float16 is from 2^9 to 2^10: room above for sums, below for
# small scores, of which those above 2^-14 keep all eleven bits


class Rows:
    """Rows of numbers in a file without a name: put in any order, read from the first to the last.

    Parameters
    ----------
    folder : Path
        On whose disk the file is; it is gone once it is closed, or the process ends.
    shape : tuple of int
        Number of rows, and the shape of one.
    dtype : type
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `close`
        self.shape = shape
        self._dtype: np.dtype[Any] = np.dtype(dtype)
        self._row_bytes: int = math.prod(shape[1:]) * self._dtype.itemsize

    def put(self, places: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write rows, (n, ...), at their places, (n,)."""
        values = np.ascontiguousarray(values, dtype=self._dtype)
        breaks: list[int] = (np.flatnonzero(np.diff(places) != 1) + 1).tolist()
        for first, last in zip([0, *breaks], [*breaks, len(places)], strict=True):
            self._file.seek(int(places[first]) * self._row_bytes)
            self._file.write(values[first:last].tobytes())

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield all rows in order, some at once."""
        self._file.seek(0)
        n_rows, n_at_once = self.shape[0], rows_at_once(self.shape[-1])
        for first in range(0, n_rows, n_at_once):
            n_here = min(n_at_once, n_rows - first)
            content = self._file.read(n_here * self._row_bytes)
            yield np.frombuffer(content, dtype=self._dtype).reshape(n_here, *self.shape[1:])

    def close(self) -> None:
        """Give the file's room back."""
        self._file.close()


def rows_at_once(width: int) -> int:
    """Return how many rows of a width are held in memory at once."""
    return max(1, BATCH_BYTES // (16 * width))


@dataclass
class BaseCounts:
    """Bases of rows that are zeros, by reason; one that is in several rows counts in each.

    Attributes
    ----------
    n_off_chrom : int
        Past the ends of the chroms.
    n_unwanted : int
        Not among the bases that were to be scanned; of exact ISM, to be refined.
    n_without_score : int
        N in the genome, or in a block that was not computed.
    n_unsure : int
        Bases whose scores are there and do not tell which base it is.
    n_empty_rows : int
        Rows without any score.
    """

    n_off_chrom: int = 0
    n_unwanted: int = 0
    n_without_score: int = 0
    n_unsure: int = 0
    n_empty_rows: int = 0

    @property
    def n_zeros(self) -> int:
        """Bases whose scores are zeros for want of a score."""
        return self.n_off_chrom + self.n_unwanted + self.n_without_score


@dataclass
class TrackRows:
    """Sequence and scores of one track around all peaks.

    Attributes
    ----------
    codes : Rows, uint8 (n, width)
        `N_CODE` without a score in the scan.
    scores : Rows, float32 (n, 4, width)
        Hypothetical scores: TISM minus its mean over the four bases, in A, C, G, T order; 0 without a score.
    highest : float
        The largest magnitude.
    counts : BaseCounts
    """

    codes: Rows
    scores: Rows
    highest: float = 0.0
    counts: BaseCounts = field(default_factory=BaseCounts)

    @property
    def half_scale(self) -> float:
        """The power of two that brings the largest magnitude to between 2^9 and 2^10, for float16."""
        if not self.highest:
            return 1.0
        return math.ldexp(1.0, min(_HALF_EXPONENT - math.frexp(self.highest)[1], 127))

    def batches(self) -> Iterator[tuple[Codes, NDArray[np.float32]]]:
        """Yield codes and scores of all rows in order, some at once."""
        yield from zip(self.codes.batches(), self.scores.batches(), strict=True)

    def close(self) -> None:
        """Give the files' room back."""
        self.codes.close()
        self.scores.close()


def starts_of(peaks: PeakSet, width: int) -> NDArray[np.int64]:
    """Return where the row of each peak begins, int64 (n,); before the chrom it is below 0."""
    return peaks.centers - width // 2


def read_rows(
    store: ScoreStore,
    i_track: int,
    peaks: PeakSet,
    width: int,
    reference: Reference,
    folder: Path,
    on_rows: Callable[[int], None],
    refined: ScoreStore | None = None,
) -> TrackRows:
    """Return the rows of one track around all peaks; close them when they are written.

    Parameters
    ----------
    store : ScoreStore
        Of a scan, with ``values="tism"``.
    i_track : int
    peaks : PeakSet
    width : int
    reference : Reference
        What tells the bases.
    folder : Path
        Where the rows are kept until then.
    on_rows : callable
        Told of the number of rows that were read, batch by batch.
    refined : ScoreStore, optional
        The scan's refinement, whose exact ISM is read. The sequence is then that of the FASTA, or of the
        scan, so that bases which were not refined have their letters.

    Raises
    ------
    StoreError
        If the store is damaged, or a score is infinite.
    GenomeError
        If the FASTA is not the one that was scanned.
    OSError
        If there is no room.
    """
    n = len(peaks)
    rows = TrackRows(Rows(folder, (n, width), np.uint8), Rows(folder, (n, 4, width), np.float32))
    try:
        scored, of_letters = refined or store, None
        if refined is not None and not reference.has_genome:
            of_letters = _batches(store, i_track, peaks, width)
        for batch in _batches(scored, i_track, peaks, width):
            codes = _codes(next(of_letters) if of_letters else batch, reference)
            is_unscored = np.asarray(np.isnan(batch.tism).any(axis=1))
            if refined is None:
                codes[is_unscored] = N_CODE
            _count(rows.counts, batch, codes, is_unscored, scored)
            codes[codes == UNSURE] = N_CODE
            scores = _hypothetical(batch, is_unscored, scored)
            rows.highest = max(rows.highest, float(np.abs(scores).max()))
            rows.codes.put(batch.places, codes)
            rows.scores.put(batch.places, scores)
            on_rows(len(batch.places))
    except BaseException:
        rows.close()
        raise
    return rows


@dataclass(frozen=True)
class _Batch:
    """Some rows: the places of their peaks, chrom, start and end on it, and TISM, NaN without a score."""

    places: NDArray[np.int64]
    spans: list[tuple[str, int, int, int]]  # the last: how far into the row the chrom begins
    tism: NDArray[np.float32]  # (n, 4, width)


class _Along:
    """Scores of one track along a chrom, each block read once, for places whose starts ascend."""

    def __init__(self, store: ScoreStore, i_track: int, chrom: str) -> None:
        self._store, self._i_track, self._chrom = store, i_track, chrom
        self._length = store.plan.chroms[chrom]
        array, _ = store.plan.array_of(chrom)
        self._block_bp = store.plan.array_block_bp(array) if array == chrom else self._length
        self._start = self._end = 0
        self._held = np.empty((4, 0), dtype=np.float32)

    def at(self, start: int, end: int) -> NDArray[np.float32]:
        """Return TISM of some bases, float32 (4, end - start)."""
        if start >= self._end:
            self._start = self._end = start // self._block_bp * self._block_bp
            self._held = np.empty((4, 0), dtype=np.float32)
        if end > self._end:
            first = max(start, self._start)
            pieces = [self._held[:, first - self._start :]]
            if not pieces[0].shape[1]:
                first = self._end
            while self._end < end:
                block_end = min(self._end + self._block_bp, self._length)
                pieces.append(self._store.read_channels(self._chrom, self._end, block_end, self._i_track))
                self._end = block_end
            self._held, self._start = np.concatenate(pieces, axis=1), first
        return self._held[:, start - self._start : end - self._start]


def _batches(store: ScoreStore, i_track: int, peaks: PeakSet, width: int) -> Iterator[_Batch]:
    """Yield the rows of all peaks, in the order of the store."""
    starts, plan = starts_of(peaks, width), store.plan
    rank_of = {chrom: i for i, chrom in enumerate(plan.chroms)}
    rank = np.array([rank_of[chrom] for chrom in peaks.chroms])[peaks.i_chrom]
    order = np.lexsort((starts, rank))
    along: _Along | None = None
    chrom = ""
    for first in range(0, len(order), rows_at_once(width)):
        places = order[first : first + rows_at_once(width)]
        tism = np.full((len(places), 4, width), np.nan, dtype=np.float32)
        spans = []
        for i, place in enumerate(places.tolist()):
            start = int(starts[place])
            if chrom != peaks.chroms[peaks.i_chrom[place]]:
                chrom = peaks.chroms[peaks.i_chrom[place]]
                along = _Along(store, i_track, chrom) if chrom in plan.wanted else None
            begin, end = max(start, 0), min(start + width, plan.chroms[chrom])
            if along is not None:
                tism[i, :, begin - start : end - start] = along.at(begin, end)
            spans.append((chrom, begin, end, begin - start))
        yield _Batch(places, spans, tism)


def _codes(batch: _Batch, reference: Reference) -> Codes:
    """Return the codes of a batch, uint8 (n, width); what is not on the chrom has no score, so no base."""
    n, _, width = batch.tism.shape
    if not reference.has_genome:
        return codes_of_scores(batch.tism.transpose(1, 0, 2).reshape(1, 4, -1)).reshape(n, width)
    codes = np.full((n, width), N_CODE, dtype=np.uint8)
    for i, (chrom, begin, end, offset) in enumerate(batch.spans):
        here = slice(offset, offset + end - begin)
        codes[i, here] = reference.codes(chrom, begin, end, batch.tism[None, i, :, here])
    return codes


def _count(
    counts: BaseCounts, batch: _Batch, codes: Codes, is_unscored: NDArray[np.bool_], store: ScoreStore
) -> None:
    """Add the bases of a batch that are zeros."""
    n_on_chrom = np.array([end - begin for _, begin, end, _ in batch.spans])
    n_off = is_unscored.shape[1] - n_on_chrom
    n_unscored = is_unscored.sum(axis=1) - n_off
    counts.n_off_chrom += int(n_off.sum())
    counts.n_unsure += int((codes == UNSURE).sum())
    counts.n_empty_rows += int(is_unscored.all(axis=1).sum())
    for i in np.flatnonzero(n_unscored).tolist():
        chrom, begin, end, _ = batch.spans[i]
        wanted = store.plan.wanted.get(chrom, ())
        n_unwanted = end - begin - int(span_mask(wanted, begin, end).sum())
        counts.n_unwanted += n_unwanted
        counts.n_without_score += int(n_unscored[i]) - n_unwanted


def _hypothetical(batch: _Batch, is_unscored: NDArray[np.bool_], store: ScoreStore) -> NDArray[np.float32]:
    """Return TISM minus its mean over the four bases, float32 (n, 4, width); 0 without a score."""
    with np.errstate(invalid="ignore", over="ignore"):  # infinite scores are refused below
        scores: NDArray[np.float32] = batch.tism - batch.tism.mean(axis=1, keepdims=True)
    scores[np.broadcast_to(is_unscored[:, None], scores.shape)] = 0
    if not np.isfinite(scores).all():
        i, _, column = np.argwhere(~np.isfinite(scores))[0].tolist()
        chrom, begin, _, offset = batch.spans[i]
        raise StoreError(
            f"a score of {chrom}:{begin - offset + column + 1:,} in {store.path} is infinite; expected "
            "numbers; scan that block again"
        )
    return scores
