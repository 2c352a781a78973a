"""Options that say which model is used, of which tracks, and where; for every command that needs one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from tism_scan.cli.options.common import FILE, Command, with_options
from tism_scan.errors import TrackError
from tism_scan.storage.places import Place

if TYPE_CHECKING:
    from torch import nn

    from tism_scan.models.source import ModelSource
    from tism_scan.plan.tracks import Track

_SOURCE_OPTIONS = (
    click.option(
        "--model",
        "spec",
        default="beluga",
        show_default=True,
        metavar="SPEC",
        help="beluga, or package.module:factory, a function that returns a torch module.",
    ),
    click.option(
        "--weights", type=FILE, help="Beluga's state dict, a file or URL; a factory is called with its path."
    ),
    click.option(
        "--input-bp", type=click.IntRange(1), help="Length of a window, if the model does not say it."
    ),
    click.option(
        "--alphabet", metavar="ACGT", help="Order of the input channels, if the model does not say it."
    ),
)
_TRACK_OPTIONS = (
    click.option(
        "--tracks", metavar="SPEC", help="Indices, ranges, names and globs: 267,300-309,'*CTCF*'; or 'all'."
    ),
    click.option(
        "--track-names", type=FILE, help="Names of the outputs, one a line. [default: the model's own]"
    ),
    click.option(
        "--group", multiple=True, metavar="NAME=SPEC", help="Add a track: the mean of these outputs."
    ),
)
_BATCH_SIZE = click.option(
    "--batch-size", type=click.IntRange(1), help="Windows computed together. [default: auto]"
)
_DEVICE = click.option(
    "--device", metavar="cpu|cuda", help="Where to compute. [default: a GPU if there is one]"
)
memory_option = click.option(
    "--memory-gb",
    type=click.FloatRange(0, min_open=True),
    help="Memory, in GiB, for what is computed at once. [default: a share of the device's]",
)


@dataclass(frozen=True)
class ModelRequest:
    """What was asked for with these options; see their help."""

    spec: str
    weights: Place | None
    input_bp: int | None
    alphabet: str | None
    tracks: str | None = None
    track_names: Place | None = None
    group: tuple[str, ...] = ()
    batch_size: int | None = None
    device: str | None = None

    @classmethod
    def take(cls, options: Mapping[str, Any]) -> "ModelRequest":
        """Return the request among a command's options."""
        return cls(**{name: options[name] for name in cls.__dataclass_fields__ if name in options})

    def source(self) -> "ModelSource":
        """Return where the model comes from."""
        from tism_scan.models.source import ModelSource

        return ModelSource(self.spec, self.weights, self.input_bp, self.alphabet)

    def load(self) -> tuple["nn.Module", tuple["Track", ...]]:
        """Return the model and its chosen tracks.

        Raises
        ------
        ModelError, WeightsError, TrackError, InputError
            If the model cannot be loaded, a selection fits nothing, or the device is not there.
        """
        from tism_scan.engine.devices import check_device
        from tism_scan.plan.tracks import read_track_names, select_tracks
        from tism_scan.storage.copies import local_copy

        if self.tracks is None and not self.group:
            raise TrackError(
                "no track was chosen; give --tracks (such as 267, or 'all') or --group NAME=SPEC"
            )
        check_device(self.device)
        model = self.source().load()
        names = getattr(model, "output_names", None)
        if self.track_names:
            names = read_track_names(local_copy(self.track_names))
        n_outputs = int(model.n_outputs)  # type: ignore[arg-type]
        return model, select_tracks(self.tracks, n_outputs, names, self.group)


def source_options(command: Command) -> Command:
    """Return a command with the options that say which model it is, but not of which tracks."""
    return with_options(command, *_SOURCE_OPTIONS, _BATCH_SIZE)


def timed_model_options(command: Command) -> Command:
    """Return a command with the options of a model that is merely timed, whichever its tracks."""
    return source_options(_DEVICE(command))


def model_options_without_device(command: Command) -> Command:
    """Return a command with the options of a model and its tracks; actors choose their own device."""
    return with_options(command, *_SOURCE_OPTIONS, *_TRACK_OPTIONS, _BATCH_SIZE)


def model_options(command: Command) -> Command:
    """Return a command with all of these options, in the order of the help."""
    return model_options_without_device(_DEVICE(command))
