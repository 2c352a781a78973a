"""``tism-scan variants``: the model on both alleles of each variant."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import duration, log_aside, log_to_file, outlive_words, say
from tism_scan.cli.options.cluster import HEADINGS, cluster_options, log_option, ray_options
from tism_scan.cli.options.common import PATH, STORE, taken
from tism_scan.cli.options.headed import Headed
from tism_scan.cli.options.model import (
    check_tracks_chosen,
    memory_option,
    model_options_without_device,
    model_source,
)
from tism_scan.cli.options.scan import execution
from tism_scan.cli.run import say_what_is_missing
from tism_scan.cli.typed import typed_again, typed_command
from tism_scan.cli.waiting import progress_bar, waiting
from tism_scan.progress import count_of

if TYPE_CHECKING:
    from tism_scan.effects import EffectSummary
    from tism_scan.storage.places import Place

_HEADINGS = {
    "Which model, and which of its outputs": (
        *("genome", "spec", "weights", "input_bp", "alphabet", "layout", "reduction"),
        *("tracks", "track_names", "groups"),
    ),
    "Which number": ("strands", "on_mismatch", "shift_average", "log2fc", "chrom_alias"),
    "The results": ("out", "shape", "parts", "keep_parts"),
    **HEADINGS,
    "If there are parts already": ("retry_failed", "overwrite", "break_lock"),
}


@click.command(
    name="variants",
    cls=Headed,
    headings=_HEADINGS,
    examples=[
        "tism-scan variants in.vcf.gz --genome hg38.fa --weights deepsea.beluga.pth --tracks 267 "
        "--out out.tsv.gz",
    ],
)
@click.argument("variants", type=PATH)
@click.option(
    "--genome",
    required=True,
    type=PATH,
    help="FASTA of the variants, plain or bgzip; its index is made if missing.",
)
@model_options_without_device
@memory_option
@click.option(
    "--strands",
    type=click.Choice(["forward", "both"]),
    default="forward",
    show_default=True,
    help="both: average each window with its reverse complement, twice the time.",
)
@click.option(
    "--on-mismatch",
    type=click.Choice(["flag", "skip", "swap", "fail"]),
    default="flag",
    show_default=True,
    help="Where REF is not the genome's: compare ALT with REF all the same, give no score, exchange the two "
    "if ALT is the genome's, or stop before the work.",
)
@click.option(
    "--shift-average",
    is_flag=True,
    help="Average over all places of an insertion or deletion in a repeat. [default: the leftmost]",
)
@click.option(
    "--log2fc/--no-log2fc",
    default=None,
    help="Outputs are logits: add log2 of the ratio of probabilities. [default: for Beluga only]",
)
@click.option(
    "--chrom-alias",
    type=PATH,
    help="Two columns: a chrom's name in the genome, and the name in VARIANTS; others keep their names.",
)
@click.option(
    "--out",
    required=True,
    type=PATH,
    help="A .tsv.gz or .vcf.gz file, whose index is written, too, or a .parquet file.",
)
@click.option(
    "--format",
    "shape",
    type=click.Choice(["wide", "long"]),
    default="wide",
    show_default=True,
    help="Of a table: columns for each track, or a row.",
)
@click.option(
    "--parts",
    type=STORE,
    metavar="FOLDER",
    help="Where parts of the results are kept until the end; every node must reach it. [default: OUT.parts]",
)
@click.option("--keep-parts", is_flag=True, help="Leave them there in the end.")
@cluster_options
@click.option("--overwrite", is_flag=True, help="Delete the parts that are there first.")
@log_option
def command(
    variants: Path,
    *,
    genome: Path,
    out: Path,
    parts: "Place | None",
    shape: Any,
    keep_parts: bool,
    overwrite: bool,
    log_path: Path | None,
    **options: Any,
) -> int:
    """Score VARIANTS exactly: the model on the reference and on the alternative allele, on Ray.

    VARIANTS is a VCF (.vcf, .vcf.gz), a BCF, or a table with columns CHROM, POS, REF and ALT. Each variant
    stands at the centre of its window. An allele that has no score says why. Run the same command again to
    resume.
    """
    outlive_words()
    if log_path is not None:
        log_to_file(log_path)
        log_aside(f"cd {shlex.quote(str(Path.cwd()))} && {typed_again()}")
    check_tracks_chosen(options)
    with waiting("loading PyTorch and Ray"):
        from tism_scan.effects import compute_effects, plan_effects
        from tism_scan.effects.parquet import is_parquet

        asked = taken(options, *("tracks", "groups", "track_names", "strands", "on_mismatch"))
        asked |= taken(options, "shift_average", "log2fc", "chrom_alias")
        planned = plan_effects(genome, model_source(options), variants, **asked)
        ray = ray_options(options)
    began = time.monotonic()
    with progress_bar("variants") as show:
        summary = compute_effects(
            planned,
            out,
            shape=shape,
            parts=parts,
            keep_parts=keep_parts,
            ray=ray,
            execution=execution(options),
            typed=typed_command(),
            overwrite=overwrite,
            on_progress=show,
        )
    if summary.out is not None:
        _say_what_was_found(summary, time.monotonic() - began)
        if not planned.survey.is_sorted and not is_parquet(out):
            say("the variants are not sorted, so there is no index; sort them with `bcftools sort`")
    return say_what_is_missing(summary.store, summary.result, "part")


def _say_what_was_found(summary: "EffectSummary", seconds: float) -> None:
    tally, n_done = summary.tally, summary.result.n_bp
    n_alleles = sum(tally.reasons.values())
    words = [f"{count_of(n_alleles, 'ALT allele')}: {tally.reasons['']:,} scored"]
    words += [f"{n:,} without a score ({reason})" for reason, n in tally.reasons.most_common() if reason]
    if tally.n_mismatches:
        words.append(f"{tally.n_mismatches:,} of {tally.n_checked:,} REF alleles are not the genome's")
    say(f"{summary.out}: {', '.join(words)}")
    say(f"computed {n_done:,} in {duration(seconds)} ({n_done / seconds:,.1f} variants/s)")
