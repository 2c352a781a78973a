"""``tism-scan plan``: what a scan will take, before it is begun."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import base_count, byte_count, duration, say
from tism_scan.cli.options.config import config_option
from tism_scan.cli.options.headed import Headed
from tism_scan.cli.options.scan import EXAMPLE, HEADINGS, execution, planned_scan, scan_options
from tism_scan.cli.run import command as run
from tism_scan.cli.waiting import progress_bar, waiting
from tism_scan.progress import count_of

if TYPE_CHECKING:
    from tism_scan.engine.block_engine import Engine
    from tism_scan.genome.fasta import Genome
    from tism_scan.plan.scan_plan import ScanPlan
    from tism_scan.scan.estimate import Estimate, Workload


@click.command(
    name="plan",
    cls=Headed,
    headings=HEADINGS
    | {"What is measured": ("gpus", "bases_per_s", "device", "seconds", "memory_gb", "batch_size")},
    examples=[f"tism-scan plan {EXAMPLE} --gpus 8"],
)
@config_option
@scan_options
@click.option(
    "--gpus",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    show_default=True,
    help="Number of devices that share the work.",
)
@click.option(
    "--bases-per-s",
    type=click.FloatRange(0, min_open=True),
    metavar="BASES",
    help="Speed of one device, from `bench` on that device. [default: measured here]",
)
@click.option("--device", metavar="cpu|cuda", help="Device to measure here. [default: a GPU if there is one]")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Measure for at least this many seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(*, gpus: int, bases_per_s: float | None, seconds: float, as_json: bool, **options: Any) -> int:
    """Estimate what `run` with the same options takes: windows, arithmetic, hours, and bytes on disk.

    Counts the windows in the genome, and scores a sample of it. Accepts every option of `run`, so
    its command line can be pasted; options that do not affect the estimate are ignored.
    """
    with waiting("loading PyTorch"):
        from tism_scan.engine.devices import check_device
        from tism_scan.genome.fasta import Genome
        from tism_scan.scan.estimate import estimate_scan
        from tism_scan.scan.planning import PRECISION_CHOICE

        check_device(options["device"])
        if options["gpus_per_actor"]:
            options["on_gpus"] = True
        planned = planned_scan(options)
    plan, measured = planned.plan, planned.measured
    with Genome(planned.genome) as genome:
        work = _count(genome, plan)
        with waiting("scoring a sample of the genome"):
            how = replace(execution(options), sharing=planned.sharing)
            engine = how.engine(planned.loaded, plan.scoring)
            result = estimate_scan(genome, plan, work, engine, seconds=seconds, bases_per_s=bases_per_s)
    if as_json:
        chosen = {"precision": plan.scoring.precision, PRECISION_CHOICE: measured and measured.to_json()}
        on_all = {"gpus": gpus, "seconds_on_all": result.seconds / gpus}
        click.echo(json.dumps(result.to_json() | on_all | chosen))
    else:
        if measured is not None:
            say(str(measured))
        _report(result, plan, engine, gpus, is_measured=bases_per_s is None)
    return 0


def _idle_options() -> Iterator[click.Parameter]:
    """Yield the other options of `run`, which are taken, not shown, and not used but for the GPUs."""
    own = {parameter.name for parameter in command.params}
    for parameter in run.params:
        if isinstance(parameter, click.Option) and parameter.name not in own:
            idle = copy.copy(parameter)
            idle.hidden, idle.required, idle.expose_value = True, False, parameter.name == "gpus_per_actor"
            yield idle


command.params += list(_idle_options())


def _count(genome: "Genome", plan: "ScanPlan") -> "Workload":
    from tism_scan.scan.estimate import count_work

    with progress_bar("count") as show:
        return count_work(genome, plan, on_progress=show)


def _report(result: "Estimate", plan: "ScanPlan", engine: "Engine", gpus: int, *, is_measured: bool) -> None:
    from tism_scan.engine.devices import device_name

    scoring = plan.scoring
    say(
        f"{result.n_bases:,} of {plan.n_wanted:,} wanted bases get a score in "
        f"{count_of(result.n_tracks, 'track')}; the others are not A, C, G or T"
    )
    say(
        f"{count_of(result.n_windows, 'window')} at stride {scoring.stride} in "
        f"{count_of(result.n_blocks, 'block')} of up to "
        f"{plan.block_bp:,} bp, {scoring.stitch}, {scoring.strands}, {scoring.precision}{scoring.path_note}"
    )
    where = f"measured on {device_name(str(engine.device))}" if is_measured else "given"
    say(
        f"{result.flop / 1e15:.3g} PFLOP; one device does "
        f"{base_count(result.windows_per_s * scoring.stride)}/s ({where})"
    )
    say(f"{duration(result.seconds / gpus)} of computing on {count_of(gpus, 'device')} like it")
    n_bigwigs = result.n_tracks * (2 if scoring.values == "mean+sd" else 1)
    say(
        f"store {byte_count(result.zarr_bytes)} in {count_of(result.zarr_objects, 'file')} and as many "
        f"markers; {count_of(n_bigwigs, 'bigWig')} {byte_count(result.bigwig_bytes)}"
    )
