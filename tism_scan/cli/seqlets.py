"""``tism-scan seqlets``: where a model sees something, as BED."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tism_scan.cli.console import say, say_table
from tism_scan.cli.options.common import PATH, STORE, refuse_unused, tracks_option, values_option
from tism_scan.cli.waiting import progress_bar
from tism_scan.errors import InputError
from tism_scan.progress import count_of
from tism_scan.storage.places import Place

if TYPE_CHECKING:
    from tism_scan.export.seqlet_names import Naming
    from tism_scan.export.seqlet_parts import TrackSeqlets

_MOTIFS_SHOWN = 10
_FEW_MOTIFS = 25  # as Tomtom's authors warn


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
    metavar="Q",
    default=0.997,
    show_default=True,
    help="A base is high-scoring if its |score| is above this quantile, 0 to 1, of its track.",
)
@click.option(
    "--phred",
    type=float,
    metavar="P",
    help="Instead of --quantile: a base is high-scoring if its |score| has this PHRED by `calibrate`; 30 is "
    "the highest thousandth.",
)
@click.option(
    "--gap",
    type=int,
    metavar="BP",
    default=5,
    show_default=True,
    help="Most bases between two high-scoring bases of a seqlet.",
)
@click.option(
    "--min-bases",
    type=int,
    default=3,
    show_default=True,
    metavar="N",
    help="Fewest high-scoring bases of a seqlet.",
)
@click.option(
    "--motifs",
    type=PATH,
    help="Name seqlets after the motif that each is most like: MEME text (JASPAR), or a MoDISco h5.",
)
@click.option(
    "--motif-p",
    type=float,
    metavar="P",
    default=0.01,
    show_default=True,
    help="Highest p-value (Tomtom's) with which a seqlet has a name.",
)
@click.option(
    "--genome",
    type=PATH,
    help="The FASTA that was scanned, for --motifs; a store of `run --values tism` needs none.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Number of processes."
)
@click.option("--allow-incomplete", is_flag=True, help="Skip blocks that are not computed yet.")
def command(
    store: Place,
    out: Path,
    values: str,
    tracks: str | None,
    chroms: tuple[str, ...],
    quantile: float,
    phred: float | None,
    gap: int,
    min_bases: int,
    motifs: Path | None,
    motif_p: float,
    genome: Path | None,
    jobs: int,
    *,
    allow_incomplete: bool,
) -> int:
    """Write the seqlets of STORE: runs of bases whose |score| is among the highest of their track.

    The columns are chrom, start, end, track, score (0 to 1000), strand (.), the signed sum of the scores
    within, and the score of the greatest magnitude. "By chance" is how many seqlets there would be if the
    high bases were scattered at random.

    With --motifs come the columns motif, strand and p-value; OUT.motifs.tsv, how many seqlets of each track
    each motif has, and how much |score| they hold; and OUT.motifs.bed, a track of the names for browsers.
    """
    from tism_scan.export.seqlet_files import write_seqlets
    from tism_scan.export.seqlets import SeqletRule
    from tism_scan.store.score_store import ScoreStore

    rule = SeqletRule(quantile, gap, min_bases)
    naming = _naming(motifs, motif_p, genome)
    opened = ScoreStore.open(store)
    if phred is not None:
        from tism_scan.variants import limits_of

        refuse_unused({"quantile", *({"values"} if values == "ism" else ())}, "with --phred")
        rule = replace(rule, limits=limits_of(opened, phred))
    with progress_bar("seqlets") as show:
        called = write_seqlets(
            opened,
            out,
            rule,
            tracks=tracks,
            chroms=chroms,
            naming=naming,
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
    if naming is not None:
        _say_names(called, naming, out)
    return 0


def _naming(motifs: Path | None, motif_p: float, genome: Path | None) -> "Naming | None":
    """Return with what seqlets are to be named, if at all."""
    from tism_scan.export.seqlet_names import Naming
    from tism_scan.motifs.reading import read_motifs

    if motifs is None:
        if genome is not None:
            raise InputError("--genome is for --motifs; add it, or leave --genome out")
        return None
    return Naming(tuple(read_motifs(motifs)), genome, motif_p)


def _say_names(called: "list[TrackSeqlets]", naming: "Naming", out: Path) -> None:
    from tism_scan.export.seqlet_names import table_rows
    from tism_scan.export.seqlet_parts import MotifFiles

    files = MotifFiles.beside(out)
    rows = [
        [track, motif, f"{n:,}", f"{part:.1%}", f"{magnitude:.4g}", f"{share:.1%}"]
        for each in called
        for track, motif, n, part, magnitude, share in table_rows(each.track.name, each.motifs)[
            :_MOTIFS_SHOWN
        ]
    ]
    headers = ["track", "motif", "seqlets", "of all", "sum of |score|", "of all"]
    say_table(f"motifs in {files.table}", headers, rows)
    n_motifs = count_of(len(naming.motifs), "motif")
    say(f"{n_motifs}: {naming.by_chance:.1%} of random sequences would get a name")
    if len(naming.motifs) < _FEW_MOTIFS:
        say("p-values are rough: they depend on which motifs the file holds, and it holds few")
    say(f"to see the names    tism-scan view FOLDER --genome GENOME.fa --annotation motifs={files.bed}")
