"""Which bases are refined: those with the highest |score| of each track, or those of a BED file."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import RegionError, StoreError
from tism_scan.genome.bed import read_bed
from tism_scan.genome.spans import Spans, merge, subtract
from tism_scan.progress import OnProgress, Progress
from tism_scan.store.score_store import ScoreStore

DEFAULT_QUANTILE = 0.997
MOST_OF_THE_BASES = 0.5


def select_highest(
    store: ScoreStore, quantile: float, on_progress: OnProgress | None = None
) -> tuple[dict[str, Spans], tuple[float, ...]]:
    """Return the bases whose |mean TISM| is among the highest of any track, and each track's lowest of them.

    Parameters
    ----------
    store : ScoreStore
        Complete.
    quantile : float
        The part of the scored bases that is left out, of each track. Equal scores are chosen together;
        scores of 0 never are.
    on_progress : callable, optional
        Called with the bases that are read, once for each track.

    Raises
    ------
    StoreError
        If the quantile chooses no base, or more than half of them, or the store is damaged.
    """
    tracks, n_wanted = store.plan.scoring.tracks, store.plan.n_wanted
    firsts = _firsts(store.plan.chroms)
    union, thresholds, n_scored = np.empty(0, dtype=np.int64), [], 0
    for i_track, track in enumerate(tracks):
        highest, n_read = HighestScores(_n_above(quantile, n_wanted)), i_track * n_wanted
        for chrom in store.plan.wanted:
            for piece in store.plan.pieces(chrom):
                scores = store.read_track(chrom, piece.start, piece.end, i_track)
                highest.add(scores, firsts[chrom] + piece.start)
                n_read = min(n_read + len(piece), (i_track + 1) * n_wanted)
                if on_progress is not None:
                    on_progress(Progress(n_read, len(tracks) * n_wanted, "bases", part=track.name))
        threshold, positions = highest.above(quantile)
        thresholds.append(threshold)
        union = np.sort(np.concatenate([union, positions]), kind="stable")  # which merges what is in order
        union = union[np.diff(union, prepend=-1) > 0]
        n_scored = max(n_scored, highest.n_scored)
    _check_choice(store, quantile, len(union), n_scored)
    ends = np.searchsorted(union, [first + store.plan.chroms[chrom] for chrom, first in firsts.items()])
    by_chrom = zip(firsts.items(), np.split(union, ends[:-1]), strict=True)
    spans = {chrom: _spans_of(positions - first) for (chrom, first), positions in by_chrom if len(positions)}
    return spans, tuple(thresholds)


def select_listed(store: ScoreStore, bed: str | Path) -> tuple[dict[str, Spans], str]:
    """Return the scanned bases of a BED file, and a digest of them.

    Raises
    ------
    RegionError
        If the file cannot be used, or none of its bases was scanned.
    """
    listed, scanned = merge(read_bed(bed, store.plan.chroms)), dict(store.plan.wanted)
    spans = subtract(scanned, subtract(scanned, listed))
    if not spans:
        raise RegionError(f"{bed} has no base that {store.path} scanned; expected some; give another file")
    digest = hashlib.sha256()
    for chrom in sorted(spans):
        digest.update(f"{chrom}\n".encode() + spans[chrom].pairs().tobytes())
    return spans, digest.hexdigest()[:16]


class HighestScores:
    """The highest magnitudes of one track, as its scores come, with where they are.

    Parameters
    ----------
    n_most : int
        How many of them may be asked for; those that are equal to the lowest of these are kept, too.

    Attributes
    ----------
    n_scored : int
        How many scores there were.
    """

    def __init__(self, n_most: int) -> None:
        self.n_scored = 0
        self._n_most, self._lowest = n_most, np.float32(0)
        self._magnitudes, self._positions = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
        self._waiting: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
        self._n_waiting = 0

    def add(self, scores: NDArray[np.float32], first: int) -> None:
        """Take the scores of neighbours, float32 (n,), NaN without one, the first of them at a position."""
        magnitudes = np.abs(scores)
        self.n_scored += len(scores) - int(np.isnan(scores).sum())
        found = np.flatnonzero((magnitudes >= self._lowest) & (magnitudes > 0))
        self._waiting.append((magnitudes[found], found + first))
        self._n_waiting += len(found)
        if self._n_waiting > max(self._n_most, len(self._magnitudes)):  # each is sorted a few times only
            self._gather()

    def above(self, quantile: float) -> tuple[float, NDArray[np.int64]]:
        """Return the lowest magnitude above a quantile, infinity if none is, and where all of them are."""
        self._gather()
        n = _n_above(quantile, self.n_scored)
        if not n:
            return float("inf"), self._positions[:0]
        threshold = _nth_largest(self._magnitudes, n)
        return float(threshold), np.sort(self._positions[self._magnitudes >= threshold])

    def _gather(self) -> None:
        """Leave out what is not among the highest so far."""
        parts = [(self._magnitudes, self._positions), *self._waiting]
        magnitudes, positions = (np.concatenate(each) for each in zip(*parts, strict=True))
        self._waiting, self._n_waiting = [], 0
        self._lowest = _nth_largest(magnitudes, self._n_most) if self._n_most else np.float32(np.inf)
        is_kept = magnitudes >= self._lowest
        self._magnitudes, self._positions = magnitudes[is_kept], positions[is_kept]


def _n_above(quantile: float, n_bases: int) -> int:
    """Return how many of some bases are above a quantile: never more than half, whatever the rounding."""
    return min(round((1 - quantile) * n_bases), int(MOST_OF_THE_BASES * n_bases))


def _nth_largest(magnitudes: NDArray[np.float32], n: int) -> np.float32:
    """Return the n-th largest of magnitudes above 0, n from 1; 0 if there are fewer."""
    if n > len(magnitudes):
        return np.float32(0)
    nth: np.float32 = np.partition(magnitudes, len(magnitudes) - n)[len(magnitudes) - n]
    return nth


def _firsts(chroms: Mapping[str, int]) -> dict[str, int]:
    """Return where each chrom begins if all stand one after another."""
    firsts, n_bp = {}, 0
    for chrom, length in chroms.items():
        firsts[chrom], n_bp = n_bp, n_bp + length
    return firsts


def _spans_of(positions: NDArray[np.int64]) -> Spans:
    """Return positions, sorted, as spans."""
    breaks = np.flatnonzero(np.diff(positions) != 1)
    firsts = np.concatenate([positions[:1], positions[breaks + 1]])
    lasts = np.concatenate([positions[breaks], positions[-1:]])
    return Spans(np.stack([firsts, lasts + 1], axis=1))


def _check_choice(store: ScoreStore, quantile: float, n_chosen: int, n_scored: int) -> None:
    """Raise if a quantile chooses no base, or too many."""
    if not n_chosen:
        raise StoreError(
            f"quantile {quantile:g} chooses none of the {n_scored:,} scored bases of {store.path}; expected "
            "at least one; give a lower --quantile, or --bed"
        )
    if n_chosen > MOST_OF_THE_BASES * n_scored:
        raise StoreError(
            f"quantile {quantile:g} chooses {n_chosen:,} of the {n_scored:,} scored bases of {store.path}, "
            f"over its {len(store.plan.scoring.tracks):,} tracks together; expected at most half; give a "
            "higher --quantile, or --bed"
        )
