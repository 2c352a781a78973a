"""``tism-scan calibrate``: where each score ranks among all of a store."""

from pathlib import Path

import click

from tism_scan.cli.console import say_table
from tism_scan.cli.options.common import PATH, STORE, jobs_option
from tism_scan.cli.waiting import progress_bar
from tism_scan.plan.labels import names_apart
from tism_scan.storage.places import Place

_SHOWN = (10, 20, 30)


@click.command(name="calibrate")
@click.argument("store", type=STORE)
@click.option(
    "--background",
    type=PATH,
    metavar="BED|VCF",
    help="Rank only the scores of these bases, or at these variants' positions. [default: all of the store]",
)
@jobs_option("Number of processes. [default: the number of CPU cores, fewer for small stores]")
def command(store: Place, background: Path | None, jobs: int | None) -> int:
    """Rank the magnitudes of all scores of STORE, and keep the ranks beside its record.

    PHRED is -10 log10(rank / N): 10 for the highest tenth of all scores, 20 for the highest hundredth, 30 for
    the highest thousandth. `tism-scan annotate` then gives each variant its PHRED.
    """
    from tism_scan.store.score_store import ScoreStore
    from tism_scan.variants import calibrate

    opened = ScoreStore.open(store)
    with progress_bar("calibrate") as show:
        calibration = calibrate(opened, background=background, jobs=jobs, on_progress=show)
    rows = []
    for i, name in enumerate(names_apart(opened.plan.scoring.tracks)):
        for kind, tables in (("substitutions", calibration.substitutions), ("mean", calibration.mean)):
            if tables:
                edges = [f"{tables[i].lowest_above(phred):.4g}" for phred in _SHOWN]
                rows.append([f"{name}, {kind}", f"{tables[i].n:,}", *edges])
    headers = ["track", "scores", *(f"PHRED {phred} above" for phred in _SHOWN)]
    say_table(f"|scores| of {calibration.background}", headers, rows)
    return 0
