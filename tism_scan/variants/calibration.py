"""Where a score ranks among all scores of its track: counted once, kept beside the store's record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import StoreError
from tism_scan.export.parallel import Workers, jobs_for
from tism_scan.export.record import content_of
from tism_scan.genome.spans import Spans, overlaps, span_mask
from tism_scan.plan.scoring import minus_mean_effect
from tism_scan.plan.tiling import Block
from tism_scan.progress import OnProgress, Progress
from tism_scan.storage.read_only import check_may_write
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants.backgrounds import name_of, read_background
from tism_scan.variants.kept_ranks import (
    MEAN,
    REMEDY,
    SUBSTITUTIONS,
    Calibration,
    keep_calibration,
    kinds_of,
)
from tism_scan.variants.ranks import (
    Counts,
    RankTable,
    Refinement,
    Tally,
    bins_to_refine,
    exact_table,
    rank_table,
)

_TASK_BP = 32 << 20
_BASES_WORTH_A_PROCESS = 4 << 20


@dataclass(frozen=True)
class _Task:
    """Blocks of one chrom, to be counted for one track in one pass.

    Attributes
    ----------
    blocks : list of Block
    i_track : int
    bins : Mapping from str to int64 (n,), or None
        Of each kind of score that is counted, the bins to refine; None in the first pass.
    """

    blocks: list[Block]
    i_track: int
    bins: Mapping[str, NDArray[np.int64]] | None


class _Part(NamedTuple):
    """What a task found of one kind of score: counts that are not 0, and where among all they are."""

    places: NDArray[np.int64]
    numbers: Counts
    is_exact: bool


_Found = dict[str, _Part]
_Show = Callable[[int, bool, int], None]
"""Take a track's number, whether it is in its second pass, and how many bases of this are read."""


def calibrate(
    store: ScoreStore,
    *,
    background: str | Path | None = None,
    jobs: int | None = None,
    on_progress: OnProgress | None = None,
) -> Calibration:
    """Rank all scores of a store, keep the ranks beside it, and return them.

    Parameters
    ----------
    store : ScoreStore
        Complete.
    background : str or Path, optional
        A BED file: only scores of its bases are ranked; or a VCF or BCF: only those at its positions, all
        three substitutions of each. Those of the whole store by default.
    jobs : int or None
        Processes; None chooses by cores and the store's size. With more than one, a script needs the guard
        ``if __name__ == "__main__"``.
    on_progress : callable, optional
        Called with the bases that are read, in one or two passes a track.

    Raises
    ------
    StoreError
        If the store is not complete, is damaged, or holds an infinite score; or no base of the background has
        a score.
    RegionError, InputError
        If the background cannot be used.
    StorageFullError, StorageError, ReadOnlyError
        If the ranks cannot be kept.
    ScanError
        If a process died.
    """
    plan, content = store.plan, content_of(store)
    background = None if background is None else Path(background)
    spans = None if background is None else read_background(background, plan.chroms)
    store.check_complete(list(plan.wanted))
    check_may_write("the ranks", store.path, REMEDY)
    kinds = kinds_of(plan.scoring)
    jobs = jobs_for(jobs, plan.n_wanted, _BASES_WORTH_A_PROCESS)
    tables: dict[str, list[RankTable]] = {kind: [] for kind in kinds}
    with Workers[_Task, _Found](jobs, _Counter, str(store.path), spans) as workers:
        show = partial(_report, on_progress, store)
        for i_track in range(len(plan.scoring.tracks)):
            for kind, table in _tables(store, i_track, kinds, spans, workers, show).items():
                tables[kind].append(table)
    if not all(table.n for table in tables[MEAN]):
        where = "the store" if background is None else str(background)
        raise StoreError(f"no base of {where} has a score in every track; expected scores to rank")
    ranked = tuple(tables.get(SUBSTITUTIONS, ())), tuple(tables[MEAN])
    calibration = Calibration(name_of(background), *ranked)
    keep_calibration(store, calibration, content)
    return calibration


def _tables(
    store: ScoreStore,
    i_track: int,
    kinds: Sequence[str],
    spans: Mapping[str, Spans] | None,
    workers: Workers[_Task, _Found],
    show: _Show,
) -> dict[str, RankTable]:
    """Return the ranks of one track's scores, in two passes, or one where every bin is one number."""
    tallies = {kind: Tally() for kind in kinds}
    for found in _results(store, i_track, None, spans, workers, show):
        for kind, part in found.items():
            tallies[kind].counts[part.places] += part.numbers
            tallies[kind].is_exact &= part.is_exact
    counts = {kind: tally.counts for kind, tally in tallies.items()}
    bins = {kind: bins_to_refine(counts[kind]) for kind in kinds if not tallies[kind].is_exact}
    refined = {kind: Refinement(each).counts for kind, each in bins.items()}
    for found in _results(store, i_track, bins, spans, workers, show) if bins else ():
        for kind, part in found.items():
            refined[kind].ravel()[part.places] += part.numbers
    return {
        kind: rank_table(counts[kind], bins[kind], refined[kind])
        if kind in bins
        else exact_table(counts[kind])
        for kind in kinds
    }


def _results(
    store: ScoreStore,
    i_track: int,
    bins: Mapping[str, NDArray[np.int64]] | None,
    spans: Mapping[str, Spans] | None,
    workers: Workers[_Task, _Found],
    show: _Show,
) -> Iterator[_Found]:
    """Yield what all blocks hold of a track, some at once."""
    n_done, n_total = 0, store.plan.n_wanted
    tasks = [_Task(blocks, i_track, bins) for blocks in _groups(store, spans)]
    for task, found in zip(tasks, workers.results(tasks), strict=True):
        yield found
        n_done += sum(map(len, task.blocks))
        show(i_track, bins is not None, min(n_done, n_total))


def _groups(store: ScoreStore, spans: Mapping[str, Spans] | None) -> Iterator[list[Block]]:
    """Yield the blocks of the background, some megabases at once."""
    group: list[Block] = []
    n_bp = 0
    for chrom in store.plan.wanted:
        for block in store.plan.pieces(chrom):
            if spans is not None and not overlaps(spans.get(chrom, ()), block.start, block.end):
                continue
            group.append(block)
            n_bp += len(block)
            if n_bp >= _TASK_BP:
                yield group
                group, n_bp = [], 0
    if group:
        yield group


def _report(
    on_progress: OnProgress | None, store: ScoreStore, i_track: int, is_second: bool, n_done: int
) -> None:
    if on_progress is not None:
        n_each, tracks = store.plan.n_wanted, store.plan.scoring.tracks
        n_before = (2 * i_track + is_second) * n_each
        name = tracks[i_track].name
        on_progress(Progress(n_before + n_done, 2 * len(tracks) * n_each, "bases", part=name))


class _Counter:
    """What one process counts with."""

    def __init__(self, store: str, spans: Mapping[str, Spans] | None) -> None:
        self._store, self._spans = ScoreStore.open(store), spans

    def __call__(self, task: _Task) -> _Found:
        """Return what the blocks of a task hold."""
        counters: dict[str, Tally | Refinement]
        if task.bins is None:
            counters = {kind: Tally() for kind in kinds_of(self._store.plan.scoring)}
        else:
            counters = {kind: Refinement(bins) for kind, bins in task.bins.items()}
        for block in task.blocks:
            channels, mean = self._scores(block, task.i_track)
            if MEAN in counters:
                counters[MEAN].add(mean)
            if SUBSTITUTIONS in counters:
                counters[SUBSTITUTIONS].add(channels.ravel())
                # One of the four is the base itself, which is no substitution: exactly 0, in the lowest bin.
                if task.bins is None or task.bins[SUBSTITUTIONS][:1].tolist() == [0]:
                    counters[SUBSTITUTIONS].counts.ravel()[0] -= len(mean)
        found = {}
        for kind, counter in counters.items():
            places = np.flatnonzero(counter.counts)
            is_exact = isinstance(counter, Tally) and counter.is_exact
            found[kind] = _Part(places, counter.counts.ravel()[places], is_exact)
        return found

    def _scores(self, block: Block, i_track: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return TISM, float32 (4, n), and mean TISM, float32 (n,), of a block's bases that are ranked.

        Of a store of mean TISM, the first is of one channel.
        """
        place = block.chrom, block.start, block.end, i_track
        if self._store.plan.scoring.values == "tism":
            channels = self._store.read_channels(*place)
            with np.errstate(invalid="ignore"):  # infinities that cancel, which are refused below
                mean = minus_mean_effect(channels)
        else:
            mean = self._store.read_track(*place)
            channels = mean[None]
        is_ranked = np.isfinite(mean)
        if not is_ranked.all():
            _refuse_infinite(channels, block)
        if self._spans is not None:
            is_ranked &= span_mask(self._spans.get(block.chrom, ()), block.start, block.end)
        if not is_ranked.all():
            channels, mean = channels[:, is_ranked], mean[is_ranked]
        return channels, mean


def _refuse_infinite(channels: NDArray[np.float32], block: Block) -> None:
    """Raise StoreError if a score of a block is infinite."""
    is_infinite = np.isinf(channels).any(axis=0)
    if is_infinite.any():
        position = block.start + int(is_infinite.argmax())
        raise StoreError(
            f"the score of {block.chrom}:{position + 1:,} is infinite; expected numbers; scan that block "
            "again"
        )
