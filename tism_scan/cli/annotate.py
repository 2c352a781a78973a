"""``tism-scan annotate``: variants with the scores of a store."""

from pathlib import Path
from typing import Any

import click

from tism_scan.cli.console import say
from tism_scan.cli.options.common import PATH, STORE, jobs_option, tracks_option, values_option
from tism_scan.cli.waiting import progress_bar
from tism_scan.progress import count_of
from tism_scan.storage.places import Place


@click.command(name="annotate")
@click.argument("variants", type=PATH)
@click.option(
    "--store",
    required=True,
    type=STORE,
    help="A store of `run --values tism`; with --values ism, any that was refined.",
)
@click.option(
    "--out",
    required=True,
    type=PATH,
    help="A .vcf.gz file, or .tsv.gz for a table; its index is written, too.",
)
@values_option("ism: the exact ISM that `refine` computed, in fields ISM_NAME.")
@tracks_option
@click.option(
    "--chrom-alias",
    type=PATH,
    help="Two columns: a chrom's name in the store, and the name in VARIANTS; others keep their names.",
)
@jobs_option("Number of processes. [default: the number of CPU cores, fewer for small files]")
@click.option("--allow-incomplete", is_flag=True, help="Give no score where blocks are not computed yet.")
def command(variants: Path, store: Place, out: Path, values: str, **options: Any) -> int:
    """Add the effect of each single-base variant to VARIANTS, from a store: no model, no GPU.

    VARIANTS is a sorted VCF (.vcf, .vcf.gz), a BCF, or a table with columns CHROM, POS, REF and ALT. Each
    track becomes a field TISM_NAME with a number for each ALT allele, "." where there is no score. A record
    whose REF is not the base of the store's genome gets the flag TISM_REFMISMATCH. After `tism-scan
    calibrate`, each score comes with its PHRED, TISM_NAME_PHRED.
    """
    from tism_scan.store.refined import existing_refinement
    from tism_scan.store.score_store import ScoreStore
    from tism_scan.variants import annotate

    opened = ScoreStore.open(store)
    if values == "ism":
        opened = existing_refinement(opened)
    with progress_bar("annotate") as show:
        summary = annotate(opened, variants, out, **options, on_progress=show)
    counts = summary.counts
    words = [
        f"{count_of(counts.n_records, 'record')} with {count_of(counts.n_alleles, 'ALT allele')}: "
        f"{counts.n_scored:,} scored"
    ]
    words += [f"{n:,} without a score ({reason})" for reason, n in counts.unscored.most_common()]
    if counts.n_mismatches:
        words.append(f"{counts.n_mismatches:,} of {counts.n_checked:,} REF bases are not the store's")
    if counts.n_unsure:
        words.append(
            f"{count_of(counts.n_unsure, 'REF base')} not checked, since several bases have no effect"
        )
    say(f"{out}: {', '.join(words)}")
    if values == "ism":
        say(f"exact ISM was computed of {count_of(opened.plan.n_wanted, 'base')}; all other alleles got '.'")
    elif summary.fields[0].background:
        say(f"PHRED is a rank among {summary.fields[0].background}")
    else:
        say("no PHRED: `tism-scan calibrate` ranks the store's scores first")
    return 0
