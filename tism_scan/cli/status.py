"""``tism-scan status``: what a store holds."""

import json
from typing import Any

import click

from tism_scan.cli.console import say, say_table
from tism_scan.cli.place_options import STORE
from tism_scan.places import Place


@click.command(name="status")
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--watch", "is_watching", is_flag=True, help="Print a line now and then until all is done.")
@click.option(
    "--every",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds between them.",
)
def command(store: Place, *, as_json: bool, is_watching: bool, every: float) -> int:
    """Show what STORE was made with, what is done, pending and failed, and who is writing it."""
    from tism_scan.status import store_status

    if is_watching:
        from tism_scan.cli.watch import watch

        return watch(store, every)
    status = store_status(store)
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return 0
    plan = status["plan"]
    scoring = plan["scoring"]
    tracks = [track["name"] for track in scoring["tracks"]]
    say(f"{status['path']}")
    say(f"tracks      {len(tracks):,}: {', '.join(tracks[:6])}{', ...' if len(tracks) > 6 else ''}")
    kind = "mean TISM" if scoring["values"] == "mean" else "TISM"
    say(
        f"scores      {kind} of the {scoring['output_space']}, stride {scoring['stride']}, "
        f"stitch {scoring['stitch']}, strands {scoring['strands']}, {scoring['precision']}"
    )
    say(f"genome      sha256 {plan['genome_digest'][:12]}   weights sha256 {plan['weights_digest'][:12]}")
    say(f"blocks      of {plan['block_bp']:,} bp")
    say(f"computed on {'; '.join(status['devices']) or 'nothing yet'}")
    say(f"written by  {status['lease'] or 'nobody now'}")
    rows = [_row(chrom) for chrom in status["chroms"]]
    if len(rows) > 1:
        rows.append(_row({"chrom": "all", **status["total"]}))
    say_table(
        "", ["chrom", "blocks done", "pending", "failed", "bases done", "bases pending", "bases failed"], rows
    )
    for failure in status["failures"]:
        say(f"failed      {failure['interval']} after {failure['n_attempts']} attempts: {failure['error']}")
    return 0


def _row(counts: dict[str, Any]) -> list[str]:
    names = ("done", "pending", "failed")
    return [
        counts["chrom"],
        *(f"{counts[f'blocks_{name}']:,}" for name in names),
        *(f"{counts[f'bases_{name}']:,}" for name in names),
    ]
