"""What browsers need beside the bigWigs of an export."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tism_scan.bigwig import BigWigSummary
from tism_scan.browser import (
    TrackFile,
    browser_files,
    check_browser_options,
    names_of_browser_files,
    track_files,
)
from tism_scan.browser.annotations import Annotation, read_annotations
from tism_scan.export.aliases import read_aliases
from tism_scan.export.bigwigs import without_sd
from tism_scan.export.highest import FeatureNames, highest_seqlets
from tism_scan.export.manifest import Manifest
from tism_scan.export.record import NAME as RECORD
from tism_scan.export.record import ExportRecord, source_of
from tism_scan.plan.labels import EXACT_SUFFIX
from tism_scan.store.score_store import ScoreStore
from tism_scan.store.slopes import kept_slopes


def read_store_annotations(
    store: ScoreStore,
    *,
    genes: str | Path | None = None,
    others: Sequence[str] = (),
    chrom_alias: str | Path | None = None,
) -> list[Annotation]:
    """Return genes and other features on a store's chroms, under their names in the browser.

    Parameters
    ----------
    store : ScoreStore
    genes, others
        As for `tism_scan.browser.annotations.read_annotations`. The files may use the store's names of the
        chroms, or the browser's.
    chrom_alias
        As for `export_bigwigs`.

    Raises
    ------
    RegionError
        If a file cannot be read, or none of it is on the chroms.
    InputError
        If a name is empty.
    ExportError
        If the table of names cannot be read.
    """
    aliases = read_aliases(chrom_alias, store.plan.chroms)
    chroms = {aliases[chrom]: length for chrom, length in store.plan.chroms.items()}
    return read_annotations(chroms, aliases, genes=genes, others=others)


def check_browser_export(
    folder: str | Path,
    *,
    genome_id: str | None = None,
    igv_js_file: Path | None = None,
    annotations: Sequence[Annotation] = (),
) -> None:
    """Raise unless `describe_export` can do its work in a folder, so that an export fails before its own.

    Raises
    ------
    InputError
        If the genome's name or the copy of igv.js cannot be used.
    ExportError
        If a file stands in the way that export did not write.
    """
    check_browser_options(genome_id, igv_js_file)
    names = names_of_browser_files(annotations, with_igv_js=igv_js_file is not None)
    _manifest(Path(folder)).check(names)


def describe_export(
    store: ScoreStore,
    folder: str | Path,
    summaries: Iterable[BigWigSummary],
    *,
    chrom_alias: str | Path | None = None,
    channels: bool = False,
    is_exact: bool = False,
    genome_id: str | None = None,
    igv_js_file: Path | None = None,
    annotations: Sequence[Annotation] = (),
) -> list[Path]:
    """Return the files that it writes beside what `tism_scan.export.export_bigwigs` wrote.

    The tracks of a scan and of its exact ISM are shown under one another if the folder has both. Standard
    deviations have no track: they have no sign, and no letters.

    Parameters
    ----------
    store : ScoreStore
        Of the scan.
    folder : str or Path
    summaries : iterable of BigWigSummary
        As `export_bigwigs` returned them.
    chrom_alias, channels
        As for `export_bigwigs`.
    is_exact : bool
        Whether the summaries are of the scan's exact ISM.
    genome_id, igv_js_file, annotations
        As for `tism_scan.browser.browser_files`.

    Raises
    ------
    InputError
        If the genome's name or the copy of igv.js cannot be used.
    ExportError
        If a file cannot be written, or stands in the way and was not written by export, or the table of names
        cannot be read.
    """
    plan, aliases = store.plan, read_aliases(chrom_alias, store.plan.chroms)
    names = FeatureNames(annotations)
    source = replace(source_of(plan, aliases, is_of_bases=channels), is_exact=is_exact)
    beside = ExportRecord(Path(folder)).beside(source)
    here, others = (without_sd(each, plan.scoring.tracks) for each in (summaries, (it for _, it in beside)))
    if is_exact and beside:
        channels = beside[0][0].is_of_bases
    kinds = {
        is_exact: track_files(here, plan.scoring.tracks, is_exact=is_exact),
        not is_exact: track_files(others, plan.scoring.tracks, is_exact=not is_exact),
    }
    tracks = [
        replace(track, highest=highest_seqlets(track.path, track.limit, names))
        for track in _under_one_another(kinds[False], kinds[True])
    ]
    contents = browser_files(
        tracks,
        plan,
        store.ledger.provenance(),
        chroms={aliases[chrom]: length for chrom, length in plan.chroms.items()},
        values="tism" if channels else "mean",
        genome_id=genome_id,
        igv_js_file=igv_js_file,
        annotations=annotations,
        slopes=kept_slopes(store),
    )
    return _manifest(Path(folder)).write(contents)


def _under_one_another(of_scan: Sequence[TrackFile], exact: Sequence[TrackFile]) -> list[TrackFile]:
    """Return tracks of a scan, each followed by its exact ISM; then what exact ISM is left."""
    left = {"".join(track.path.stem.rsplit(EXACT_SUFFIX, 1)): track for track in exact}
    order: list[TrackFile] = []
    for track in of_scan:
        order += [track, *filter(None, [left.pop(track.path.stem, None)])]
    return [*order, *left.values()]


def _manifest(folder: Path) -> Manifest:
    """Return a folder's manifest; earlier releases left none beside their page and their record."""
    is_of_export = all((folder / name).is_file() for name in (RECORD, *names_of_browser_files()))
    return Manifest(folder, adopts=is_of_export)
