import pytest

from tism_scan.errors import TrackError
from tism_scan.export import choose_tracks
from tism_scan.tracks import Track

TRACKS = (
    Track("K562_CTCF_None", (149,), (1.0,)),
    Track("K562_CTCF_None", (338,), (1.0,)),
    Track("ctcf_mean", (149, 338), (0.5, 0.5)),
)


@pytest.mark.parametrize(
    ("spec", "chosen"),
    [
        (None, [0, 1, 2]),
        ("338", [1]),
        ("K562_CTCF_None", [0, 1]),
        ("*CTCF*", [0, 1]),
        ("ctcf_mean, 149", [0, 2]),
    ],
)
def test_tracks_are_chosen_by_output_name_or_glob(spec, chosen):
    assert choose_tracks(TRACKS, spec) == chosen


def test_every_part_that_fits_nothing_is_named_with_its_neighbours():
    with pytest.raises(
        TrackError, match=r"'K562_CTCF' fits no track.*nearest: K562_CTCF_None.* \| '7' fits no"
    ):
        choose_tracks(TRACKS, "K562_CTCF,7,149")


def test_empty_selection_is_refused():
    with pytest.raises(TrackError, match="chooses no track"):
        choose_tracks(TRACKS, " , ")
