"""From a store to one bigWig per track."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig import BigWigSummary, write_bigwig
from tism_scan.errors import ExportError, StoreError, TrackError
from tism_scan.intervals import wanted_spans
from tism_scan.store import ScoreStore
from tism_scan.tracks import Track, file_stems

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Progress:
    """How far an export is: `n_bases` of `n_bases_total` of one track are written or checked."""

    track: Track
    i_track: int
    n_tracks: int
    n_bases: int
    n_bases_total: int


def choose_tracks(tracks: Sequence[Track], spec: str | None) -> list[int]:
    """Return the positions of the tracks that a selection fits, in the store's order.

    Parameters
    ----------
    tracks : sequence of Track
        The store's tracks.
    spec : str or None
        Comma-separated output indices, names and globs; None fits all.

    Raises
    ------
    TrackError
        If a part of the selection fits no track of the store; the nearest names are listed.
    """
    if spec is None:
        return list(range(len(tracks)))
    chosen: set[int] = set()
    faults = []
    for part in filter(None, map(str.strip, spec.split(","))):
        fitting = {
            i
            for i, track in enumerate(tracks)
            if part in (track.key, track.name) or fnmatchcase(track.name, part)
        }
        if not fitting:
            near = difflib.get_close_matches(part, [track.name for track in tracks], n=5, cutoff=0.3)
            faults.append(
                f"{part!r} fits no track of the store" + (f"; nearest: {', '.join(near)}" if near else "")
            )
        chosen |= fitting
    if faults or not chosen:
        raise TrackError(" | ".join(faults) or f"{spec!r} chooses no track; give indices, names or globs")
    return sorted(chosen)


def export_bigwigs(
    store: ScoreStore,
    out: str | Path,
    *,
    tracks: str | None = None,
    chroms: Sequence[str] = (),
    allow_incomplete: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[BigWigSummary]:
    """Write one bigWig per track, and return what each holds.

    Parameters
    ----------
    store : ScoreStore
    out : str or Path
        A folder; made if it is missing.
    tracks : str, optional
        Output indices, names and globs; all tracks by default.
    chroms : sequence of str
        Globs; all scanned chroms by default.
    allow_incomplete : bool
        Whether chroms with blocks that are not computed are exported, with gaps there.
    on_progress : callable, optional

    Raises
    ------
    StoreError
        If a chrom is not complete and `allow_incomplete` is not set, or the store is damaged.
    TrackError, RegionError
        If a selection fits nothing.
    ExportError
        If a file cannot be written, or does not read back as the store.
    """
    out, plan = Path(out), store.plan
    i_tracks = choose_tracks(plan.scoring.tracks, tracks)
    chosen = list(wanted_spans({chrom: plan.chroms[chrom] for chrom in plan.wanted}, include=chroms))
    if not allow_incomplete:
        _refuse_incomplete(store, chosen)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot make the folder {out}: {error.strerror}; choose another --out") from None
    stems = file_stems(plan.scoring.tracks)
    n_expected = sum(end - start for chrom in chosen for start, end in plan.wanted[chrom])
    n_bases_total = 2 * sum(plan.chroms[chrom] for chrom in chosen)
    summaries = []
    for n_before, i_track in enumerate(i_tracks):
        track, n_bases = plan.scoring.tracks[i_track], 0

        def read(chrom: str, start: int, end: int, i_track: int = i_track) -> Scores:
            return store.read(chrom, start, end, i_track)

        def count(n_more: int, track: Track = track, n_before: int = n_before) -> None:
            nonlocal n_bases
            n_bases += n_more
            if on_progress is not None:
                on_progress(Progress(track, n_before, len(i_tracks), n_bases, n_bases_total))

        summaries.append(
            write_bigwig(
                out / f"{stems[i_track]}.bw",
                plan.chroms,
                read,
                block_bp=plan.block_bp,
                only=chosen,
                expected_bases=n_expected,
                on_progress=count,
            )
        )
    return summaries


def _refuse_incomplete(store: ScoreStore, chroms: Sequence[str]) -> None:
    """Raise if a chrom has a block that is not computed."""
    pending: dict[str, int] = {}
    for block in store.pending(retry_failed=True):
        if block.chrom in chroms:
            pending[block.chrom] = pending.get(block.chrom, 0) + 1
    if pending:
        shown = [f"{chrom} ({n} blocks)" for chrom, n in list(pending.items())[:5]]
        shown += ["..."] if len(pending) > 5 else []
        raise StoreError(
            f"{store.path} is not complete: {', '.join(shown)} still to be computed; run the same "
            "`tism-scan run` again, choose other --chroms, or add --allow-incomplete to leave gaps"
        )
