"""``tism-scan export``: a store's tracks as bigWig files, or its scores as other tools read them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import duration, say, say_table
from tism_scan.cli.options.annotations import annotations_option, genes_option, say_annotations, say_reading
from tism_scan.cli.options.common import (
    PATH,
    STORE,
    jobs_option,
    refuse_unused,
    taken,
    tracks_option,
    values_option,
)
from tism_scan.cli.typed import pasteable
from tism_scan.cli.waiting import file_bars, progress_bar
from tism_scan.progress import count_of
from tism_scan.storage.places import Place

if TYPE_CHECKING:
    from tism_scan.bigwig import BigWigSummary
    from tism_scan.store.score_store import ScoreStore

_LISTINGS = ("snv-tsv", "snv-vcf")
_REGIONS = ("modisco", "finemo", "chrombpnet-h5")
_OF_BIGWIGS = ("channels", "keep_bits", "writer", "genome_id", "igv_js", "genes", "annotations")
_FORMATS_OF = {
    **dict.fromkeys(_OF_BIGWIGS, ("bigwig",)),
    "genome": (*_LISTINGS, *_REGIONS),
    **dict.fromkeys(("chroms", "jobs"), ("bigwig", *_LISTINGS)),
    "overwrite": ("bigwig", *_REGIONS),
    **dict.fromkeys(("peaks", "width"), _REGIONS),
}


@click.command(name="export")
@click.argument("store", type=STORE)
@click.option("--out", required=True, type=PATH, metavar="FOLDER", help="Folder for the files.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["bigwig", *_LISTINGS, *_REGIONS]),
    default="bigwig",
    show_default=True,
    help="snv-tsv, snv-vcf: all single-base substitutions. modisco, finemo, chrombpnet-h5: sequence and "
    "hypothetical scores around --peaks. All but bigwig need a store of `run --values tism`, or exact ISM.",
)
@click.option(
    "--peaks",
    type=PATH,
    help="narrowPeak or BED, plain or gzipped: one row of scores for each, around its summit (column 10), "
    "or its middle without one.",
)
@click.option(
    "--width",
    type=click.IntRange(2),
    metavar="BP",
    help="Length of a row, even. [default: 400, or all that a store of peaks has]",
)
@values_option(
    "ism: the exact ISM that `refine` computed, in files named NAME_ism.bw; with --peaks, 0 at bases that "
    "were not refined."
)
@tracks_option
@click.option(
    "--chroms", multiple=True, metavar="GLOBS", help="Export only these chroms, such as 'chr1,chr2*'."
)
@click.option(
    "--chrom-alias",
    type=PATH,
    help="Two columns: a chrom's name in the store, and the browser's (or the peaks'); others keep their "
    "names.",
)
@click.option(
    "--channels",
    is_flag=True,
    help="Write four files per track, NAME.A.bw to NAME.T.bw: TISM of each alternative base, 0 where it "
    "is the reference base. For a store of `run --values tism`.",
)
@click.option(
    "--keep-bits",
    type=click.IntRange(1, 23),
    metavar="BITS",
    help="Mantissa bits to keep; 10 saves a quarter of the size. [default: all]",
)
@click.option(
    "--genome",
    type=PATH,
    help="The FASTA that was scanned, for the formats other than bigwig: the reference base where the store "
    "cannot tell it, since several bases have no effect.",
)
@click.option(
    "--allow-incomplete", is_flag=True, help="Leave gaps, or zeros, where blocks are not computed yet."
)
@click.option("--overwrite", is_flag=True, help="Rewrite files that are complete, or of another scan.")
@jobs_option("Number of processes. [default: the number of CPU cores]")
@click.option(
    "--writer",
    type=click.Choice(["stream", "pybigwig"]),
    default="stream",
    show_default=True,
    help="pybigwig is slower, and needs 10.5 bytes of memory for each base of the longest chrom and 2.3 for "
    "each base of all.",
)
@click.option("--genome-id", metavar="NAME", help="The assembly's name in browsers, such as hg38.")
@click.option("--igv-js", type=PATH, help="A copy of igv.js to put beside the page.")
@genes_option
@annotations_option
def command(store: Place, out: Path, form: str, **options: Any) -> int:
    """Write one bigWig per track of STORE, and compare each with the store.

    A base without a score is a gap. A store of `run --values mean+sd` also gives NAME_sd.bw, the standard
    deviation. Run the same command again after an interruption: finished files are kept, unless the store or
    the options have changed. With --format, write the scores for other tools instead.
    """
    unused = {name for name, forms in _FORMATS_OF.items() if form not in forms}
    refuse_unused(unused, f"with --format {form}")
    if form in _LISTINGS:
        return _list_variants(store, out, form, options)
    if form in _REGIONS:
        return _write_regions(store, out, form, options)
    for name in ("genome", "peaks", "width"):
        options.pop(name)
    return _write_bigwigs(store, out, is_exact=options.pop("values") == "ism", **options)


def _list_variants(store: Place, out: Path, form: str, options: dict[str, Any]) -> int:
    from tism_scan.store.refined import existing_refinement
    from tism_scan.store.score_store import ScoreStore
    from tism_scan.variants.listing import Estimate, ListingRequest, list_variants

    def tell(estimate: Estimate) -> None:
        say(
            f"up to {estimate.n_rows:,} substitutions, about {estimate.n_bytes / 1e9:.3g} GB and "
            f"{duration(estimate.seconds)}"
        )

    opened = ScoreStore.open(store)
    if options["values"] == "ism":
        opened = existing_refinement(opened)
    chosen = taken(options, "tracks", "chroms", "chrom_alias", "genome", "allow_incomplete")
    request = ListingRequest(form, **chosen)  # type: ignore[arg-type]  # Click checks the format
    with progress_bar("export") as show:
        summary = list_variants(
            opened,
            out,
            request,
            jobs=options["jobs"],
            on_estimate=tell,
            on_progress=show,
        )
    say(f"{summary.path}: {count_of(summary.n_rows, 'substitution')}")
    if summary.n_unsure:
        say(
            f"{count_of(summary.n_unsure, 'base')} left out: the store does not show the reference base "
            "there, since several bases have no effect; give it with --genome GENOME.fa"
        )
    if options["values"] == "ism":
        say(f"those of {opened.plan.n_wanted:,} refined bases, by exact ISM; all other bases are left out")
    elif summary.fields[0].background:
        say(f"PHRED is a rank among {summary.fields[0].background}")
    else:
        say("no PHRED: `tism-scan calibrate` ranks the store's scores first")
    say(f"how other tools load it    {summary.readme}")
    return 0


def _write_regions(store: Place, out: Path, form: str, options: dict[str, Any]) -> int:
    from tism_scan.export.regions import export_regions
    from tism_scan.export.row_sources import RegionsRequest
    from tism_scan.store.opening import open_store

    opened = open_store(store)
    chosen = taken(
        options,
        *("peaks", "width", "tracks", "chrom_alias", "genome", "allow_incomplete", "overwrite"),
    )
    is_exact = options["values"] == "ism"
    request = RegionsRequest(form, **chosen, is_exact=is_exact)  # type: ignore[arg-type]  # Click checks the format
    with progress_bar("export") as show:
        summary = export_regions(opened, out, request, on_progress=show)
    rows = [
        [each.name, str(each.folder), f"{each.highest:.4g}", f"{each.scale:g}"] for each in summary.tracks
    ]
    say_table(f"rows around peaks in {out}", ["track", "folder", "highest", "scale"], rows)
    counts = summary.tracks[0].counts
    reasons = [
        (counts.n_off_chrom, "past a chrom's end"),
        (counts.n_unwanted, "not refined" if is_exact else "not scanned"),
        (counts.n_without_score, "without a score (N, or not computed)"),
    ]
    zeros = [f"{count_of(n, 'base')} {reason}" for n, reason in reasons if n]
    words = f"{count_of(summary.n_peaks, 'peak')}, as many rows of {summary.width:,} bp"
    say(f"{words}; zeros: {', '.join(zeros)}" if zeros else words)
    if is_exact:
        n_bases = summary.n_peaks * summary.width
        n_exact = n_bases - counts.n_zeros
        say(
            f"exact ISM at {n_exact:,} of {n_bases:,} bases ({n_exact / n_bases:.1%}); "
            f"{count_of(counts.n_empty_rows, 'row')} without any"
        )
    n_unsure = max(each.counts.n_unsure for each in summary.tracks)
    if n_unsure:
        say(
            f"{count_of(n_unsure, 'base')} ({n_unsure / (summary.n_peaks * summary.width):.1%}) are zeros "
            "in the sequence: the store does not show the reference base there, since several bases have no "
            "effect; give it with --genome GENOME.fa"
        )
    say(f"how other tools load it    {summary.readme}")
    return 0


def _write_bigwigs(
    store: Place,
    out: Path,
    *,
    is_exact: bool,
    genome_id: str | None,
    igv_js: Path | None,
    genes: Path | None,
    annotations: tuple[str, ...],
    **options: Any,
) -> int:
    from tism_scan.browser.kept import kept_settings
    from tism_scan.export.browsers import check_browser_export, describe_export, read_store_annotations
    from tism_scan.export.ism_readme import write_ism_readme
    from tism_scan.store.refined import existing_refinement
    from tism_scan.store.score_store import ScoreStore

    opened = ScoreStore.open(store)
    source = existing_refinement(opened) if is_exact else opened
    alias = options["chrom_alias"]
    say_reading(genes)
    features = read_store_annotations(opened, genes=genes, others=annotations, chrom_alias=alias)
    if is_exact:  # the page of the scan's own export stays what it is, with more tracks
        kept_id, kept = kept_settings(out)
        genome_id, features = genome_id or kept_id, features or kept
    check_browser_export(out, genome_id=genome_id, igv_js_file=igv_js, annotations=features)
    say_annotations(features)
    summaries = _write_and_say(source, out, options)
    describe_export(
        opened,
        out,
        summaries,
        chrom_alias=alias,
        channels=options["channels"],
        is_exact=is_exact,
        genome_id=genome_id,
        igv_js_file=igv_js,
        annotations=features,
    )
    if is_exact:
        say(f"what they hold  {write_ism_readme(source, out, channels=options['channels'])}")
    say(f"look at them    {pasteable('view', out, '--genome', 'GENOME.fa')}")
    say(f"other browsers  {out / 'README.txt'}")
    return 0


def _write_and_say(opened: "ScoreStore", out: Path, options: dict[str, Any]) -> "list[BigWigSummary]":
    """Write bigWigs, and say what each holds."""
    from tism_scan.export import ExportProgress, export_bigwigs
    from tism_scan.export.bigwigs import files_per_track
    from tism_scan.plan.tracks import choose_tracks

    n_files = len(choose_tracks(opened.plan.scoring.tracks, options["tracks"]))
    n_files *= files_per_track(opened, channels=options["channels"])
    kept: list[str] = []
    with file_bars("export", n_files) as update:

        def show(progress: ExportProgress) -> None:
            if progress.is_kept:
                kept.append(progress.part)
            update(progress)

        summaries = export_bigwigs(opened, out, **options, on_progress=show)
    rows = [
        [s.path.name, f"{s.n_bases:,}", f"{s.minimum:.4g}", f"{s.maximum:.4g}", f"{s.limit:.4g}"]
        for s in summaries
    ]
    say_table(f"bigWig files in {out}", ["file", "bases", "lowest", "highest", "99.9 % within"], rows)
    if kept:
        say(f"{len(kept):,} of them were finished by an earlier export and kept; --overwrite rewrites them")
    return summaries
