"""From a store to its seqlets as BED: tracks and chroms in parallel, memory bounded by a block."""

import heapq
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.bgzip import BED, check_pysam, compress_file, publish_indexed
from tism_scan.browser.shown import one_line
from tism_scan.errors import ExportError, ScanError, StoreError
from tism_scan.export.processes import spawned_pool
from tism_scan.export.seqlets import ScoredMagnitudes, Scores, SeqletRule, Seqlets, find_seqlets
from tism_scan.genome.wanted import wanted_spans
from tism_scan.plan.tracks import Track, choose_tracks
from tism_scan.progress import OnProgress, Progress
from tism_scan.storage.atomic import check_folder
from tism_scan.store.refined import ExactScores, existing_refinement, n_refined
from tism_scan.store.score_store import ScoreStore

COLUMNS = ("chrom", "start", "end", "name", "score", "strand", "sum", "max")
_LONGEST_NAME = 200
_FILES_AT_ONCE = 64
_GROUP_BP = 1 << 22  # which shares a file


@dataclass(frozen=True)
class TrackSeqlets:
    """What was called in one track.

    Attributes
    ----------
    track : Track
    threshold : float
        Magnitude from which on a base is high; infinite if none is.
    n_seqlets, n_bases : int
        Number of seqlets, and of bases that have a score.
    n_by_chance : float
        Seqlets to expect if the high bases were scattered independently.
    n_refined : int or None
        With exact ISM, the number of bases that were refined; all others count as 0.
    """

    track: Track
    threshold: float
    n_seqlets: int
    n_bases: int
    n_by_chance: float
    n_refined: int | None = None


@dataclass(frozen=True)
class _Source:
    """Where the scores are: the path of a scan's store, and whether its exact ISM is meant."""

    store: str
    is_exact: bool = False


@dataclass(frozen=True)
class _Calls:
    """What one worker is to call, and where to."""

    source: _Source
    i_track: int
    name: str
    threshold: float
    highest: float
    rule: SeqletRule
    folder: Path


def write_seqlets(
    store: ScoreStore,
    out: str | Path,
    rule: SeqletRule | None = None,
    *,
    tracks: str | None = None,
    chroms: Sequence[str] = (),
    jobs: int = 1,
    allow_incomplete: bool = False,
    is_exact: bool = False,
    on_progress: OnProgress | None = None,
) -> list[TrackSeqlets]:
    """Write the seqlets of a store as BED6+2, sorted, and return what was called in each track.

    The columns after BED's six are the signed sum of the scores within, and the score of the greatest
    magnitude. The fifth, 0 to 1000, is that magnitude as a part of the track's greatest. Chroms are in the
    order of the FASTA.

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
    ExportError
        If the file cannot be written, or pysam is missing.
    ScanError
        If a process died.
    """
    out, rule, plan = Path(out), rule or SeqletRule(), store.plan
    is_compressed = _check_out(out)
    i_tracks = choose_tracks(plan.scoring.tracks, tracks)
    chosen = list(wanted_spans({chrom: plan.chroms[chrom] for chrom in plan.wanted}, include=chroms))
    refined = existing_refinement(store) if is_exact else None
    for each in (store, refined):
        if each is not None and not allow_incomplete:
            each.check_complete(chosen)
    source = _Source(str(store.path), is_exact)
    called = []
    _opened.cache_clear()  # the store may have been written since the last call
    n_passes = 2 * len(chosen) * len(i_tracks)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as aside:
        with _Workers(jobs) as workers:
            for n_before, i_track in enumerate(i_tracks):
                track = plan.scoring.tracks[i_track]

                def count(n_done: int, n_before: int = n_before, track: Track = track) -> None:
                    if on_progress is not None:
                        n_all_done = 2 * len(chosen) * n_before + n_done
                        on_progress(Progress(n_all_done, n_passes, "passes", part=track.name))

                called.append(_call_track(source, i_track, chosen, rule, Path(aside), workers, count))
        merged = Path(aside) / "merged.bed"
        n_exact = None if refined is None else n_refined(refined, chosen)
        _merge(merged, store, i_tracks, chosen, _heading(store, rule, n_exact), Path(aside))
        _publish(merged, out, is_compressed=is_compressed, longest_bp=max(plan.chroms.values()))
    return [replace(each, n_refined=n_exact) for each in called]


def _heading(store: ScoreStore, rule: SeqletRule, n_exact: int | None) -> str:
    """Return the file's first line: what the seqlets were called from, and how."""
    kind = "" if n_exact is None else f" by exact ISM of {n_exact:,} bases"
    return (
        f"# tism-scan seqlets of plan {store.plan.digest()}{kind}: quantile {rule.quantile}, "
        f"gap {rule.max_gap}, at least {rule.min_high} high bases\n"
    )


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
    source: _Source,
    i_track: int,
    chroms: Sequence[str],
    rule: SeqletRule,
    folder: Path,
    workers: _Workers,
    count: Callable[[int], None],
) -> TrackSeqlets:
    """Call the seqlets of one track, each group's into a file of its own, and return their number."""
    store = _opened(source)
    groups = _groups(store, chroms)
    # The longest first, so that no process is left with it at the end.
    order = sorted(groups, key=lambda group: -sum(store.plan.chroms[chrom] for chrom in groups[group]))
    magnitudes, n_done = ScoredMagnitudes(), 0
    tasks = [(source, i_track, groups[group]) for group in order]
    for group, (bins, n_in_bin) in zip(order, workers.map(_count_chroms, tasks), strict=True):
        magnitudes.counts[bins] += n_in_bin
        n_done += len(groups[group])
        count(n_done)
    track, threshold = store.plan.scoring.tracks[i_track], magnitudes.threshold(rule.quantile)
    name = one_line(track.name, _LONGEST_NAME) or "-"
    calls = _Calls(source, i_track, name, threshold, magnitudes.highest, rule, folder)
    n_seqlets = 0
    calling = [(calls, group, groups[group]) for group in order]
    for group, n_found in zip(order, workers.map(_call_chroms, calling), strict=True):
        n_seqlets += n_found
        n_done += len(groups[group])
        count(n_done)
    n_bases = magnitudes.n_bases
    n_by_chance = rule.expected_by_chance(n_bases, magnitudes.n_high(threshold))
    return TrackSeqlets(track, threshold, n_seqlets, n_bases, n_by_chance)


def _groups(store: ScoreStore | ExactScores, chroms: Sequence[str]) -> dict[int, list[str]]:
    """Return chroms in groups by number, each of some megabases in the FASTA's order, or one long chrom."""
    groups: dict[int, list[str]] = {0: []}
    n_bp = 0
    for chrom in chroms:
        if n_bp >= _GROUP_BP:
            groups[len(groups)], n_bp = [], 0
        groups[len(groups) - 1].append(chrom)
        n_bp += store.plan.chroms[chrom]
    return groups


@lru_cache(maxsize=1)
def _opened(source: _Source) -> ScoreStore | ExactScores:
    """Return the scores, opened once for all groups: a plan of many chroms takes long to read."""
    scan = ScoreStore.open(source.store)
    return ExactScores(scan, existing_refinement(scan)) if source.is_exact else scan


def _count_chroms(
    source: _Source, i_track: int, chroms: Sequence[str]
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


def _call_chroms(calls: _Calls, group: int, chroms: Sequence[str]) -> int:
    """Write the seqlets of a group of chroms, and return their number."""
    store, n_found = _opened(calls.source), 0
    with open(_part(calls.folder, calls.i_track, group), "w", encoding="utf-8") as file:
        for chrom in chroms:
            pieces = _pieces(store, calls.i_track, chrom)
            for found in find_seqlets(pieces, calls.threshold, calls.rule):
                file.writelines(_rows(calls, chrom, found))
                n_found += len(found)
    return n_found


def _rows(calls: _Calls, chrom: str, found: Seqlets) -> Iterator[str]:
    """Yield a line of BED for each seqlet."""
    rows = zip(found.start, found.end, found.total, found.extreme, strict=True)
    for start, end, total, extreme in rows:
        score = min(1000, round(1000 * abs(float(extreme)) / calls.highest))
        yield f"{chrom}\t{start}\t{end}\t{calls.name}\t{score}\t.\t{total:.6g}\t{extreme:.6g}\n"


def _pieces(store: ScoreStore | ExactScores, i_track: int, chrom: str) -> Iterator[tuple[int, Scores]]:
    """Yield the blocks of a chrom that hold scores: where each starts, and its scores."""
    for block in store.plan.pieces(chrom):
        yield block.start, store.read_track(chrom, block.start, block.end, i_track)


def _part(folder: Path, i_track: int, group: int) -> Path:
    return folder / f"{group}.{i_track}.bed"


def _merge(
    merged: Path,
    store: ScoreStore,
    i_tracks: Sequence[int],
    chroms: Sequence[str],
    heading: str,
    folder: Path,
) -> None:
    """Write all seqlets into one file: chroms in the FASTA's order, starts in order within."""
    with open(merged, "w", encoding="utf-8") as file:
        file.write(heading)
        file.write("#" + "\t".join(COLUMNS) + "\n")
        for group, members in _groups(store, chroms).items():
            rank = {chrom: i for i, chrom in enumerate(members)}
            parts = [_part(folder, i_track, group) for i_track in i_tracks]
            while len(parts) > _FILES_AT_ONCE:  # no more open files than a process may have
                joined = parts[0].with_suffix(".joined")
                with open(joined, "w", encoding="utf-8") as target:
                    _merge_parts(parts[:_FILES_AT_ONCE], target, rank)
                os.replace(joined, parts[0])
                parts = [*parts[_FILES_AT_ONCE:], parts[0]]
            _merge_parts(parts, file, rank)


def _merge_parts(parts: Sequence[Path], target: IO[str], rank: Mapping[str, int]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(open(part, encoding="utf-8")) for part in parts]
        target.writelines(heapq.merge(*files, key=partial(_place, rank)))
    for part in parts:
        part.unlink()


def _place(rank: Mapping[str, int], line: str) -> tuple[int, int, int, str]:
    chrom, start, end, name, _ = line.split("\t", 4)
    return rank[chrom], int(start), int(end), name


def _check_out(out: Path) -> bool:
    """Return whether a file is to be compressed; raise unless it can be written."""
    name = out.name.lower()
    if not name.endswith((".bed", ".bed.gz")):
        raise ExportError(f"{str(out)!r} is no BED file's name; expected .bed or .bed.gz; rename it")
    check_folder(out, "choose another --out")
    is_compressed = name.endswith(".gz")
    if is_compressed:
        check_pysam(f"{str(out)!r} (but not for {out.stem!r})")
    return is_compressed


def _publish(merged: Path, out: Path, *, is_compressed: bool, longest_bp: int) -> None:
    """Give a finished file, and its index, their names."""
    try:
        if not is_compressed:
            os.replace(merged, out)
            return
        packed = merged.with_name("merged.bed.gz")
        compress_file(merged, packed)
        publish_indexed(packed, out, BED, longest_bp=longest_bp)
    except OSError as error:
        raise ExportError(f"cannot write {str(out)!r}: {error.strerror or error}; make room there") from None
