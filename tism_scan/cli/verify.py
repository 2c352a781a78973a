"""``tism-scan verify``: whether a store still holds what was computed."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import say, say_table
from tism_scan.cli.options.cluster import break_lock_option
from tism_scan.cli.options.common import PATH, STORE
from tism_scan.cli.options.model import model_source, source_options
from tism_scan.cli.typed import called_as_now, pasteable
from tism_scan.cli.waiting import progress_bar
from tism_scan.errors import InputError
from tism_scan.progress import count_of
from tism_scan.storage.places import Place

if TYPE_CHECKING:
    from tism_scan.plan.scan_plan import ScanPlan
    from tism_scan.scan.verify import Damage, Sample, VerifyReport
    from tism_scan.store.score_store import ScoreStore

_MOST_SHOWN = 20


@click.command(name="verify")
@click.argument("store", type=STORE)
@click.option("--full", is_flag=True, help="Read every object and compare its checksum, not only sizes.")
@click.option(
    "--recompute",
    "n_recompute",
    type=click.IntRange(1),
    metavar="N",
    help="Compute N finished blocks again, drawn at random; needs --genome and the model's options of `run`.",
)
@click.option("--genome", type=PATH, help="The FASTA that was scanned, for --recompute.")
@source_options
@click.option(
    "--seed",
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the random choice of blocks for --recompute.",
)
@break_lock_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    store: Place,
    *,
    full: bool,
    n_recompute: int | None,
    genome: Path | None,
    seed: int,
    break_lock: bool,
    as_json: bool,
    **model: Any,
) -> int:
    """Check STORE for damage; damaged blocks are named and become pending again.

    By default only the sizes of files are compared, which takes seconds. Use --full after you copied a store,
    or if you do not trust its disk. The exact ISM of `refine` and the ranks of `calibrate` are checked, too.
    A store that can only be read is checked, and left as it is. The exit code is 1 if anything is damaged, or
    if blocks changed after `calibrate`.
    """
    from tism_scan.scan.verify import verify_store
    from tism_scan.store.opening import is_of_peaks
    from tism_scan.store.refined import open_refinement
    from tism_scan.store.score_store import ScoreStore

    sample = _sample(n_recompute, genome, seed, model)
    if is_of_peaks(store):
        return _verify_peaks(store, sample, full=full, break_lock=break_lock, as_json=as_json)
    opened = ScoreStore.open(store)
    refined = open_refinement(opened)
    with progress_bar("verify") as show:
        options: dict[str, Any] = {"full": full, "break_lock": break_lock, "on_progress": show}
        reports = [
            verify_store(each.path, sample=_with_engine(sample, each.plan), **options)
            for each in (opened, refined)
            if each is not None
        ]
    fault = _fault_of_ranks(opened, reports[0])
    if as_json:
        refinement = _plain(reports[1]) if refined is not None else None
        checked = {"refinement": refinement, "calibration": fault}
        click.echo(json.dumps(_plain(reports[0]) | checked, indent=2))
    else:
        for report in reports:
            _say(report)
        if fault is not None:
            say(fault)
    return 0 if all(report.is_sound for report in reports) and fault is None else 1


def _fault_of_ranks(store: "ScoreStore", report: "VerifyReport") -> str | None:
    """Return what is wrong with a store's calibration; blocks that are pending may yet be as they were."""
    from tism_scan.variants import calibration_fault

    return None if report.n_pending else calibration_fault(store)


def _verify_peaks(
    store: Place, sample: "Sample | None", *, full: bool, break_lock: bool, as_json: bool
) -> int:
    """Check the store of a set of peaks, and return the exit code."""
    from tism_scan.scan.verify_peaks import verify_peaks

    if sample is not None:
        raise InputError(f"--recompute is for the store of a scan, and {store} is of peaks; leave it out")
    with progress_bar("verify"):
        report = verify_peaks(store, full=full, break_lock=break_lock)
    if as_json:
        click.echo(json.dumps(_plain(report), indent=2))
    else:
        _say(report)
    return 0 if report.is_sound else 1


def _with_engine(sample: "Sample | None", plan: "ScanPlan") -> "Sample | None":
    """Return a sample with the engine that computes a plan."""
    if sample is None or plan.selection is None:
        return sample
    from tism_scan.refine import make_ism_engine

    return replace(sample, engine_of=make_ism_engine)


def _sample(n_blocks: int | None, genome: Path | None, seed: int, model: dict[str, Any]) -> "Sample | None":
    """Return what is to be computed again, if anything is."""
    from tism_scan.scan.verify import Sample

    if n_blocks is None:
        if genome is not None or model["weights"]:
            raise InputError("--genome and --weights are for --recompute N; add it, or leave them out")
        return None
    if genome is None:
        raise InputError("--recompute needs the genome; add --genome and the model, as for `run`")
    return Sample(n_blocks, genome, model_source(model), seed, model["batch_size"])


def _plain(report: "VerifyReport") -> dict[str, Any]:
    """Return a report as plain lists, dicts, strings and numbers."""
    return {
        "path": str(report.path),
        "is_sound": report.is_sound,
        "is_full": report.is_full,
        "n_objects": report.n_objects,
        "n_bytes": report.n_bytes,
        "n_pending": report.n_pending,
        "command": report.command,
        "damaged": [damage._asdict() for damage in report.damaged],
        "mended": [damage._asdict() for damage in report.mended],
        "swept": report.swept,
        "read_only": report.read_only,
        "device": report.device,
        "devices": report.devices,
        "recomputed": [asdict(found) | {"block": str(found.block)} for found in report.recomputed],
    }


def _say(report: "VerifyReport") -> None:
    compared = "checksums read again" if report.is_full else "sizes compared; --full reads the checksums"
    say(f"{report.path}: {count_of(report.n_objects, 'object')}, {report.n_bytes:,} bytes, {compared}")
    _say_all(report.damaged)
    _say_all(report.mended)
    if report.swept:
        say(f"removed {count_of(len(report.swept), 'temporary file')} left by interrupted writers")
    if report.recomputed:
        _say_recomputed(report)
    if report.damaged:
        n_units = len({damage.what for damage in report.damaged})
        are_damaged = f"{count_of(n_units, f'{report.unit} is', f'{report.unit}s are')} damaged"
        say(are_damaged if report.read_only else f"{are_damaged}, and pending again")
    elif report.is_sound:
        say("no damage")
    if report.read_only and not report.is_sound:
        only = f"the store can only be read here ({report.read_only})"
        say(
            f"nothing was made pending or repaired: {only}; verify a copy of it, which then says what to type"
        )
    elif report.read_only and report.n_pending:
        are_pending = count_of(report.n_pending, f"{report.unit} is", f"{report.unit}s are")
        only = f"the store can only be read here ({report.read_only})"
        say(f"{are_pending} pending; {only}: go on in a copy of it")
    elif report.n_pending:
        say(f"next, to compute {count_of(report.n_pending, f'pending {report.unit}')}, the same run again:")
        begun = ("run",) if report.unit == "block" else ("attribute", "--peaks", "X.narrowPeak")
        say(f"  {called_as_now(report.command) or pasteable(*begun, '--out', report.path) + ' ...'}")


def _say_all(found: "list[Damage]") -> None:
    for damage in found[:_MOST_SHOWN]:
        say(str(damage))
    if len(found) > _MOST_SHOWN:
        say(f"... and {len(found) - _MOST_SHOWN:,} more, see --json")


def _say_recomputed(report: "VerifyReport") -> None:
    rows = [
        [
            *(str(found.block), f"{found.n_values:,}", f"{found.n_unequal:,}", f"{found.largest:.1e}"),
            found.device or "not recorded",
        ]
        for found in report.recomputed
    ]
    headers = ["block", "scores", "not equal to the bit", "largest difference", "first computed on"]
    say_table("blocks computed again", headers, rows)
    if {found.device for found in report.recomputed} != {report.device}:
        say(f"they were computed on {report.device} now: kinds of device round differently")
    n_equal = sum(found.is_equal for found in report.recomputed)
    n_sound = sum(found.is_sound for found in report.recomputed)
    say(
        f"computed {count_of(len(rows), 'block')} again: {n_equal:,} equal to the bit, "
        f"{n_sound - n_equal:,} to rounding, {len(rows) - n_sound:,} wrong"
    )
