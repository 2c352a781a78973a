"""Tracks in a model's outputs."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tism_scan.engine.readout import TrackReader, chosen_tracks, values_of_tracks
from tism_scan.errors import TrackError
from tism_scan.plan.tracks import Track

TRACKS = (Track("a", (2,), (1.0,)), Track("twice", (2,), (2.0,)), Track("mean", (0, 3), (0.25, 0.75)))


class Names(TorchDispatchMode):
    """Notes every operation."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_value_of_a_track_is_the_weighted_sum_of_its_outputs():
    outputs = torch.arange(8.0).view(2, 4)
    reader = TrackReader(TRACKS, torch.device("cpu"))
    assert [float(reader.value(outputs, i)) for i in range(3)] == [2 + 6, 4 + 12, 0.75 * 3 + 1 + 0.75 * 7]
    of_windows = values_of_tracks(outputs, TRACKS)
    assert of_windows.tolist() == [[2, 4, 0.75 * 3], [6, 12, 1 + 0.75 * 7]]


def test_reading_a_group_makes_no_tensor_from_numbers_which_a_gpu_would_wait_for():
    outputs, reader = torch.randn(5, 4), TrackReader(TRACKS, torch.device("cpu"))
    with Names() as seen:
        for i_track in range(3):
            reader.value(outputs, i_track)
    assert not {"aten::lift_fresh", "aten::_to_copy", "aten::index"} & set(seen.names)
    assert "aten::index_select" in seen.names


def test_a_group_may_be_the_only_track_and_the_only_output_needs_no_choice():
    several, one = (SimpleNamespace(n_outputs=n, output_names=None) for n in (2, 1))
    (group,) = chosen_tracks(several, groups=["both=0,1"])
    assert (group.name, group.outputs, group.weights) == ("both", (0, 1), (0.5, 0.5))
    with pytest.raises(TrackError, match="no track was chosen of the model's 2 outputs"):
        chosen_tracks(several)
    assert [track.outputs for track in chosen_tracks(one)] == [(0,)]
