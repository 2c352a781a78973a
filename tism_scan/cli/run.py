"""``tism-scan run``: scan a genome into a store."""

import logging
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import base_count, count_of, duration, progress_bar, say, say_error
from tism_scan.cli.options.common import PATH, STORE
from tism_scan.cli.options.scan import ScanRequest, scan_options
from tism_scan.errors import InputError, StoreError
from tism_scan.storage.places import Place

if TYPE_CHECKING:
    from tism_scan.plan.scan_plan import ScanPlan
    from tism_scan.ray_scan.driver import Progress, RayOptions
    from tism_scan.store.score_store import ScoreStore

_MOST_FAILURES_SHOWN = 10

log = logging.getLogger(__name__)


@click.command(name="run")
@click.option(
    "--out",
    required=True,
    type=STORE,
    help="The store: a folder such as scores.zarr, or s3://bucket/prefix, gs://bucket/prefix.",
)
@scan_options
@click.option("--actors", type=click.IntRange(1), help="Ray actors. [default: as many as fit]")
@click.option("--max-actors", type=click.IntRange(1), help="Have a cluster that grows do so for as many.")
@click.option(
    "--gpus-per-actor",
    type=click.FloatRange(0, min_open=True),
    help="GPUs each, such as 0.5; waits for GPUs to come. [default: 1 where there are any, else CPU cores]",
)
@click.option(
    "--stage-genome",
    type=PATH,
    metavar="FOLDER",
    help="Copy the genome here, on each node's own disk.",
)
@click.option(
    "--address",
    default="local",
    show_default=True,
    help="local, auto (the cluster that runs here) or ray://...",
)
@click.option("--ship-package", is_flag=True, help="Bring this package to a cluster's nodes that lack it.")
@click.option("--retry-failed", is_flag=True, help="Try blocks again that were given up.")
@click.option("--break-lock", is_flag=True, help="Take the store from a run that is known to be dead.")
@click.option("--overwrite", is_flag=True, help="Delete the store first; asks.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(**options: Any) -> int:
    """Compute mean TISM of every base of a genome, on Ray.

    The same command again resumes: only blocks that are not finished are computed.
    """
    own = {name: options[name] for name in Request.__dataclass_fields__ if name in options}
    request = Request(scan=ScanRequest.take(options), **own)
    plan = request.plan()
    if request.overwrite:
        _delete(request)
    return scan_and_report(request.create_store(plan), request)


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; see the options' help."""

    scan: ScanRequest
    out: Place
    actors: int | None = None
    max_actors: int | None = None
    gpus_per_actor: float | None = None
    stage_genome: Path | None = None
    address: str = "local"
    ship_package: bool = False
    retry_failed: bool = False
    break_lock: bool = False
    overwrite: bool = False
    yes: bool = False

    def plan(self) -> "ScanPlan":
        """Return the plan; a store that exists goes on in its own precision, unless one is asked for.

        Else a scan that began on a GPU would not go on where the driver sees none.
        """
        from tism_scan.genome.fasta import Genome

        scan, recorded = self.scan, None if self.overwrite else self._recorded()
        if recorded is not None and scan.scoring.precision == "auto":
            scan = scan.in_precision(recorded.scoring.precision)
        with Genome(scan.genome) as genome:
            return scan.plan(genome)

    def _recorded(self) -> "ScanPlan | None":
        """Return the plan of the store, if there is one."""
        from tism_scan.store.score_store import ScoreStore

        try:
            return ScoreStore.open(self.out).plan
        except StoreError:
            return None

    def create_store(self, plan: "ScanPlan") -> "ScoreStore":
        """Return the store, new or resumed."""
        from tism_scan.store.score_store import ScoreStore

        store = ScoreStore.create(self.out, plan, provenance())
        _warn_of_other_versions(store)
        return store

    def ray_options(self) -> "RayOptions":
        """Return where to compute."""
        from tism_scan.ray_scan.driver import RayOptions

        return RayOptions(
            self.address,
            self.actors,
            self.max_actors,
            self.gpus_per_actor,
            ships_package=self.ship_package,
        )


def provenance() -> dict[str, str]:
    """Return the versions that a run was made with, and what was typed."""
    from importlib.metadata import version

    packages = ("tism-scan", "torch", "numpy", "zarr", "ray", "pyfaidx")
    versions = {"python": sys.version.split()[0], **{package: version(package) for package in packages}}
    once = ("--overwrite", "--yes", "--break-lock")
    typed = [_without_secret(word) for word in sys.argv[1:] if word not in once]
    return versions | {"command": shlex.join(["tism-scan", *typed]), "folder": str(Path.cwd())}


def _without_secret(word: str) -> str:
    """Return what was typed; of a URL, without a password and the query, which may be a signature."""
    scheme, is_url, rest = word.partition("://")
    if not is_url:
        return word
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _warn_of_other_versions(store: "ScoreStore") -> None:
    """Say which versions have changed since a store was begun, for they may round differently."""
    before, now = store.ledger.provenance(), provenance()
    changed = [
        f"{name} {before[name]}, now {now[name]}"
        for name in ("tism-scan", "torch")
        if before.get(name, now[name]) != now[name]
    ]
    if changed:
        log.warning(
            "this store was begun with %s; scores may differ in their last digits", "; ".join(changed)
        )


def scan_and_report(store: "ScoreStore", request: Request, *, is_last: bool = True) -> int:
    """Scan what is pending, say how it went and, after the last step, what to type; return the exit code."""
    from tism_scan.ray_scan.driver import scan_on_ray

    began = time.monotonic()
    n_done_before = len(store.done_blocks())
    with progress_bar("scan", 1.0) as update:

        def show(progress: "Progress") -> None:
            rate = progress.n_bp / (time.monotonic() - began)
            update(
                progress.n_bp / max(progress.n_bp_total, 1),
                f"{base_count(progress.n_bp)} of {base_count(progress.n_bp_total)}, {base_count(rate)}/s, "
                f"{count_of(progress.n_actors, 'actor')}, {len(progress.failed)} failed",
            )

        progress = scan_on_ray(
            store,
            request.scan.genome,
            request.scan.model.source(),
            options=request.ray_options(),
            batch_size=request.scan.model.batch_size,
            memory_gb=request.scan.memory_gb,
            stage_folder=request.stage_genome,
            retry_failed=request.retry_failed,
            break_lock=request.break_lock,
            on_progress=show,
        )
    seconds = time.monotonic() - began
    _say_what_was_done(store, progress, seconds, n_done_before)
    code = _say_what_is_missing(store, progress)
    if is_last and not code:
        beside = store.path.parent / "bigwig" if isinstance(store.path, Path) else "bigwig"
        say(f"next: tism-scan export {store.path} --out {beside}")
    return code


def _say_what_was_done(store: "ScoreStore", progress: "Progress", seconds: float, n_done_before: int) -> None:
    plan = store.plan
    if n_done_before:
        say(f"resumed: {count_of(n_done_before, 'block was', 'blocks were')} already done")
    say(
        f"scanned {count_of(progress.n_blocks, 'block')}, {progress.n_bp:,} bases, in {duration(seconds)} "
        f"({progress.n_bp / seconds:,.0f} bases/s): {progress.n_scored:,} bases got a score, "
        f"{progress.n_bp - progress.n_scored:,} did not (N, ambiguous, or not wanted)"
    )
    left_out = [chrom for chrom in plan.chroms if chrom not in plan.wanted]
    if left_out:
        shown = ", ".join(left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        say(f"skipped {count_of(len(left_out), 'chrom')} without a wanted base: {shown}")


def _say_what_is_missing(store: "ScoreStore", progress: "Progress") -> int:
    """Say what is missing and what to type for it, and return the exit code."""
    for interval, reason in list(progress.failed.items())[:_MOST_FAILURES_SHOWN]:
        say_error(f"{interval} was given up: {reason}")
    if len(progress.failed) > _MOST_FAILURES_SHOWN:
        say_error(f"and {len(progress.failed) - _MOST_FAILURES_SHOWN:,} more; see `tism-scan status`")
    if progress.was_stopped:
        left = progress.n_blocks_total - progress.n_blocks
        say(f"stopped with {count_of(left, 'block')} to go; the same command resumes")
        return 130
    failures = store.ledger.failures()
    if failures:
        are_missing = count_of(len(failures), "block is missing; try it", "blocks are missing; try them")
        say(f"{are_missing} again with the same command and --retry-failed")
        return 1
    return 0


def _delete(request: Request) -> None:
    """Delete a store, and nothing else, once the user agrees and nobody writes it."""
    from tism_scan.storage.folder import open_folder
    from tism_scan.store.lease import Lease
    from tism_scan.store.score_store import ScoreStore

    path = request.out
    if not open_folder(path).is_there():
        return
    store = ScoreStore.open(path)
    if not request.yes:
        if not sys.stdin.isatty():
            raise InputError(f"--overwrite would delete {path}; add --yes to agree, or choose another --out")
        n_done = len(store.done_blocks())
        click.confirm(f"Delete {path} with its {count_of(n_done, 'finished block')}?", abort=True)
    with Lease(store.folder).acquire(break_lock=request.break_lock):
        pass
    store.delete()
