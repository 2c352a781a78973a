import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tism_scan.errors import TrackError
from tism_scan.plan.tracks import (
    Track,
    choose_tracks,
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
        ("7", "'7' is out of range: the model has no output 7; expected an index in 0-6"),
        ("5-9", "'5-9' is out of range: the model has no output 7; expected an index in 0-6"),
        ("-1", "'-1' fits no track of the model.* or an index in 0-6"),
        ("4-2", "'4-2' ends before it starts"),
        ("HepG2_CTC_None", "fits no track of the model; expected a name such as 'HepG2_CTCF_None'"),
        (
            "zzzzzzzz",
            r"fits no track of the model; expected a name \(none is near\) or an index in 0-6",
        ),
        ("*POLR2A*", r"'\*POLR2A\*' fits no track of the model"),
        (" , ", "selects no track"),
        ("9,1,*q*,4-2", r"'9' is out of range.*'\*q\*' fits no.*'4-2' ends before"),
        ("1" * 5000, "fits no track of the model"),
    ],
)
def test_selection_at_fault_names_every_part_of_it(spec, message):
    with pytest.raises(TrackError, match=message):
        match_outputs(spec, N, NAMES)


def test_name_without_a_list_of_names_asks_for_one():
    with pytest.raises(TrackError, match=r"'CTCF' is no index.*0-6; give the names with --track-names"):
        match_outputs("CTCF", N)


@given(st.lists(st.integers(0, 29), min_size=1, unique=True), st.data())
def test_a_store_reads_a_selection_as_the_model_does(outputs, data):
    names = [f"of_{i % 7}" for i in range(30)]
    tracks = [Track(names[i], (i,), (1.0,)) for i in outputs]
    first, last = sorted(data.draw(st.sampled_from(outputs)) for _ in range(2))
    several = [f"{first}-{last}", f" {first} - {last},", "of_3", "OF_*", "all", f"0{first}"]
    spec = data.draw(st.sampled_from(several))
    meant = match_outputs(spec, 30, names)
    if "-" in spec and not set(meant) <= set(outputs):
        with pytest.raises(TrackError, match="out of range: the store has no output"):
            choose_tracks(tracks, spec)
    elif set(meant) & set(outputs):
        assert {outputs[i] for i in choose_tracks(tracks, spec)} == set(meant) & set(outputs)


@given(st.integers(0, 20), st.integers(0, 20))
def test_range_is_the_list_of_its_indices(first, n):
    listed = ",".join(map(str, range(first, first + n + 1)))
    assert match_outputs(f"{first}-{first + n}", 99) == match_outputs(listed, 99)


@pytest.mark.parametrize("spec", [3, np.int64(3), [3], np.array([3]), ("3",), "3", " 3 ,", range(3, 4)])
def test_one_index_may_be_given_as_any_kind_of_number_or_list(spec):
    assert match_outputs(spec, N, NAMES) == [3]
    assert choose_tracks([Track("x", (5,), (1.0,)), Track("y", (3,), (1.0,))], spec) == [1]


@pytest.mark.parametrize("spec", ["a,b (1)", ["a,b (1)", "a"]])
def test_name_with_a_comma_is_one_name(spec):
    assert match_outputs(spec, 3, ("a", "a,b (1)", "b"))[0] == 1


def test_group_of_a_store_has_precedence_over_what_its_name_looks_like():
    tracks = [Track("a", (3,), (1.0,)), Track("all", (3, 4), (0.5, 0.5)), Track("3-4", (3, 5), (0.5, 0.5))]
    assert [choose_tracks(tracks, spec) for spec in ("all", "3-4", "3", "*")] == [[1], [2], [0], [0, 1, 2]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("300-309", "'300-309' is out of range: the store has no output 306; expected an index in 7,300-305"),
        ("0-99999999999999", "the store has no output 0; expected an index in 7,300-305"),
        ("8", "'8' is out of range: the store has no output 8; expected an index in 7,300-305"),
        ("output_99", "expected a name such as 'output_7'.*; see `tism-scan status`"),
    ],
)
def test_outputs_that_a_store_lacks_are_told_from_those_it_has(spec, message):
    tracks = [Track(f"output_{i}", (i,), (1.0,)) for i in (7, *range(300, 306))]
    with pytest.raises(TrackError, match=message):
        choose_tracks(tracks, spec)


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
