"""``tism-scan attribute --peaks``: the scores around each peak of a file, into a store, on Ray."""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import byte_count, duration, log_aside, log_to_file, outlive_words, say
from tism_scan.cli.options.cluster import ray_options
from tism_scan.cli.options.common import taken
from tism_scan.cli.options.model import check_tracks_chosen, model_source
from tism_scan.cli.options.scan import execution
from tism_scan.cli.run import NOTHING_PENDING, beside, has_to_go, say_what_is_missing
from tism_scan.cli.typed import pasteable, typed_again, typed_command
from tism_scan.cli.waiting import progress_bar, waiting
from tism_scan.plan.methods import ONE_VALUE_METHODS
from tism_scan.progress import count_of
from tism_scan.storage.places import Place, store_place

if TYPE_CHECKING:
    from tism_scan.peaks import PlannedPeaks
    from tism_scan.ray_scan import RayOptions
    from tism_scan.scan.execution import Execution
    from tism_scan.store.peak_store import PeakStore


def attribute_peaks(options: dict[str, Any], background: tuple[float, float, float, float]) -> int:
    """Attribute what is pending of a set of peaks, say how it went, and return the exit code."""
    outlive_words()
    if options["log_path"] is not None:
        log_to_file(options["log_path"])
        log_aside(f"cd {shlex.quote(str(Path.cwd()))} && {typed_again()}")
    _check(options)
    with waiting("loading PyTorch and Ray"):
        from tism_scan.peaks import plan_peaks

        how, ray = execution(options), ray_options(options)
    with waiting("loading the model"):
        planned = plan_peaks(
            options["genome"],
            model_source(options),
            options["peaks"],
            method=options["methods"][0] if options["methods"] else "tism",
            background=background,
            **taken(options, "tracks", "groups", "track_names", "width", "strands", "output_space", "path"),
            **taken(options, "seed", "chrom_alias"),
        )
    out = store_place(options["out"])
    overwrite = options["overwrite"] and has_to_go(out, is_agreed=options["yes"], contents=_finished_peaks)
    with waiting("opening the store"):
        store = planned.create_store(out, typed_command(), overwrite=overwrite, break_lock=how.break_lock)
    return _attribute(planned, store, how, ray)


def _check(options: dict[str, Any]) -> None:
    """Raise for what can be known before the model is loaded."""
    if options["genome"] is None:
        raise click.UsageError(f"the peaks {str(options['peaks'])!r} have no genome; add --genome")
    if options["out"] is None:
        raise click.UsageError("--peaks needs --out, the store of the scores, such as peaks.zarr")
    if len(set(options["methods"])) > 1:
        raise click.UsageError(
            f"--peaks takes one method, but {len(options['methods'])} were given; run again for each, with "
            "another --out"
        )
    check_tracks_chosen(options)


def _finished_peaks(out: Place) -> str:
    from tism_scan.store.peak_store import PeakStore

    store = PeakStore.open(out)
    n_pending = sum(part.size for part in store.pending(retry_failed=True))
    return count_of(store.plan.n_items - n_pending, "finished peak")


def _attribute(planned: "PlannedPeaks", store: "PeakStore", how: "Execution", ray: "RayOptions") -> int:
    from tism_scan.peaks import attribute_pending

    n_pending = sum(part.size for part in store.pending(retry_failed=how.retry_failed))
    if n_pending < planned.plan.n_items:
        n_before = planned.plan.n_items - n_pending
        say(f"resumed: {n_before:,} of {planned.plan.n_items:,} peaks were already done, or given up")
    if n_pending:
        _say_cost(planned, n_pending, how, ray)
    began = time.monotonic()
    with progress_bar("attribute") as show:
        result = attribute_pending(planned, store, ray=ray, execution=how, on_progress=show)
    seconds = time.monotonic() - began
    if n_pending:
        say(
            f"attributed {count_of(result.n_bp, 'peak')} in {duration(seconds)} "
            f"({result.n_bp / seconds:.3g} peaks/s): {count_of(result.n_scored, 'base')} got a score"
        )
    else:
        say(NOTHING_PENDING)
    code = say_what_is_missing(store, result, "part")
    if not code and planned.settings.method.method not in ONE_VALUE_METHODS:
        out = beside(store.path, "modisco")
        say(f"next: {pasteable('export', store.path, '--format', 'modisco', '--out', out)}")
    return code


def _say_cost(planned: "PlannedPeaks", n_pending: int, how: "Execution", ray: "RayOptions") -> None:
    """Say what there is to do, and how long a device like the one here takes, if actors have such."""
    from tism_scan.engine.devices import default_device
    from tism_scan.peaks.estimate import estimate_peaks
    from tism_scan.ray_scan.cluster import takes_gpus

    plan, settings = planned.plan, planned.settings
    each = settings.passes_per_peak
    say(
        f"{count_of(n_pending, 'peak')} in parts of up to {plan.items_per_part:,}: {settings.method.method} "
        f"of {count_of(len(settings.method.tracks), 'track')}, {settings.width:,} bp in the middle of "
        f"windows of {settings.input_bp:,} bp"
    )
    say(
        f"{count_of(each, 'pass', 'passes')} through the model for each peak, {each * n_pending:,} in all; "
        f"the store takes up to {byte_count(settings.bytes_per_peak * plan.n_items)}"
    )
    if ("cuda" if takes_gpus(ray) else "cpu") != default_device():
        say("how long it takes is not known here: this machine has no device like those that will compute")
        return
    with waiting("attributing some of the peaks"):
        found = estimate_peaks(planned, how)
    if found is not None:
        say(
            f"one device does {found.peaks_per_s:.3g} peaks/s (measured on {found.device}): "
            f"{duration(n_pending / found.peaks_per_s)} of computing on one device like it"
        )
