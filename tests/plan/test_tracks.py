import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tism_scan.errors import TrackError
from tism_scan.plan.tracks import (
    Track,
    match_outputs,
    read_track_names,
    select_tracks,
    track_table,
)

NAMES = (
    "K562_CTCF_None",
    "HepG2_CTCF_None",
    "K562_CTCF_None",
    "A549_GR_DEX[100nM]",
    "k562_dnase",
    "ctcf",
    "CTCF",
)
N = len(NAMES)


@pytest.mark.parametrize(
    ("track", "key"),
    [
        (Track("CTCF", (5,), (1.0,)), "5"),
        (Track("CTCF", (5,), (0.5,)), "CTCF"),
        (Track("CTCF", (5, 6), (0.5, 0.5)), "CTCF"),
    ],
)
def test_key_is_the_index_of_a_single_output_else_the_name(track, key):
    assert track.key == key


def test_track_survives_json():
    track = Track("mean", (3, 1), (0.25, 0.75))
    assert Track.from_json(json.loads(json.dumps(track.to_json()))) == track


@pytest.mark.parametrize(("outputs", "weights"), [((), ()), ((1, 2), (1.0,))])
def test_track_needs_a_weight_for_each_output(outputs, weights):
    with pytest.raises(ValueError, match="expected one weight for each"):
        Track("x", outputs, weights)


@pytest.mark.parametrize(
    "raw", [b"a\nb\na", b"a\nb\na\n", b"a\r\nb\r\na\r\n\r\n\r\n", b"\xef\xbb\xbfa\nb\na\n \n"]
)
def test_track_names_are_read_one_a_line_with_repeats(tmp_path, raw):
    path = tmp_path / "names.txt"
    path.write_bytes(raw)
    assert read_track_names(path) == ("a", "b", "a")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "holds no name"),
        (b"\n\n", "holds no name"),
        (b"a\n\nb\n\nc\n", r"has a blank line, number 2 \(2 in all\)"),
        (b"\na\n", r"has a blank line, number 1 \(1 in all\)"),
        (b"\xff\xfea", "is not text"),
        (b"a\0b\n", "is not text"),
        (None, "No such file or directory; expected a text file"),
    ],
)
def test_track_names_that_cannot_be_used_say_why(tmp_path, raw, message):
    path = tmp_path / "names.txt"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(TrackError, match=f"names.txt'.*{message}"):
        read_track_names(path)


@pytest.mark.parametrize(
    ("spec", "outputs"),
    [
        ("3", [3]),
        ("2-4", [2, 3, 4]),
        ("4,1,2-4,,1", [4, 1, 2, 3]),
        ("all", list(range(N))),
        ("K562_CTCF_None", [0, 2]),
        ("*_CTCF_*", [0, 1, 2]),
        ("A549_GR_DEX[100nM]", [3]),
        ("CTCF", [6]),
        ("Ctcf", [5, 6]),
        ("k562*", [0, 2, 4]),
        ("HEPG2*", [1]),
        ("hepg2_ctcf_none, 0", [1, 0]),
    ],
)
def test_outputs_are_matched_in_the_order_of_the_selection(spec, outputs):
    assert match_outputs(spec, N, NAMES) == outputs


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("7", "'7' is out of range; expected an index in 0-6"),
        ("5-9", "'5-9' is out of range; expected an index in 0-6"),
        ("4-2", "'4-2' ends before it starts"),
        ("HepG2_CTC_None", r"is no track name; expected a name such as 'HepG2_CTCF_None'"),
        ("zzzzzzzz", "'zzzzzzzz' is no track name; no name is near"),
        ("*POLR2A*", r"'\*POLR2A\*' fits no track name"),
        (" , ", "selects no track"),
        ("9,1,*q*,4-2", r"'9' is out of range.*'\*q\*' fits no.*'4-2' ends before"),
        ("1" * 5000, "is no track name"),
    ],
)
def test_selection_at_fault_names_every_part_of_it(spec, message):
    with pytest.raises(TrackError, match=message):
        match_outputs(spec, N, NAMES)


def test_name_without_a_list_of_names_asks_for_one():
    with pytest.raises(TrackError, match=r"'CTCF' is no index.*0-6; give the names with --track-names"):
        match_outputs("CTCF", N)


@given(st.lists(st.integers(0, 2001), min_size=1))
def test_indices_come_back_once_in_order(outputs):
    assert match_outputs(",".join(map(str, outputs)), 2002) == list(dict.fromkeys(outputs))


def test_selected_outputs_become_tracks_named_by_the_list():
    assert select_tracks("1,4", N, NAMES) == (
        Track("HepG2_CTCF_None", (1,), (1.0,)),
        Track("k562_dnase", (4,), (1.0,)),
    )


def test_outputs_without_names_are_called_by_their_index():
    assert select_tracks("2", N) == (Track("output_2", (2,), (1.0,)),)


def test_group_is_the_mean_of_its_outputs():
    assert select_tracks(None, N, NAMES, groups=["CTCF mean = *_CTCF_*,3"]) == (
        Track("CTCF mean", (0, 1, 2, 3), (0.25,) * 4),
    )


def test_groups_follow_the_single_outputs():
    keys = [track.key for track in select_tracks("1", N, NAMES, groups=["g=2,3", "h=4-5"])]
    assert keys == ["1", "g", "h"]


@pytest.mark.parametrize(
    ("spec", "groups", "message"),
    [
        (None, [], "no track was selected"),
        ("9", ["g=8"], r"'9' is out of range.*group 'g': '8' is out of range"),
        (None, ["g"], "'g' is no group; expected NAME=SPEC"),
        (None, ["=1"], "'=1' is no group"),
        (None, ["g="], "'g=' is no group"),
        (None, ["g=1,2", "g=2,3"], "two groups are named 'g'"),
        (None, ["12=1,2"], "group '12' is named like an output's index"),
        ("1", ["g=1"], "output 1 is selected more than once"),
    ],
)
def test_tracks_that_cannot_be_selected_say_why(spec, groups, message):
    with pytest.raises(TrackError, match=message):
        select_tracks(spec, N, NAMES, groups)


def test_list_of_another_model_is_refused():
    with pytest.raises(TrackError, match="7 track names were given for a model with 2,002 outputs"):
        select_tracks("1", 2002, NAMES)


@pytest.mark.parametrize(
    ("pattern", "indices"),
    [
        (None, list(range(N))),
        ("", list(range(N))),
        ("ctcf", [5, 6]),
        ("_ctcf", [0, 1, 2]),
        ("k562*", [0, 2, 4]),
        ("CTCF", [5, 6]),
        ("DEX[100nM]", [3]),
        ("nothing", []),
    ],
)
def test_table_lists_what_fits_a_glob_or_holds_a_text(pattern, indices):
    assert track_table(pattern, NAMES) == [(i, NAMES[i]) for i in indices]
