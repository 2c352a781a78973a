"""``tism-scan status``: what a store holds."""

import contextlib
import json
import time
from typing import Any

import click

from tism_scan.cli.console import base_count, duration, say, say_table
from tism_scan.cli.options.common import STORE
from tism_scan.plan.labels import names_apart
from tism_scan.plan.scoring import path_text
from tism_scan.plan.tracks import Track
from tism_scan.progress import count_of
from tism_scan.storage.digests import short_digest
from tism_scan.storage.places import Place

_MOST_ROWS = 30
_KINDS = {
    "mean": "mean TISM",
    "tism": "TISM",
    "mean+sd": "mean TISM, and its standard deviation over models,",
}


@click.command(name="status")
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--watch",
    "is_watching",
    is_flag=True,
    help="Print a line of progress every few seconds until nothing is pending.",
)
@click.option(
    "--every",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    default=10.0,
    show_default=True,
    help="Time between two lines of --watch, in seconds.",
)
def command(store: Place, *, as_json: bool, is_watching: bool, every: float) -> int:
    """Show the settings of STORE, which blocks are done, pending and failed, and which process writes it."""
    from tism_scan.store.status import store_status

    if is_watching:
        return watch(store, every)
    status = store_status(store)
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return 0
    if "peaks_done" in status["total"]:
        _say_peaks(status)
        return 0
    plan = status["plan"]
    scoring = plan["scoring"]
    say(f"{status['path']}")
    _say_tracks(scoring)
    kind = _KINDS[scoring["values"]]
    say(
        f"scores      {kind} of the {scoring['output_space']}, stride {scoring['stride']}, "
        f"stitch {scoring['stitch']}, strands {scoring['strands']}, {scoring['precision']}"
        + (f", path {path_text(scoring['path'])}" if "path" in scoring else "")
    )
    say(
        f"genome      sha256 {short_digest(plan['genome_digest'])}   "
        f"weights sha256 {short_digest(plan['weights_digest'])}"
    )
    say(f"blocks      of {plan['block_bp']:,} bp")
    say(f"computed on {'; '.join(status['devices']) or 'nothing yet'}")
    say(f"written by  {status['lease'] or 'nobody now'}")
    rows = _rows(status["chroms"])
    if len(rows) > 1:
        rows.append(_row({"chrom": "all", **status["total"]}))
    say_table(
        "", ["chrom", "blocks done", "pending", "failed", "bases done", "bases pending", "bases failed"], rows
    )
    _say_failures(status["failures"])
    if status["refinement"]:
        _say_refinement(status["refinement"])
    return 0


def _say_peaks(status: dict[str, Any]) -> None:
    """Say how far the attribution of a set of peaks is."""
    plan, total = status["plan"], status["total"]
    scoring, options = plan["scoring"], plan["options"]
    say(f"{status['path']}")
    _say_tracks(scoring)
    say(
        f"scores      {options['method']} of the {scoring['output_space']} around peaks, "
        f"{options['width']:,} bp in windows of {scoring['input_bp']:,} bp, strands {scoring['strands']}"
    )
    say(f"genome      sha256 {plan['genome_digest'][:12]}   weights sha256 {plan['weights_digest'][:12]}")
    say(f"peaks       {plan['n_items']:,} in parts of up to {plan['items_per_part']:,}")
    say(f"computed on {'; '.join(status['devices']) or 'nothing yet'}")
    say(f"written by  {status['lease'] or 'nobody now'}")
    states = ("done", "pending", "failed")
    rows = [[unit, *(f"{total[f'{unit}_{state}']:,}" for state in states)] for unit in ("parts", "peaks")]
    say_table("", ["", *states], rows)
    _say_failures(status["failures"])


def _say_failures(failures: list[dict[str, Any]]) -> None:
    """Say which blocks or parts were given up, and why."""
    for each in failures:
        say(
            f"failed      {each['interval']} after {count_of(each['n_attempts'], 'attempt')}: {each['error']}"
        )


def _say_tracks(scoring: dict[str, Any]) -> None:
    """Say how many tracks there are, and what the first of them are called."""
    names = names_apart([Track.from_json(track) for track in scoring["tracks"]])
    say(f"tracks      {len(names):,}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}")


def _say_refinement(refinement: dict[str, Any]) -> None:
    """Say how far the store's exact ISM is."""
    total = refinement["total"]
    n_blocks = sum(total[f"blocks_{name}"] for name in ("done", "pending", "failed"))
    say(
        f"exact ISM   of {count_of(refinement['n_bases'], 'base')} ({refinement['rule']}): "
        f"{total['blocks_done']:,} of {count_of(n_blocks, 'block')} done, {total['blocks_failed']:,} failed"
    )
    _say_failures(refinement["failures"])


def _rows(chroms: list[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each chrom; of many, incomplete ones come first, and one row is for the rest."""
    if len(chroms) <= _MOST_ROWS:
        return [_row(chrom) for chrom in chroms]
    chroms = sorted(chroms, key=lambda chrom: not chrom["blocks_pending"] and not chrom["blocks_failed"])
    shown, others = chroms[: _MOST_ROWS - 1], chroms[_MOST_ROWS - 1 :]
    names = [name for name in others[0] if name != "chrom"]
    rest = {name: sum(chrom[name] for chrom in others) for name in names}
    return [*map(_row, shown), _row({"chrom": f"{len(others):,} more", **rest})]


def _row(counts: dict[str, Any]) -> list[str]:
    names = ("done", "pending", "failed")
    return [
        counts["chrom"],
        *(f"{counts[f'blocks_{name}']:,}" for name in names),
        *(f"{counts[f'bases_{name}']:,}" for name in names),
    ]


def watch(store: Place, every_s: float) -> int:
    """Print a line every few seconds until no block is pending, and return the exit code.

    Each line costs a listing of the store. A job that waits in a queue has not made its store yet: it is
    waited for.
    """
    from tism_scan.storage.folder import open_folder
    from tism_scan.store.ledger import ROOT, RUN_KEY
    from tism_scan.store.status import store_status

    folder = open_folder(store)
    with contextlib.suppress(OSError):  # the first look at the store says it better
        while folder.get(RUN_KEY) is None and folder.stranger(ROOT) is None:
            say(f"{time.strftime('%H:%M:%S')}  no run has made a store at {store} yet")
            time.sleep(every_s)
    began = time.monotonic()
    first = status = store_status(store)
    while True:
        say(_line(first, status, time.monotonic() - began))
        if not status["total"][f"{_units(status)[0]}_pending"]:
            return 0 if status["is_complete"] else 1
        time.sleep(every_s)
        status = store_status(store)


def _units(status: dict[str, Any]) -> tuple[str, str]:
    """Return what a store is computed in, and what the size of that counts."""
    return ("parts", "peaks") if "peaks_done" in status["total"] else ("blocks", "bases")


def _line(first: dict[str, Any], status: dict[str, Any], seconds: float) -> str:
    """Return how far a scan is, and how fast it goes since the first look."""
    total = status["total"]
    units, sizes = _units(status)
    shown = base_count if sizes == "bases" else lambda n: f"{n:,.0f} {sizes}"
    n_done, n_pending = total[f"{sizes}_done"], total[f"{sizes}_pending"]
    n_all = n_done + n_pending + total[f"{sizes}_failed"]
    words = [
        f"{time.strftime('%H:%M:%S')}  {100 * n_done / n_all:.1f} %",
        f"{shown(n_done)} of {shown(n_all)}",
    ]
    rate = (n_done - first["total"][f"{sizes}_done"]) / max(seconds, 1e-9)
    if rate > 0:
        words.append(f"{shown(rate)}/s")
        if n_pending and status["lease"]:
            words.append(f"{duration(n_pending / rate)} left")
    words += [
        f"{count_of(total[f'{units}_failed'], units.removesuffix('s'))} failed",
        f"written by {status['lease'] or 'nobody now'}",
    ]
    return ", ".join(words)
