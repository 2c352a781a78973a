"""From a store to its seqlets as BED: tracks and chroms in parallel, memory bounded by a block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.errors import StoreError
from tism_scan.export import seqlet_names
from tism_scan.export.chroms import chosen_chroms, n_wanted
from tism_scan.export.parallel import Workers
from tism_scan.export.seqlet_names import Held, Namer, Naming
from tism_scan.export.seqlet_parts import (
    Calling,
    MotifFiles,
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
from tism_scan.plan.labels import names_apart
from tism_scan.plan.tracks import choose_tracks
from tism_scan.progress import OnProgress, Progress
from tism_scan.storage.partials import folder_beside
from tism_scan.store.refined import ExactScores, existing_refinement
from tism_scan.store.score_store import ScoreStore

_Task = Callable[["_Opened"], Any]


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
        As in `tism_scan.select_tracks`; all tracks by default.
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
        naming.prepare()
    called = []
    n_passes = 2 * len(chosen) * len(i_tracks)
    with folder_beside(out) as aside:
        n_exact = None if refined is None else n_wanted(refined.plan, chosen)
        kind = "" if n_exact is None else f" by exact ISM of {n_exact:,} bases"
        what = Calling(rule, naming, aside, kind)
        make = partial(_Opened, str(store.path), is_exact=is_exact)
        with Workers[_Task, Any](jobs, make) as workers:
            for n_before, i_track in enumerate(i_tracks):
                name = plan.scoring.tracks[i_track].name
                count = partial(_report, on_progress, name, 2 * len(chosen) * n_before, n_passes)
                called.append(_call_track(store, i_track, chosen, what, workers, count))
        merged = aside / "merged.bed"
        merge_parts(merged, store, i_tracks, chosen, what)
        longest_bp = max(plan.chroms.values())
        if naming is not None:
            publish_names(merged, MotifFiles.beside(out), called, longest_bp)
        publish(merged, out, longest_bp)
    return [replace(each, n_refined=n_exact) for each in called]


def _call_track(
    store: ScoreStore,
    i_track: int,
    chroms: Sequence[str],
    what: Calling,
    workers: Workers[_Task, Any],
    count: Callable[[int], None],
) -> TrackSeqlets:
    """Call the seqlets of one track, each group's into a file of its own, and return their number."""
    groups = groups_of(store, chroms)
    # The longest first, so that no process is left with it at the end.
    order = sorted(groups, key=lambda group: -sum(store.plan.chroms[chrom] for chrom in groups[group]))
    magnitudes, n_done = ScoredMagnitudes(), 0
    counting = [partial(_count_chroms, i_track=i_track, chroms=groups[group]) for group in order]
    for group, (bins, n_in_bin) in zip(order, workers.results(counting), strict=True):
        magnitudes.counts[bins] += n_in_bin
        n_done += len(groups[group])
        count(n_done)
    tracks, limits = store.plan.scoring.tracks, what.rule.limits
    track = replace(tracks[i_track], name=names_apart(tracks)[i_track])
    threshold = magnitudes.threshold(what.rule.quantile) if limits is None else limits.magnitudes[i_track]
    calls = _Calls(i_track, shown_name(track), threshold, magnitudes.highest, what)
    n_seqlets, motifs = 0, dict[str, Held]()
    calling = [partial(_call_chroms, calls=calls, group=group, chroms=groups[group]) for group in order]
    for group, (n_found, held) in zip(order, workers.results(calling), strict=True):
        n_seqlets += n_found
        motifs = seqlet_names.added(motifs, held)
        n_done += len(groups[group])
        count(n_done)
    n_bases = magnitudes.n_bases
    n_by_chance = what.rule.expected_by_chance(n_bases, magnitudes.n_high(threshold))
    return TrackSeqlets(track, threshold, n_seqlets, n_bases, n_by_chance, motifs)


def _report(on_progress: OnProgress | None, name: str, n_before: int, n_passes: int, n_done: int) -> None:
    """Tell how many passes over a chrom are done for a track, after those of other tracks."""
    if on_progress is not None:
        on_progress(Progress(n_before + n_done, n_passes, "passes", part=name))


class _Opened:
    """The scores that one process reads, opened once: a plan of many chroms takes long to read.

    Parameters
    ----------
    store : str
        The scan's.
    is_exact : bool
        Whether its exact ISM is meant.
    """

    def __init__(self, store: str, *, is_exact: bool) -> None:
        self.scan = ScoreStore.open(store)
        self.scores: ScoreStore | ExactScores = self.scan
        if is_exact:
            self.scores = ExactScores(self.scan, existing_refinement(self.scan))

    def __call__(self, task: _Task) -> Any:
        """Return what a task makes of them."""
        return task(self)


def _count_chroms(
    opened: _Opened, i_track: int, chroms: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bins of magnitudes that are not empty on some chroms, and how many scores each holds."""
    magnitudes = ScoredMagnitudes()
    for chrom in chroms:
        for start, scores in _pieces(opened.scores, i_track, chrom):
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


def _call_chroms(
    opened: _Opened, calls: _Calls, group: int, chroms: Sequence[str]
) -> tuple[int, dict[str, Held]]:
    """Write the seqlets of a group of chroms, and return their number, and what those of each motif hold."""
    what, n_found, held = calls.what, 0, dict[str, Held]()
    with ExitStack() as stack:
        file = stack.enter_context(open(part_of(what.folder, calls.i_track, group), "w", encoding="utf-8"))
        namer = None
        if what.naming is not None:
            namer = stack.enter_context(Namer(opened.scan, opened.scores, what.naming))
        for chrom in chroms:
            pieces = _pieces(opened.scores, calls.i_track, chrom)
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
