"""Rows around peaks out of the scores of a genome: each stored chunk is read once.

Peaks are read in the order of the store, whatever their own. So memory is that of a block and a batch of
rows, however many peaks there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import StoreError
from tism_scan.export.reference import UNSURE, Reference, codes_of_scores
from tism_scan.export.region_rows import BaseCounts, RowBatch, rows_at_once, starts_of
from tism_scan.genome.alphabet import N_CODE, Codes
from tism_scan.genome.peaks import PeakSet
from tism_scan.genome.spans import span_mask
from tism_scan.store.score_store import ScoreStore


def rows_of_scan(
    store: ScoreStore,
    refined: ScoreStore | None,
    i_track: int,
    around: tuple[PeakSet, int],
    reference: Reference,
    counts: BaseCounts,
) -> Iterator[RowBatch]:
    """Yield the rows of one track around all peaks, in the order of the store.

    Parameters
    ----------
    store : ScoreStore
        Of a scan, with ``values="tism"``.
    refined : ScoreStore or None
        The scan's refinement, whose exact ISM is read. The sequence is then that of the FASTA, or of the
        scan, so that bases which were not refined have their letters.
    i_track : int
    around : PeakSet and int
        The peaks, and the width of their rows.
    reference : Reference
        What tells the bases.
    counts : BaseCounts
        The bases that are zeros are added to it.

    Raises
    ------
    StoreError
        If the store is damaged, or a score is infinite.
    GenomeError
        If the FASTA is not the one that was scanned.
    """
    scored, of_letters = refined or store, None
    if refined is not None and not reference.has_genome:
        of_letters = _batches(store, i_track, *around)
    for batch in _batches(scored, i_track, *around):
        codes = _codes(next(of_letters) if of_letters else batch, reference)
        is_unscored = np.asarray(np.isnan(batch.tism).any(axis=1))
        if refined is None:
            codes[is_unscored] = N_CODE
        _count(counts, batch, codes, is_unscored, scored)
        codes[codes == UNSURE] = N_CODE
        yield RowBatch(batch.places, codes, _hypothetical(batch, is_unscored, scored))


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
