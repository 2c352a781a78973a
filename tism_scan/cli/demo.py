"""``tism-scan demo``: the whole way on a small genome, offline."""

import os
import shutil
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tism_scan.cli.console import duration, say, say_table
from tism_scan.cli.options.common import PATH
from tism_scan.cli.typed import pasteable
from tism_scan.cli.waiting import file_bars, waiting

if TYPE_CHECKING:
    from tism_scan.genome.intervals import Interval
    from tism_scan.store.score_store import ScoreStore

WEIGHTS = "demo_beluga.pth"
BLOCK_BP = 1 << 15
MOST_ACTORS = 4


@click.command(name="demo")
@click.option(
    "--out",
    default="tism-scan-demo",
    show_default=True,
    type=PATH,
    metavar="FOLDER",
    help="Folder for everything that the demo makes.",
)
def command(out: Path) -> int:
    """Scan a 1 Mb genome with planted motifs, export bigWigs, and show which bases the model uses.

    Needs no network and no GPU.
    """
    with waiting("loading PyTorch and Ray"):
        from tism_scan.cli.run import scan_and_report
        from tism_scan.demo.auroc import best_site, motif_auroc
        from tism_scan.demo.genome import make_genome, write_fasta, write_motifs, write_sites
        from tism_scan.errors import ExportError
        from tism_scan.export import export_bigwigs
        from tism_scan.export.browsers import describe_export, read_store_annotations
        from tism_scan.ray_scan.cluster import RayOptions
        from tism_scan.scan.execution import Execution
        from tism_scan.scan.planning import plan_scan
        from tism_scan.store.score_store import ScoreStore

    began = time.monotonic()
    with waiting("making a genome"):
        genome = make_genome()
    try:
        out.mkdir(parents=True, exist_ok=True)
        fasta, weights = out / "genome.fa", out / WEIGHTS
        if not fasta.exists():
            write_fasta(fasta, genome)
        write_sites(out / "motifs.bed", genome)
        write_motifs(out / "motifs.meme")
        names = out / "track_names.txt"
        _write_inputs(weights, names)
    except OSError as error:
        raise ExportError(f"cannot write to {out}: {error.strerror}; choose another --out") from None
    say(f"genome  {fasta}, {sum(len(made.codes) for made in genome.values()):,} bp in {len(genome)} chroms")
    say(f"motifs  {out / 'motifs.bed'}, {sum(len(made.sites) for made in genome.values()):,} planted sites")
    planned = plan_scan(fasta, weights, tracks="all", track_names=names, block_bp=BLOCK_BP)
    actors = RayOptions(n_actors=min(MOST_ACTORS, os.cpu_count() or 1))
    code = scan_and_report(planned, out / "scores.zarr", Execution(), actors, is_last=False)
    if code:
        return code
    store = ScoreStore.open(out / "scores.zarr")
    with file_bars("export", len(store.plan.scoring.tracks)) as show:
        summaries = export_bigwigs(store, out / "bigwig", on_progress=show)
    rows = [
        [name, f"{n_sites:,}", f"{area:.3f}", summary.path.name]
        for (name, (n_sites, area)), summary in zip(
            motif_auroc(store, genome).items(), summaries, strict=True
        )
    ]
    say()
    say_table(
        "|mean TISM| on planted motif bases against all others", ["track", "sites", "AUROC", "bigWig"], rows
    )
    say(f"done in {duration(time.monotonic() - began)}; everything is in {out}")
    others = [f"planted motifs={out / 'motifs.bed'}", *_named_seqlets(store, out)]
    motifs = read_store_annotations(store, others=others)
    describe_export(store, out / "bigwig", summaries, annotations=motifs)
    _say_what_to_do_next(out, best_site(store, genome))
    return 0


def _write_inputs(weights: Path, names: Path) -> None:
    """Copy the demo's model out of the package, and write the names of its outputs."""
    from tism_scan.demo.synthesis import OUTPUT_NAMES

    with (files("tism_scan.demo") / WEIGHTS).open("rb") as source, open(weights, "wb") as target:
        shutil.copyfileobj(source, target)
    names.write_text("".join(f"{name}\n" for name in OUTPUT_NAMES))


def _named_seqlets(store: "ScoreStore", out: Path) -> list[str]:
    """Name the seqlets after the planted motifs, if that can be done, and return their track."""
    from tism_scan.errors import InputError
    from tism_scan.export.seqlet_files import write_seqlets
    from tism_scan.export.seqlet_names import Naming
    from tism_scan.export.seqlet_parts import MotifFiles
    from tism_scan.motifs.reading import read_motifs
    from tism_scan.motifs.tomtom import check_tomtom

    try:
        check_tomtom()
    except InputError as error:
        say(f"seqlets are not named after motifs: {error}")
        return []
    bed = out / "seqlets.bed"
    with waiting("naming seqlets (the first time, a minute: Tomtom is compiled)"):
        naming = Naming(tuple(read_motifs(out / "motifs.meme")), out / "genome.fa")
        called = write_seqlets(store, bed, naming=naming)
    n = sum(each.n_seqlets for each in called)
    say(f"{bed}: {n:,} seqlets of {len(called)} tracks, named after their nearest motif")
    return [f"seqlets by motif={MotifFiles.beside(bed).bed}"]


def _say_what_to_do_next(out: Path, locus: "Interval") -> None:
    view = pasteable("view", out / "bigwig", "--genome", out / "genome.fa", "--locus", locus)
    own = ["--genome", "hg38.fa", "--weights", "deepsea.beluga.pth", "--tracks", "267"]
    say("next:")
    say(f"  see the letters   {view}")
    say(f"  see the store     {pasteable('status', out / 'scores.zarr')}")
    say(f"  your own genome   {pasteable('run', *own, '--out', 'scores.zarr')}")
