"""``tism-scan export``: bigWig files of a store's tracks."""

from pathlib import Path

import click

from tism_scan.cli.console import progress_bar, say, say_table
from tism_scan.cli.place_options import STORE
from tism_scan.places import Place


@click.command(name="export")
@click.argument("store", type=STORE)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the bigWig files.")
@click.option(
    "--tracks", metavar="SPEC", help="Indices, names or globs, such as 267,'*CTCF*'; all by default."
)
@click.option("--chroms", multiple=True, metavar="GLOBS", help="Only these chroms, such as 'chr1,chr2*'.")
@click.option("--allow-incomplete", is_flag=True, help="Leave gaps where blocks are not computed yet.")
def command(
    store: Place, out: Path, tracks: str | None, chroms: tuple[str, ...], *, allow_incomplete: bool
) -> int:
    """Write one bigWig per track of STORE; each is compared with the store before it gets its name.

    A base without a score is a gap. While it closes a file, pyBigWig needs about 12 bytes of memory for each
    base of the longest chrom and 2.5 for each base scored: some 10 GB for a human genome.
    """
    from tism_scan.export import Progress, choose_tracks, export_bigwigs
    from tism_scan.store import ScoreStore

    opened = ScoreStore.open(store)
    n_tracks = len(choose_tracks(opened.plan.scoring.tracks, tracks))
    with progress_bar("export", float(n_tracks)) as update:

        def show(progress: Progress) -> None:
            done = progress.i_track + progress.n_bases / max(progress.n_bases_total, 1)
            update(done, f"track {progress.i_track + 1} of {n_tracks}, {progress.track.name}")

        summaries = export_bigwigs(
            opened, out, tracks=tracks, chroms=chroms, allow_incomplete=allow_incomplete, on_progress=show
        )
    rows = [[s.path.name, f"{s.n_bases:,}", f"{s.minimum:.4g}", f"{s.maximum:.4g}"] for s in summaries]
    say_table(f"bigWig files in {out}", ["file", "bases", "lowest", "highest"], rows)
    say("Load them in IGV, JBrowse or the UCSC browser as signal tracks.")
    return 0
