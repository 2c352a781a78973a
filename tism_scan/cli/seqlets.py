"""``tism-scan seqlets``: where a model sees something, as BED."""

from pathlib import Path

import click

from tism_scan.cli.console import count_of, say, say_table
from tism_scan.cli.options.common import PATH, STORE, tracks_option, values_option
from tism_scan.cli.waiting import progress_bar
from tism_scan.storage.places import Place


@click.command(name="seqlets")
@click.argument("store", type=STORE)
@click.option(
    "--out",
    required=True,
    type=PATH,
    help="A .bed file, or .bed.gz and its index.",
)
@values_option("ism: the exact ISM that `refine` computed; bases that were not refined count as 0.")
@tracks_option
@click.option(
    "--chroms", multiple=True, metavar="GLOBS", help="Search only these chroms, such as 'chr1,chr2*'."
)
@click.option(
    "--quantile",
    type=float,
    default=0.997,
    show_default=True,
    help="A base is high-scoring if its |score| is above this quantile of its track.",
)
@click.option(
    "--gap",
    type=int,
    default=5,
    show_default=True,
    help="Most bases between two high-scoring bases of a seqlet.",
)
@click.option(
    "--min-bases", type=int, default=3, show_default=True, help="Fewest high-scoring bases of a seqlet."
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Number of processes.")
@click.option("--allow-incomplete", is_flag=True, help="Skip blocks that are not computed yet.")
def command(
    store: Place,
    out: Path,
    values: str,
    tracks: str | None,
    chroms: tuple[str, ...],
    quantile: float,
    gap: int,
    min_bases: int,
    jobs: int,
    *,
    allow_incomplete: bool,
) -> int:
    """Write the seqlets of STORE: runs of bases whose |score| is among the highest of their track.

    The columns are chrom, start, end, track, score (0 to 1000), strand (.), the signed sum of the scores
    within, and the score of the greatest magnitude. "By chance" is how many seqlets there would be if the
    high bases were scattered at random.
    """
    from tism_scan.export.seqlet_files import write_seqlets
    from tism_scan.export.seqlets import SeqletRule
    from tism_scan.store.score_store import ScoreStore

    rule = SeqletRule(quantile, gap, min_bases)
    opened = ScoreStore.open(store)
    with progress_bar("seqlets") as show:
        called = write_seqlets(
            opened,
            out,
            rule,
            tracks=tracks,
            chroms=chroms,
            jobs=jobs,
            allow_incomplete=allow_incomplete,
            is_exact=values == "ism",
            on_progress=show,
        )
    rows = [
        [each.track.name, f"{each.n_seqlets:,}", f"{each.n_by_chance:,.1f}", f"{each.threshold:.4g}"]
        for each in called
    ]
    say_table(f"seqlets in {out}", ["track", "seqlets", "by chance", "|score| from"], rows)
    n_seqlets = sum(each.n_seqlets for each in called)
    say(f"{count_of(n_seqlets, 'seqlet')} of {count_of(len(called), 'track')}")
    n_refined, n_bases = called[0].n_refined, called[0].n_bases
    if n_refined is not None:
        say(f"exact ISM of {n_refined:,} of {n_bases:,} bases; the others were not refined, and count as 0")
        if n_refined < round((1 - quantile) * n_bases):
            say(f"fewer than may be above quantile {quantile:g}: each of them with an effect is high-scoring")
    return 0
