"""``tism-scan bench``: how fast a model scores on a device."""

import json
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.console import base_count, say
from tism_scan.cli.options.model import memory_option, model_source, timed_model_options
from tism_scan.cli.options.scoring import scoring_options, scoring_settings
from tism_scan.cli.waiting import waiting
from tism_scan.errors import TrackError
from tism_scan.plan.scoring import path_text
from tism_scan.progress import count_of

if TYPE_CHECKING:
    from tism_scan.engine.bench import Bench
    from tism_scan.models.contract import Model
    from tism_scan.plan.tracks import Track


@click.command(name="bench")
@timed_model_options
@scoring_options
@memory_option
@click.option(
    "--tracks", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Number of tracks."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Score for at least this many seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(*, tracks: int, seconds: float, memory_gb: float | None, as_json: bool, **options: Any) -> int:
    """Measure how fast random sequence is scored: bases and FLOP per second, and memory.

    Without --weights, Beluga gets random weights, which do not change the speed.
    """
    with waiting("loading PyTorch and the model"):
        from tism_scan.engine.bench import bench
        from tism_scan.engine.devices import check_device
        from tism_scan.plan.scoring import Scoring

        check_device(options["device"])
        model = _model(options)
    scoring = Scoring(
        _first_tracks(tracks, model.n_outputs),
        model.input_bp,
        **scoring_settings(options, options["device"]),
    )
    with waiting("scoring random sequence"):
        result = bench(
            model,
            scoring,
            seconds=seconds,
            batch_size=options["batch_size"],
            device=options["device"],
            memory_gb=memory_gb,
        )
    if as_json:
        click.echo(json.dumps(result.to_json()))
    else:
        _report(result)
    return 0


def _model(options: dict[str, Any]) -> "Model":
    from tism_scan.models.beluga import random_beluga
    from tism_scan.models.source import BELUGA

    is_weightless = options["spec"] == BELUGA and not options["weights"]
    return random_beluga() if is_weightless else model_source(options).load()


def _first_tracks(n: int, n_outputs: int) -> tuple["Track", ...]:
    from tism_scan.plan.tracks import select_tracks

    if n > n_outputs:
        raise TrackError(f"{n:,} tracks were asked for; the model has {n_outputs:,} outputs; lower --tracks")
    return select_tracks(f"0-{n - 1}", n_outputs)


def _report(result: "Bench") -> None:
    threads = f", {result.n_threads} threads" if result.device == "cpu" else ""
    say(f"{result.engine} on {result.device}{threads}, {result.precision}")
    strands = ", both strands" if result.strands == "both" else ""
    path = f", path {path_text(result.path)}" if len(result.path) > 1 else ""
    say(
        f"{count_of(result.n_tracks, 'track')}, stride {result.stride}, {result.stitch}{strands}{path}: "
        f"{base_count(result.bases_per_s)}/s "
        f"({count_of(result.n_windows, 'window')} in {result.seconds:.2f} s, of which the host's own work "
        f"{1e3 * (result.seconds - result.device_seconds):.0f} ms)"
    )
    say(
        f"{result.flop_per_s / 1e12:.3g} TFLOP/s of the method's own arithmetic, "
        f"{100 * result.share:.0f} % of the device's {result.product_flop_per_s / 1e12:.3g} on large products"
    )
    say(f"peak memory {result.peak_bytes / 1e9:.2f} GB")
