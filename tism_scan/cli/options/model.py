"""Options that say which model is used, of which tracks, and where; for every command that needs one."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.options.common import FILE, TRACK_GRAMMAR, Command, with_options
from tism_scan.cli.waiting import waiting
from tism_scan.errors import TrackError

if TYPE_CHECKING:
    from tism_scan.models.contract import Model
    from tism_scan.models.source import Source
    from tism_scan.plan.tracks import Track

_SOURCE_OPTIONS = (
    click.option(
        "--model",
        "spec",
        default="beluga",
        show_default=True,
        metavar="SPEC",
        help="beluga, chrombpnet, bpnet, or package.module:factory, a function that returns a torch module.",
    ),
    click.option(
        "--weights",
        multiple=True,
        type=FILE,
        help="Weights file or URL: Beluga's state dict, Keras's .h5, or what the factory is called with. "
        "Repeat it for the mean over several models, such as folds.",
    ),
    click.option(
        "--input-bp",
        type=click.IntRange(1),
        metavar="BP",
        help="Length of a window, if the model has no attribute input_bp.",
    ),
    click.option(
        "--alphabet",
        metavar="ACGT",
        help="Order of the input channels, if the model has no attribute alphabet.",
    ),
    click.option(
        "--layout",
        type=click.Choice(["NCL", "NLC"]),
        default="NCL",
        show_default=True,
        help="Axes of the model's input: NCL is (batch, 4, length), NLC is (batch, length, 4).",
    ),
    click.option(
        "--reduce",
        "reduction",
        metavar="HOW",
        help="Of a model with an output for each position, make one output of all positions of a channel: "
        "sum, mean, max, center:N or wlogit.",
    ),
)
_TRACK_OPTIONS = (
    click.option(
        "--tracks", metavar="SPEC", help=f"Tracks to score: {TRACK_GRAMMAR} Required without --group."
    ),
    click.option(
        "--track-names",
        type=FILE,
        help="File with one output name a line, output 0 first. [default: the model's own names]",
    ),
    click.option(
        "--group",
        "groups",
        multiple=True,
        metavar="NAME=SPEC",
        help="Add a track that is the mean of these outputs.",
    ),
)
_BATCH_SIZE = click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Windows computed together. [default: chosen by the device]",
)
_DEVICE = click.option(
    "--device", metavar="cpu|cuda", help="Where to compute. [default: a GPU if there is one]"
)
memory_option = click.option(
    "--memory-gb",
    type=click.FloatRange(0.1),
    metavar="GB",
    help="Memory budget of the device. [default: half of what is free]",
)


def model_source(options: Mapping[str, Any]) -> "Source":
    """Return where the model of a command's options comes from; several weights make an ensemble."""
    from tism_scan.models.source import ModelSource, model_source

    own = {name: options[name] for name in ("spec", "input_bp", "alphabet", "layout", "reduction")}
    return model_source([ModelSource(weights=each, **own) for each in options["weights"] or [None]])


def check_tracks_chosen(options: Mapping[str, Any]) -> None:
    """Raise TrackError, before a model is loaded, if a command's options choose no track."""
    if options["tracks"] is None and not options["groups"]:
        raise TrackError(
            "no track was chosen; expected a selection such as 267, '*CTCF*' or 'all'; give --tracks, or "
            "--group NAME=SPEC"
        )


def model_and_tracks(
    options: Mapping[str, Any], load: "Callable[[Source], Model] | None" = None
) -> tuple["Model", tuple["Track", ...]]:
    """Return the model of a command's options, and its chosen tracks.

    Parameters
    ----------
    options : mapping
    load : callable, optional
        What loads the model, by default as it is.

    Raises
    ------
    ModelError, WeightsError, TrackError, InputError
        If the model cannot be loaded, a selection fits nothing, or the device is not there.
    """
    check_tracks_chosen(options)
    with waiting("loading PyTorch and the model"):
        from tism_scan.engine.devices import check_device
        from tism_scan.engine.readout import chosen_tracks

        check_device(options["device"])
        source = model_source(options)
        model = source.load() if load is None else load(source)
        return model, chosen_tracks(model, options["tracks"], options["groups"], options["track_names"])


def named_model_options(command: Command) -> Command:
    """Return a command with the options that say which model it is, for one that computes nothing."""
    return with_options(command, *_SOURCE_OPTIONS)


def source_options(command: Command) -> Command:
    """Return a command with the options that say which model it is, but not of which tracks."""
    return with_options(command, *_SOURCE_OPTIONS, _BATCH_SIZE)


def timed_model_options(command: Command) -> Command:
    """Return a command with the options of a model and its device, but not of its tracks, for `bench`."""
    return source_options(_DEVICE(command))


def model_options_without_device(command: Command) -> Command:
    """Return a command with the options of a model and its tracks; actors choose their own device."""
    return with_options(command, *_SOURCE_OPTIONS, *_TRACK_OPTIONS, _BATCH_SIZE)


def model_options(command: Command) -> Command:
    """Return a command with all of these options, in the order of the help."""
    return model_options_without_device(_DEVICE(command))
