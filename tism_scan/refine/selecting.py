"""Which bases are refined: those with the highest |score| of each track, or those of a BED file."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import RegionError, StoreError
from tism_scan.genome.bed import read_bed
from tism_scan.genome.spans import Spans, merge, subtract
from tism_scan.plan.tiling import Block
from tism_scan.progress import OnProgress, Progress
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants.ranks import Refinement, new_counts, places_from_top

Passes = Callable[[], Iterator[NDArray[np.float32]]]  # each call goes through all scores of a track

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
        Called with the bases that are read; there are two passes a track, and one for all tracks together.

    Raises
    ------
    StoreError
        If the quantile chooses no base, or more than half of them, or the store is damaged.
    """
    n_tracks, n_wanted = len(store.plan.scoring.tracks), store.plan.n_wanted
    n_done, n_total = 0, 3 * n_tracks * n_wanted

    def scores_of(i_track: int, piece: Block) -> NDArray[np.float32]:
        nonlocal n_done
        n_done = min(n_done + len(piece), n_total)
        if on_progress is not None:
            on_progress(Progress(n_done, n_total, "bases", note="choosing the bases"))
        return store.read_track(piece.chrom, piece.start, piece.end, i_track)

    def all_scores(i_track: int) -> Iterator[NDArray[np.float32]]:
        for chrom in store.plan.wanted:
            for piece in store.plan.pieces(chrom):
                scores = scores_of(i_track, piece)
                yield scores[~np.isnan(scores)]

    counts = [_threshold(partial(all_scores, i_track), quantile) for i_track in range(n_tracks)]
    thresholds, n_scored = tuple(threshold for threshold, _ in counts), counts[0][1]
    chosen: dict[str, list[NDArray[np.int64]]] = {}
    for chrom in store.plan.wanted:
        for piece in store.plan.pieces(chrom):
            is_chosen = np.zeros(len(piece), dtype=np.bool_)
            for i_track, threshold in enumerate(thresholds):
                magnitudes = np.abs(scores_of(i_track, piece))
                is_chosen |= (magnitudes >= threshold) & (magnitudes > 0)
            chosen.setdefault(chrom, []).append(np.flatnonzero(is_chosen) + piece.start)
    spans = {chrom: _spans_of(np.concatenate(parts)) for chrom, parts in chosen.items()}
    _check_number(store, quantile, sum(each.n_bases for each in spans.values()), n_scored)
    return {chrom: each for chrom, each in spans.items() if each}, thresholds


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


def _threshold(passes: Passes, quantile: float) -> tuple[float, int]:
    """Return the lowest magnitude above a quantile, and how many there are; infinity if none is above it."""
    first = new_counts()
    for scores in passes():
        first.add(scores)
    n = int(first.counts.sum())
    n_chosen = round((1 - quantile) * n)
    if not n_chosen:
        return float("inf"), n
    bins, nth = places_from_top(first.counts, np.array([n_chosen]))
    second = Refinement(bins)
    for scores in passes():
        second.add(scores)
    sub, _ = places_from_top(second.counts[0], nth)
    bits = (bins * second.counts.shape[1] + sub).astype(np.uint32)
    return float(bits.view(np.float32)[0]), n


def _spans_of(positions: NDArray[np.int64]) -> Spans:
    """Return positions, sorted, as spans."""
    breaks = np.flatnonzero(np.diff(positions) != 1)
    firsts = np.concatenate([positions[:1], positions[breaks + 1]])
    lasts = np.concatenate([positions[breaks], positions[-1:]])
    return Spans(np.stack([firsts, lasts + 1], axis=1))


def _check_number(store: ScoreStore, quantile: float, n_chosen: int, n_scored: int) -> None:
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
