"""``tism-scan refine``: exact ISM at the bases that a scan found."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import duration, log_aside, log_to_file, outlive_words, say
from tism_scan.cli.options.cluster import HEADINGS, cluster_options, log_option, ray_options
from tism_scan.cli.options.common import PATH, STORE
from tism_scan.cli.options.headed import Headed
from tism_scan.cli.options.model import memory_option, model_source, source_options
from tism_scan.cli.options.scan import execution
from tism_scan.cli.run import NOTHING_PENDING, beside, has_to_go, say_what_is_missing
from tism_scan.cli.typed import pasteable, typed_again, typed_command
from tism_scan.cli.waiting import progress_bar, waiting
from tism_scan.errors import InputError
from tism_scan.progress import count_of
from tism_scan.storage.places import Place

if TYPE_CHECKING:
    from tism_scan.refine import PlannedRefinement

_HEADINGS = {
    "What the store was made with": (
        *("genome", "spec", "weights", "input_bp", "alphabet", "layout", "reduction"),
    ),
    "Which bases": ("quantile", "seqlets", "bed"),
    **HEADINGS,
    "If there is exact ISM already": ("retry_failed", "overwrite", "yes", "break_lock"),
}


@click.command(
    name="refine",
    cls=Headed,
    headings=_HEADINGS,
    examples=[
        "tism-scan refine scores.zarr --genome hg38.fa --weights deepsea.beluga.pth",
        "tism-scan refine scores.zarr --genome hg38.fa --weights deepsea.beluga.pth --bed peaks.bed",
    ],
)
@click.argument("store", type=STORE)
@click.option("--genome", required=True, type=PATH, help="The FASTA that was scanned.")
@source_options
@memory_option
@click.option(
    "--quantile",
    type=click.FloatRange(0, 1),
    metavar="Q",
    help="Refine the bases whose |score| is above this quantile of a track. [default: 0.997]",
)
@click.option("--seqlets", type=PATH, help="Refine the bases of a file of `seqlets` instead.")
@click.option("--bed", type=PATH, help="Refine the bases of a BED file instead.")
@cluster_options
@click.option(
    "--overwrite", is_flag=True, help="Delete the exact ISM that is there first; asks for confirmation."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@log_option
def command(
    store: Place,
    *,
    genome: Path,
    quantile: float | None,
    seqlets: Path | None,
    bed: Path | None,
    overwrite: bool,
    yes: bool,
    log_path: Path | None,
    **options: Any,
) -> int:
    """Compute exact ISM of the bases with the highest scores of STORE, on Ray, and keep it beside them.

    All three substitutions of each base, on all tracks of the store. Run the same command again to resume.
    `export --values ism` writes it as bigWigs.
    """
    outlive_words()
    if log_path is not None:
        log_to_file(log_path)
        log_aside(f"cd {shlex.quote(str(Path.cwd()))} && {typed_again()}")
    given = {"--quantile": quantile, "--seqlets": seqlets, "--bed": bed}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} choose the bases twice; expected one of them; leave one out")
    with waiting("loading PyTorch and Ray"):
        from tism_scan.refine import plan_refinement
        from tism_scan.store.refined import refinement_place
        from tism_scan.store.score_store import ScoreStore

        scan = ScoreStore.open(store)
        place = refinement_place(scan)
    overwrite = overwrite and has_to_go(place, is_agreed=yes)
    with progress_bar("choose the bases") as show:
        planned = plan_refinement(
            scan,
            genome,
            model_source(options),
            quantile=quantile,
            bed=seqlets or bed,
            overwrite=overwrite,
            on_progress=show,
        )
    return _refine(planned, options, overwrite=overwrite)


def _refine(planned: "PlannedRefinement", options: dict[str, Any], *, overwrite: bool) -> int:
    """Compute what is pending, say how it went and what to type next, and return the exit code."""
    from tism_scan.refine import refine
    from tism_scan.store.refined import existing_refinement

    plan = planned.plan
    say(f"refining {plan.n_wanted:,} of {planned.scan.plan.n_wanted:,} bases ({_rule(planned)})")
    began = time.monotonic()
    with progress_bar("refine") as show:
        result = refine(
            planned,
            ray=ray_options(options),
            execution=execution(options),
            typed=typed_command(),
            overwrite=overwrite,
            on_progress=show,
        )
    seconds = time.monotonic() - began
    if result.n_blocks_total:
        say(
            f"refined {count_of(result.n_blocks, 'block')} in {duration(seconds)}: exact ISM of "
            f"{count_of(result.n_scored, 'base')} on {count_of(len(plan.scoring.tracks), 'track')}"
        )
    else:
        say(NOTHING_PENDING)
    code = say_what_is_missing(existing_refinement(planned.scan), result)
    if not code:
        path = planned.scan.path
        say(f"next: {pasteable('export', path, '--values', 'ism', '--out', beside(path, 'bigwig'))}")
    return code


def _rule(planned: "PlannedRefinement") -> str:
    """Return how the bases were chosen."""
    selection = planned.plan.selection
    return selection.rule if selection else ""
