"""``tism-scan export``: bigWig files of a store's tracks."""

from pathlib import Path
from typing import Any

import click

from tism_scan.cli.console import file_bars, say, say_table
from tism_scan.cli.options.common import PATH, STORE, jobs_option, tracks_option
from tism_scan.storage.places import Place


@click.command(name="export")
@click.argument("store", type=STORE)
@click.option("--out", required=True, type=PATH, help="Folder for the bigWig files.")
@tracks_option
@click.option(
    "--chroms", multiple=True, metavar="GLOBS", help="Export only these chroms, such as 'chr1,chr2*'."
)
@click.option(
    "--chrom-alias",
    type=PATH,
    metavar="FILE",
    help="Two columns: a chrom's name in the store, and the browser's; others keep their names.",
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
    help="Mantissa bits to keep (10: three quarters of the size). [default: all]",
)
@click.option("--allow-incomplete", is_flag=True, help="Leave gaps where blocks are not computed yet.")
@click.option("--overwrite", is_flag=True, help="Rewrite files that are already complete.")
@jobs_option("Files written at once, each in a process. [default: the number of CPU cores]")
@click.option(
    "--writer",
    type=click.Choice(["stream", "pybigwig"]),
    default="stream",
    show_default=True,
    help="pyBigWig is slower, and needs 10.5 bytes of memory for each base of the longest chrom and 2.3 for "
    "each base of all.",
)
@click.option("--genome-id", metavar="NAME", help="The assembly's name in browsers, such as hg38.")
@click.option("--igv-js", type=PATH, metavar="FILE", help="A copy of igv.js to put beside the page.")
def command(store: Place, out: Path, genome_id: str | None, igv_js: Path | None, **options: Any) -> int:
    """Write one bigWig per track of STORE; each is compared with the store before it gets its name.

    A base without a score is a gap. Run the same command again after an interruption: finished files are
    kept, unless the store or the options have changed.
    """
    from tism_scan.browser import check_browser_options
    from tism_scan.export import ExportProgress, export_bigwigs
    from tism_scan.export.browsers import describe_export
    from tism_scan.plan.tracks import choose_tracks
    from tism_scan.store.score_store import ScoreStore

    check_browser_options(genome_id, igv_js)
    opened = ScoreStore.open(store)
    n_files = len(choose_tracks(opened.plan.scoring.tracks, options["tracks"]))
    n_files *= 4 if options["channels"] else 1
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
    describe_export(
        opened,
        out,
        summaries,
        chrom_alias=options["chrom_alias"],
        channels=options["channels"],
        genome_id=genome_id,
        igv_js_file=igv_js,
    )
    say(f"look at them    tism-scan view {out} --genome GENOME.fa")
    say(f"other browsers  {out / 'README.txt'}")
    return 0
