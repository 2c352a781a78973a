"""``tism-scan run``: scan a genome into a store."""

import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import duration, log_aside, log_to_file, outlive_words, say, say_error
from tism_scan.cli.options.cluster import HEADINGS as CLUSTER_HEADINGS
from tism_scan.cli.options.cluster import cluster_options, log_option, ray_options
from tism_scan.cli.options.common import STORE
from tism_scan.cli.options.config import config_option, used_config
from tism_scan.cli.options.headed import Headed
from tism_scan.cli.options.scan import EXAMPLE, HEADINGS, execution, planned_scan, scan_options
from tism_scan.cli.typed import pasteable, typed_again, typed_command
from tism_scan.cli.waiting import progress_bar, waiting
from tism_scan.errors import InputError, StoreError
from tism_scan.progress import count_of
from tism_scan.storage.places import Place

if TYPE_CHECKING:
    from tism_scan.plan.scoring import Precision
    from tism_scan.ray_scan.cluster import RayOptions
    from tism_scan.scan.execution import Execution
    from tism_scan.scan.planning import PlannedScan
    from tism_scan.scan.result import ScanResult
    from tism_scan.scan.work import Work
    from tism_scan.store.score_store import ScoreStore

NOTHING_PENDING = "nothing is pending"
_MOST_FAILURES_SHOWN = 10


_HEADINGS = (
    HEADINGS
    | CLUSTER_HEADINGS
    | {"If there is a store already": ("retry_failed", "overwrite", "yes", "break_lock")}
)


@click.command(
    name="run",
    cls=Headed,
    headings=_HEADINGS,
    examples=[f"tism-scan run {EXAMPLE} --out scores.zarr", "tism-scan run --config run.toml --strands both"],
)
@config_option
@click.option(
    "--out",
    required=True,
    type=STORE,
    help="The store: a folder such as scores.zarr, or s3://bucket/prefix, gs://bucket/prefix.",
)
@scan_options
@cluster_options
@click.option("--overwrite", is_flag=True, help="Delete the existing store first; asks for confirmation.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@log_option
def command(*, out: Place, overwrite: bool, yes: bool, log_path: Path | None, **options: Any) -> int:
    """Compute mean TISM of every base of a genome, on Ray.

    Run the same command again to resume: only unfinished blocks are computed.
    """
    outlive_words()
    if log_path is not None:
        log_to_file(log_path)
        log_aside(f"cd {shlex.quote(str(Path.cwd()))} && {typed_again()}")
    with waiting("loading PyTorch and Ray"):
        from tism_scan.ray_scan.cluster import takes_gpus

        ray = ray_options(options)
        if options["precision"] == "auto":
            recorded = None if overwrite else _recorded_precision(out)
            options |= {"precision": recorded} if recorded else {"on_gpus": takes_gpus(ray)}
        planned, how = planned_scan(options), execution(options)
    overwrite = overwrite and has_to_go(out, is_agreed=yes)
    return scan_and_report(planned, out, how, ray, overwrite=overwrite)


def _recorded_precision(out: Place) -> "Precision | None":
    """Return the precision of the store, if there is one: it goes on in its own, unless one is asked for.

    Else a scan that began on a GPU would not go on where the driver sees none.
    """
    from tism_scan.store.score_store import ScoreStore

    try:
        return ScoreStore.open(out).plan.scoring.precision
    except StoreError:
        return None


def scan_and_report(
    planned: "PlannedScan",
    out: Place,
    how: "Execution",
    ray: "RayOptions",
    *,
    overwrite: bool = False,
    is_last: bool = True,
) -> int:
    """Scan what is pending, say how it went and, after the last step, what to type; return the exit code."""
    from tism_scan.ray_scan.driver import scan_on_ray

    with waiting("opening the store"):
        typed = typed_command() | used_config()
        store = planned.create_store(out, typed, overwrite=overwrite, break_lock=how.break_lock)
    began = time.monotonic()
    n_done_before = len(store.done_blocks())
    with progress_bar("scan") as show:
        result = scan_on_ray(
            store,
            planned.genome,
            planned.model,
            execution=replace(how, sharing=planned.sharing),
            options=ray,
            on_progress=show,
        )
    seconds = time.monotonic() - began
    _say_what_was_done(store, result, seconds, n_done_before)
    code = say_what_is_missing(store, result)
    if is_last and not code:
        say(f"next: {pasteable('export', store.path, '--out', _folder_for_bigwigs(store.path))}")
    return code


def _folder_for_bigwigs(store: Place) -> Path:
    """Return a folder for a store's bigWigs; another one for each store."""
    name = PurePosixPath(str(store)).stem
    return beside(store, "bigwig" if name == "scores" else f"{name}_bigwig")


def beside(store: Place, name: str) -> Path:
    """Return a folder beside a store, or here if it is in a bucket, or nothing can be written beside it."""
    if isinstance(store, Path) and os.access(store.parent, os.W_OK):
        return store.parent / name
    return Path(name)


def _say_what_was_done(store: "ScoreStore", result: "ScanResult", seconds: float, n_done_before: int) -> None:
    from tism_scan.scan.planning import precision_choice

    plan, choice = store.plan, precision_choice(store)
    if n_done_before:
        say(f"resumed: {count_of(n_done_before, 'block was', 'blocks were')} already done")
    if result.n_blocks_total:
        say(
            f"scanned {count_of(result.n_blocks, 'block')}, {result.n_bp:,} bases, in {duration(seconds)} "
            f"({result.n_bp / seconds:,.0f} bases/s): {result.n_scored:,} bases got a score, "
            f"{result.n_bp - result.n_scored:,} did not (not A, C, G or T, or not asked for)"
        )
    else:
        say(NOTHING_PENDING)
    if choice is not None:
        say(str(choice))
    left_out = [chrom for chrom in plan.chroms if chrom not in plan.wanted]
    if left_out:
        shown = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        say(f"skipped {count_of(len(left_out), 'chrom')} without a wanted base: {shown}")


def say_what_is_missing(store: "Work[Any]", result: "ScanResult", noun: str = "block") -> int:
    """Say which blocks, or units of another work, are missing and what to type; return the exit code."""
    for interval, reason in list(result.failed.items())[:_MOST_FAILURES_SHOWN]:
        say_error(f"{interval} failed: {reason}")
    if len(result.failed) > _MOST_FAILURES_SHOWN:
        say_error(f"and {len(result.failed) - _MOST_FAILURES_SHOWN:,} more; see `tism-scan status`")
    if result.was_stopped:
        left = result.n_blocks_total - result.n_blocks
        say(f"stopped with {count_of(left, noun)} to go; the same command resumes:")
        say(f"  {typed_again()}")
        return 130
    failures = store.ledger.failures()
    if failures:
        are_missing = count_of(len(failures), f"{noun} is missing; try it", f"{noun}s are missing; try them")
        say(f"{are_missing} again with the same command and --retry-failed:")
        say(f"  {typed_again()}{'' if '--retry-failed' in sys.argv else ' --retry-failed'}")
        return 1
    return 0


def has_to_go(out: Place, *, is_agreed: bool, contents: Callable[[Place], str] | None = None) -> bool:
    """Return whether there is a store to be deleted, and nothing else there, once the user agrees.

    Parameters
    ----------
    out : Path or Url
    is_agreed : bool
        Whether the user need not be asked.
    contents : callable, optional
        Opens the store that is expected there, by default that of a scan, and says what is finished in it.
    """
    from tism_scan.storage.folder import open_folder
    from tism_scan.store.ledger import ROOT, RUN_KEY

    folder = open_folder(out)
    if not folder.is_there() or (folder.get(RUN_KEY) is None and folder.stranger(own=ROOT) is None):
        return False  # a deletion that was cut short leaves the lease
    finished = (contents or _finished_blocks)(out)
    if not is_agreed:
        if not sys.stdin.isatty():
            raise InputError(f"--overwrite would delete {out}; add --yes to agree, or choose another --out")
        click.confirm(f"Delete {out} with its {finished}?", abort=True)
    return True


def _finished_blocks(out: Place) -> str:
    from tism_scan.store.score_store import ScoreStore

    return count_of(len(ScoreStore.open(out).done_blocks()), "finished block")
