"""The export of a store: which files, which of them are there already, and the writing of the others."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tism_scan.bigwig import BigWigSummary, Writer, foreseen_bytes
from tism_scan.errors import ExportError, StoreError
from tism_scan.export.aliases import read_aliases
from tism_scan.export.chroms import chosen_chroms, n_wanted
from tism_scan.export.folder import check_room, make_folder
from tism_scan.export.processes import fitting_jobs, write_files
from tism_scan.export.record import ExportRecord, Finished, Source, recipe_of, source_of
from tism_scan.export.track_export import TrackExport
from tism_scan.genome.alphabet import BASES
from tism_scan.plan.labels import EXACT_SUFFIX, file_stems
from tism_scan.plan.scoring import Values
from tism_scan.plan.tracks import Track, choose_tracks
from tism_scan.progress import Progress
from tism_scan.storage.partials import remove_partials
from tism_scan.store.score_store import ScoreStore

log = logging.getLogger(__name__)

SD_SUFFIX = "_sd"
_SHOWN = 5


@dataclass(frozen=True)
class ExportProgress(Progress):
    """How far one file of an export is, in bases: every base is first written, then checked.

    Attributes
    ----------
    i_file, n_files : int
        Which file it is, and of how many; with `channels`, a track has four. `part` is its name.
    is_kept : bool
        Whether an earlier export had finished it.
    """

    i_file: int = 0
    n_files: int = 1
    is_kept: bool = False


def export_bigwigs(
    store: ScoreStore,
    out: str | Path,
    *,
    tracks: str | None = None,
    chroms: Sequence[str] = (),
    chrom_alias: str | Path | None = None,
    channels: bool = False,
    keep_bits: int | None = None,
    allow_incomplete: bool = False,
    overwrite: bool = False,
    writer: Writer = "stream",
    jobs: int | None = 1,
    on_progress: Callable[[ExportProgress], None] | None = None,
) -> list[BigWigSummary]:
    """Write one bigWig per track, or, with standard deviations, two, and return what each holds.

    A file that an earlier call finished is kept if the store's content and the options are the same as then.

    Parameters
    ----------
    store : ScoreStore
        Of a scan; or of exact ISM, whose files are named ``0267_CTCF_ism.bw`` and hold mean ISM. With
        ``values="mean+sd"``, a second file of each track, ``0267_CTCF_sd.bw``, holds the standard deviation.
    out : str or Path
        A folder; made if it is missing.
    tracks : str, optional
        As in `tism_scan.select_tracks`; all tracks by default.
    chroms : sequence of str
        Globs; all scanned chroms by default.
    chrom_alias : str or Path, optional
        A table of names, see `read_aliases`; the bigWigs bear the store's by default.
    channels : bool
        Whether each track becomes four files, such as ``0267_CTCF.A.bw``: TISM of each alternative base, 0
        where it is the reference base. Needs a store with ``values="tism"``.
    keep_bits : int, optional
        Bits of mantissa that are kept, 1 to 23; all that the store has by default.
    allow_incomplete : bool
        Whether chroms with blocks that are not computed are exported, with gaps there.
    overwrite : bool
        Whether finished files, and those of another scan, are rewritten.
    writer : {"stream", "pybigwig"}
        See `write_bigwig`.
    jobs : int or None
        Files that are written at once, each in a process; None chooses by cores and work. With more than one,
        a script needs the guard ``if __name__ == "__main__"``.
    on_progress : callable, optional

    Returns
    -------
    list of BigWigSummary
        In the order of the store's tracks; with `channels`, four for each; with standard deviations, two.

    Raises
    ------
    StoreError
        If a chrom is not complete and `allow_incomplete` is not set, or the store is damaged.
    TrackError, RegionError
        If a selection fits nothing.
    ExportError
        If a file cannot be written, or does not read back as the store; the other files are written first. Or
        if the folder holds files of another scan, or the scan's scores, or their exact ISM, under other
        names, or two files would have one name.
    StorageFullError
        If the disk is full; finished files are kept.
    """
    out = Path(out)
    files = _files(
        store,
        out,
        i_tracks=choose_tracks(store.plan.scoring.tracks, tracks),
        chroms=chosen_chroms(store.plan, chroms),
        chrom_alias=chrom_alias,
        channels=channels,
        keep_bits=keep_bits,
        writer=writer,
    )
    if not allow_incomplete:
        store.check_complete(files[0].chroms)
    make_folder(out)
    n_bases_total = 2 * sum(store.plan.chroms[chrom] for chrom in files[0].chroms)
    report = partial(_report, on_progress, files, n_bases_total)
    record, read = ExportRecord(out), Finished(store)
    content = read.content()
    recipes = [recipe_of(file, store, content) for file in files]
    source = source_of(store.plan, files[0].names, is_of_bases=channels)
    record.check([file.path for file in files], source, overwrite=overwrite)
    summaries = {} if overwrite else _kept(record, files, recipes, source)
    for i_file in summaries:
        report(i_file, n_bases_total, is_kept=True)
    missing = {i_file: file for i_file, file in enumerate(files) if i_file not in summaries}
    jobs = fitting_jobs(store, list(missing.values()), jobs)
    _make_room(out, store, list(missing.values()), jobs)
    faults: list[ExportError | StoreError] = []
    with closing(write_files(store, missing, jobs, report)) as outcomes:
        for i_file, outcome in outcomes:
            if not isinstance(outcome, BigWigSummary):
                faults.append(outcome)
            elif read.is_still_there():
                record.add(outcome, recipes[i_file], source)
                summaries[i_file] = outcome
            else:
                outcome.path.unlink(missing_ok=True)
                faults.append(_changed(store, outcome.path))
    _raise(faults, len(files))
    for i_file, file in enumerate(files):
        _warn_if_empty(file, summaries[i_file])
    return [summaries[i_file] for i_file in range(len(files))]


def _files(
    store: ScoreStore,
    out: Path,
    *,
    i_tracks: Sequence[int],
    chroms: Sequence[str],
    chrom_alias: str | Path | None,
    channels: bool,
    keep_bits: int | None,
    writer: Writer,
) -> list[TrackExport]:
    """Return the files of an export."""
    plan = store.plan
    if channels and plan.scoring.values != "tism":
        raise ExportError(
            f"{store.path} holds mean TISM only; --channels needs a store of `tism-scan run --values tism`"
        )
    if keep_bits is not None and not 1 <= keep_bits <= 23:
        raise ExportError(f"keep_bits {keep_bits} is outside 1 to 23, the bits of a float32's mantissa")
    names = read_aliases(chrom_alias, plan.chroms)
    stems = file_stems(plan.scoring.tracks)
    is_ism = plan.selection is not None
    files = []
    for i_track in i_tracks:
        for suffix, i_base, is_sd in _values(plan.scoring.values, channels=channels, is_ism=is_ism):
            path = out / f"{stems[i_track]}{suffix}.bw"
            track = plan.scoring.tracks[i_track]
            files.append(
                TrackExport(path, i_track, track, i_base, names, tuple(chroms), keep_bits, writer, is_sd)
            )
    twice = [path.name for path, n in Counter(file.path for file in files).items() if n > 1]
    if twice:
        raise ExportError(
            f"two files would be {twice[0]!r}: a track's own, and the standard deviation of another; "
            "expected one for each; export these tracks into folders of their own, by --tracks"
        )
    return files


def _report(
    on_progress: Callable[[ExportProgress], None] | None,
    files: Sequence[TrackExport],
    n_bases_total: int,
    i_file: int,
    n_bases: int,
    *,
    is_kept: bool = False,
) -> None:
    """Tell how many bases of a file, by its number, are done."""
    if on_progress is not None:
        on_progress(
            ExportProgress(
                n_bases,
                n_bases_total,
                "bases",
                part=files[i_file].path.name,
                i_file=i_file,
                n_files=len(files),
                is_kept=is_kept,
            )
        )


def _kept(
    record: ExportRecord, files: Sequence[TrackExport], recipes: Sequence[str], source: Source
) -> dict[int, BigWigSummary]:
    """Return, by its number, what each file holds that an earlier call finished."""
    kept = {}
    for i_file, (file, recipe) in enumerate(zip(files, recipes, strict=True)):
        finished = record.finished(file, recipe)
        if finished is not None:
            kept[i_file] = finished
            if record.source(file.path.name) is None:  # as earlier releases left it
                record.add(finished, recipe, source)
    return kept


def _changed(store: ScoreStore, path: Path) -> StoreError:
    return StoreError(
        f"{store.path} was changed while {path.name} was written from it; expected that finished blocks "
        "stay; wait for what changes it, and export again"
    )


def _values(values: Values, *, channels: bool, is_ism: bool) -> list[tuple[str, int | None, bool]]:
    """Return for each file of a track how its name ends, its base, and whether it is a standard deviation."""
    suffix = EXACT_SUFFIX if is_ism else ""
    if channels:
        return [(f"{suffix}.{base}", i_base, False) for i_base, base in enumerate(BASES)]
    return [(suffix, None, False), *([(SD_SUFFIX, None, True)] if values == "mean+sd" else [])]


def files_per_track(store: ScoreStore, *, channels: bool = False) -> int:
    """Return how many bigWigs an export writes of each track."""
    return len(_values(store.plan.scoring.values, channels=channels, is_ism=False))


def without_sd(summaries: Iterable[BigWigSummary], tracks: Sequence[Track]) -> list[BigWigSummary]:
    """Return what an export wrote of the tracks themselves, without their standard deviations."""
    of_sd = {f"{stem}{SD_SUFFIX}" for stem in file_stems(tracks)} - set(file_stems(tracks))
    return [summary for summary in summaries if summary.path.stem not in of_sd]


def _make_room(out: Path, store: ScoreStore, files: Sequence[TrackExport], jobs: int) -> None:
    """Remove what killed exports left behind, and raise if there is no room for all files to be written."""
    if not files:
        return
    remove_partials(out)
    n_bases = n_wanted(store.plan, files[0].chroms)
    finished, unfinished = foreseen_bytes(n_bases, files[0].bits_kept(store))
    needed = len(files) * finished + jobs * (unfinished - finished)
    check_room(
        out,
        needed,
        f"{len(files)} bigWig files need up to",
        "export fewer --tracks or --chroms, or with --keep-bits 10",
    )


def _raise(faults: Sequence[ExportError | StoreError], n_files: int) -> None:
    """Raise what went wrong with some files, if anything did."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        shown = " | ".join(map(str, faults[:_SHOWN]))
        more = f" | and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ExportError(f"{len(faults)} of {n_files} bigWig files could not be made: {shown}{more}")


def _warn_if_empty(file: TrackExport, summary: BigWigSummary) -> None:
    if not summary.n_bases:
        shown = ", ".join(file.chroms[:_SHOWN]) + (", ..." if len(file.chroms) > _SHOWN else "")
        log.warning("%s has no score in %s: %s holds no entry", file.track.name, shown, summary.path)
