"""From a store to its seqlets as BED: tracks and chroms in parallel, memory bounded by a block."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import ScanError, StoreError
from tism_scan.export import seqlet_names
from tism_scan.export.chroms import chosen_chroms
from tism_scan.export.processes import spawned_pool
from tism_scan.export.seqlet_names import Held, Namer, Naming
from tism_scan.export.seqlet_parts import (
    Calling,
    MotifFiles,
    Source,
    TrackSeqlets,
    check_out,
    groups_of,
    merge_parts,
    part_of,
    publish,
    publish_names,
    shown_name,
)
from tism_scan.export.seqlets import ScoredMagnitudes, Scores, SeqletRule, Seqlets, find_seqlets
from tism_scan.plan.tracks import Track, choose_tracks
from tism_scan.progress import OnProgress, Progress
from tism_scan.store.refined import ExactScores, existing_refinement, n_refined
from tism_scan.store.score_store import ScoreStore


@dataclass(frozen=True)
class _Calls:
    """What one worker is to call, and where to."""

    i_track: int
    name: str
    threshold: float
    highest: float
    what: Calling


def write_seqlets(
    store: ScoreStore,
    out: str | Path,
    rule: SeqletRule | None = None,
    *,
    tracks: str | None = None,
    chroms: Sequence[str] = (),
    naming: Naming | None = None,
    jobs: int = 1,
    allow_incomplete: bool = False,
    is_exact: bool = False,
    on_progress: OnProgress | None = None,
) -> list[TrackSeqlets]:
    """Write the seqlets of a store as BED6+2, sorted, and return what was called in each track.

    The columns after BED's six are the signed sum of the scores within, and the score of the greatest
    magnitude. The fifth, 0 to 1000, is that magnitude as a part of the track's greatest. Chroms are in the
    order of the FASTA. Seqlets that are named have three columns more: the nearest motif, its strand, and
    Tomtom's p-value; and `MotifFiles` beside them.

    Parameters
    ----------
    store : ScoreStore
    out : str or Path
        ``.bed``, or ``.bed.gz`` for bgzip and a tabix index beside it, which need pysam. Written aside and
        renamed.
    rule : SeqletRule, optional
    tracks : str, optional
        Output indices, names and globs; all tracks by default.
    chroms : sequence of str
        Globs; all scanned chroms by default. The quantile is taken over these.
    naming : Naming, optional
        With which motifs seqlets are named.
    jobs : int
        Processes; with 1, everything is done in this one.
    allow_incomplete : bool
        Whether blocks that are not computed are skipped.
    is_exact : bool
        Whether the scores are mean ISM of `tism_scan.refine`. A base that was not refined counts as 0: it is
        never high, may be in the gap of a seqlet, and is one of the bases over which the quantile is taken.
    on_progress : callable, optional
        Called with the passes over a chrom that are done; `part` is the track's name.

    Raises
    ------
    StoreError
        If a chosen chrom is not complete, or the store is damaged or holds an infinite score; or exact ISM is
        asked for, and there is none.
    TrackError, RegionError
        If a selection fits nothing.
    GenomeError, InputError
        If seqlets cannot be named.
    ExportError
        If the file cannot be written, or pysam is missing.
    ScanError
        If a process died.
    """
    out, rule, plan = Path(out), rule or SeqletRule(), store.plan
    check_out(out)
    i_tracks = choose_tracks(plan.scoring.tracks, tracks)
    chosen = chosen_chroms(plan, chroms)
    refined = existing_refinement(store) if is_exact else None
    for each in (store, refined):
        if each is not None and not allow_incomplete:
            each.check_complete(chosen)
    if naming is not None:
        naming.check(store)
    called = []
    for opened in (_opened_scan, _opened):  # the store may have been written since the last call
        opened.cache_clear()
    n_passes = 2 * len(chosen) * len(i_tracks)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as aside:
        n_exact = None if refined is None else n_refined(refined, chosen)
        kind = "" if n_exact is None else f" by exact ISM of {n_exact:,} bases"
        what = Calling(Source(str(store.path), is_exact), rule, naming, Path(aside), kind)
        with _Workers(jobs) as workers:
            for n_before, i_track in enumerate(i_tracks):
                track = plan.scoring.tracks[i_track]

                def count(n_done: int, n_before: int = n_before, track: Track = track) -> None:
                    if on_progress is not None:
                        n_all_done = 2 * len(chosen) * n_before + n_done
                        on_progress(Progress(n_all_done, n_passes, "passes", part=track.name))

                called.append(_call_track(store, i_track, chosen, what, workers, count))
        merged = Path(aside) / "merged.bed"
        merge_parts(merged, store, i_tracks, chosen, what)
        longest_bp = max(plan.chroms.values())
        if naming is not None:
            publish_names(merged, MotifFiles.beside(out), called, longest_bp)
        publish(merged, out, longest_bp)
    return [replace(each, n_refined=n_exact) for each in called]


class _Workers:
    """Processes that carry out tasks, or this process alone."""

    def __init__(self, jobs: int) -> None:
        self._pool = spawned_pool(jobs) if jobs > 1 else None

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield each task's result, in order.

        Raises
        ------
        ScanError
            If a process died.
        """
        if self._pool is None:
            yield from (task(*each) for each in arguments)
            return
        waiting: list[Future[Any]] = [self._pool.submit(task, *each) for each in arguments]
        try:
            for future in waiting:
                yield future.result()
        except BrokenProcessPool:
            raise ScanError(
                "a process that called seqlets died, which mostly means that memory ran out; use fewer --jobs"
            ) from None


def _call_track(
    store: ScoreStore,
    i_track: int,
    chroms: Sequence[str],
    what: Calling,
    workers: _Workers,
    count: Callable[[int], None],
) -> TrackSeqlets:
    """Call the seqlets of one track, each group's into a file of its own, and return their number."""
    groups = groups_of(store, chroms)
    # The longest first, so that no process is left with it at the end.
    order = sorted(groups, key=lambda group: -sum(store.plan.chroms[chrom] for chrom in groups[group]))
    magnitudes, n_done = ScoredMagnitudes(), 0
    tasks = [(what.source, i_track, groups[group]) for group in order]
    for group, (bins, n_in_bin) in zip(order, workers.map(_count_chroms, tasks), strict=True):
        magnitudes.counts[bins] += n_in_bin
        n_done += len(groups[group])
        count(n_done)
    track, limits = store.plan.scoring.tracks[i_track], what.rule.limits
    threshold = magnitudes.threshold(what.rule.quantile) if limits is None else limits.magnitudes[i_track]
    calls = _Calls(i_track, shown_name(track), threshold, magnitudes.highest, what)
    n_seqlets, motifs = 0, dict[str, Held]()
    calling = [(calls, group, groups[group]) for group in order]
    for group, (n_found, held) in zip(order, workers.map(_call_chroms, calling), strict=True):
        n_seqlets += n_found
        motifs = seqlet_names.added(motifs, held)
        n_done += len(groups[group])
        count(n_done)
    n_bases = magnitudes.n_bases
    n_by_chance = what.rule.expected_by_chance(n_bases, magnitudes.n_high(threshold))
    return TrackSeqlets(track, threshold, n_seqlets, n_bases, n_by_chance, motifs)


@lru_cache(maxsize=1)
def _opened_scan(path: str) -> ScoreStore:
    """Return a store, opened once for all groups: a plan of many chroms takes long to read."""
    return ScoreStore.open(path)


@lru_cache(maxsize=1)
def _opened(source: Source) -> ScoreStore | ExactScores:
    """Return the scores, opened once for all groups."""
    scan = _opened_scan(source.store)
    return ExactScores(scan, existing_refinement(scan)) if source.is_exact else scan


def _count_chroms(
    source: Source, i_track: int, chroms: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bins of magnitudes that are not empty on some chroms, and how many scores each holds."""
    magnitudes, store = ScoredMagnitudes(), _opened(source)
    for chrom in chroms:
        for start, scores in _pieces(store, i_track, chrom):
            try:
                magnitudes.add(scores)
            except ValueError:
                position = start + int(np.isinf(scores).argmax())
                raise StoreError(
                    f"the score of {chrom}:{position + 1:,} is infinite; expected numbers; scan that block "
                    "again, or leave the chrom out with --chroms"
                ) from None
    bins = np.flatnonzero(magnitudes.counts)
    return bins, magnitudes.counts[bins]


def _call_chroms(calls: _Calls, group: int, chroms: Sequence[str]) -> tuple[int, dict[str, Held]]:
    """Write the seqlets of a group of chroms, and return their number, and what those of each motif hold."""
    what, n_found, held = calls.what, 0, dict[str, Held]()
    scores = _opened(what.source)
    with ExitStack() as stack:
        file = stack.enter_context(open(part_of(what.folder, calls.i_track, group), "w", encoding="utf-8"))
        namer = None
        if what.naming is not None:
            namer = stack.enter_context(Namer(_opened_scan(what.source.store), scores, what.naming))
        for chrom in chroms:
            pieces = _pieces(scores, calls.i_track, chrom)
            for found in find_seqlets(pieces, calls.threshold, what.rule):
                more = [""] * len(found)
                if namer is not None:
                    names = namer.names(calls.i_track, chrom, found)
                    more = [name.columns() for name in names]
                    held = seqlet_names.added(held, seqlet_names.totals(names, found))
                file.writelines(_rows(calls, chrom, found, more))
                n_found += len(found)
    return n_found, held


def _rows(calls: _Calls, chrom: str, found: Seqlets, more: Sequence[str]) -> Iterator[str]:
    """Yield a line of BED for each seqlet."""
    rows = zip(found.start, found.end, found.total, found.extreme, more, strict=True)
    for start, end, total, extreme, columns in rows:
        score = min(1000, round(1000 * abs(float(extreme)) / calls.highest))
        yield f"{chrom}\t{start}\t{end}\t{calls.name}\t{score}\t.\t{total:.6g}\t{extreme:.6g}{columns}\n"


def _pieces(store: ScoreStore | ExactScores, i_track: int, chrom: str) -> Iterator[tuple[int, Scores]]:
    """Yield the blocks of a chrom that hold scores: where each starts, and its scores."""
    for block in store.plan.pieces(chrom):
        yield block.start, store.read_track(chrom, block.start, block.end, i_track)
