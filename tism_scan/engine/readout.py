"""From a model's outputs to the tracks that are asked for."""

import operator
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tism_scan.errors import TrackError
from tism_scan.models.contract import Model
from tism_scan.models.outputs import flat_outputs
from tism_scan.plan.tracks import Track, TrackChoice, read_track_names, select_tracks
from tism_scan.storage.copies import local_copy
from tism_scan.storage.places import Url, file_place

Tracks = int | Track | Sequence[int | Track] | None


def chosen_tracks(
    model: Model,
    tracks: TrackChoice = None,
    groups: Sequence[str] = (),
    names: str | Path | Url | Sequence[str] | None = None,
) -> tuple[Track, ...]:
    """Return the tracks of a model that a user chooses.

    Parameters
    ----------
    model : Model
    tracks : str, int, or sequence of these, optional
        See `tism_scan.select_tracks`. The only output, if there is only one, and nothing is chosen.
    groups : sequence of str
        ``"NAME=SPEC"``: one more track each, the mean of these outputs.
    names : str, Path, Url or sequence of str, optional
        A file with the name of each output, or the names; the model's own by default.

    Raises
    ------
    TrackError
        If nothing is chosen, or a selection fits nothing.
    """
    if tracks is None and not groups:
        if model.n_outputs > 1:
            raise TrackError(
                f"no track was chosen of the model's {model.n_outputs:,} outputs; expected a selection such "
                "as 267, '*CTCF*' or 'all'; give --tracks, or --group NAME=SPEC"
            )
        tracks = 0
    if isinstance(names, str | Path | Url):
        names = read_track_names(local_copy(file_place(names)))
    return select_tracks(tracks, model.n_outputs, names or model.output_names, groups)


def track_outputs(model: nn.Module, X: Tensor, tracks: Tracks = None) -> Tensor:
    """Return the value of each track, (N, T), for inputs (N, 4, L) on the model's device.

    Raises
    ------
    TrackError
        If a track is no output of the model, or none is selected.
    """
    return values_of_tracks(model(X), tracks)


def values_of_tracks(heads: Tensor | Sequence[Tensor], tracks: Tracks = None) -> Tensor:
    """Return the value of each track, (N, T), in what a model returned.

    Raises
    ------
    TrackError
        If a track is no output of the model, or none is selected.
    """
    outputs = flat_outputs(heads)
    if tracks is None:
        return outputs
    columns = []
    for track in track_list(tracks):
        chosen, weights = _outputs_of_track(track, outputs.shape[1])
        columns.append((outputs[:, chosen] * outputs.new_tensor(weights)).sum(1))
    return torch.stack(columns, dim=1)


def track_list(tracks: int | Track | Sequence[int | Track]) -> list[int | Track]:
    """Return a selection as a list of indices and tracks.

    Raises
    ------
    TrackError
        If it is empty.
    """
    if not isinstance(tracks, Sequence | np.ndarray | Tensor):
        return [tracks]
    if len(tracks) == 0:
        raise TrackError("no track was selected; expected at least one output, or None for all")
    return list(tracks)


def _outputs_of_track(track: int | Track, n_outputs: int) -> tuple[list[int], list[float]]:
    """Return a track's outputs and weights, or raise TrackError."""
    if isinstance(track, Track):
        outputs, weights = list(track.outputs), list(track.weights)
    else:
        try:
            outputs, weights = [operator.index(track)], [1.0]
        except TypeError:
            raise TrackError(
                f"track {track!r} is neither an index nor a Track; expected an index in 0-{n_outputs - 1}, "
                "or a Track from tism_scan.select_tracks"
            ) from None
    wrong = [i for i in outputs if not 0 <= i < n_outputs]
    if wrong or isinstance(track, bool):
        raise TrackError(f"track {track!r} is no output of the model; expected an index in 0-{n_outputs - 1}")
    return outputs, weights


class TrackReader:
    """Reads tracks in a model's outputs; what it takes for that is on the device from the start.

    Parameters
    ----------
    tracks : sequence of Track
    device : torch.device
    """

    def __init__(self, tracks: Sequence[Track], device: torch.device) -> None:
        self._single = [_single_output(track) for track in tracks]
        self._outputs = [torch.tensor(track.outputs, device=device) for track in tracks]
        self._weights = [torch.tensor(track.weights, dtype=torch.float32, device=device) for track in tracks]

    def value(self, outputs: Tensor, i_track: int) -> Tensor:
        """Return a track's weighted sum of outputs, summed over windows: its gradient is each one's own."""
        single = self._single[i_track]
        if single is not None:
            return outputs[:, single].sum()
        chosen = outputs.index_select(1, self._outputs[i_track])
        return (chosen * self._weights[i_track].to(outputs.dtype)).sum()


def _single_output(track: Track) -> int | None:
    """Return the only output of a track that is one, or None."""
    return track.outputs[0] if len(track.outputs) == 1 and track.weights[0] == 1 else None
