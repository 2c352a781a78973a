import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tism_scan.plan.labels import file_stems, names_apart, one_line
from tism_scan.plan.tracks import Track


def test_file_stems_hold_index_and_name():
    tracks = [Track("K562_CTCF_None", (i,), (1.0,)) for i in (0, 2)]
    tracks.append(Track("open chromatin", (3, 4), (0.5, 0.5)))
    assert file_stems(tracks) == ("0000_K562_CTCF_None", "0002_K562_CTCF_None", "open_chromatin")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../etc/passwd", "_._.._etc_passwd"),
        (".hidden", "_hidden"),
        ("///", "track"),
        ("FANTOM_CAGE+", "FANTOM_CAGE+"),
        ("FANTOM_CAGE-", "FANTOM_CAGE-"),
    ],
)
def test_file_stem_is_safe_whatever_the_name(name, stem):
    assert file_stems([Track(name, (0, 1), (0.5, 0.5))]) == (stem,)


@given(
    st.lists(
        st.one_of(st.text(min_size=1), st.sampled_from(["a", "A", "a_2", "A_2", "x" * 200])), max_size=20
    )
)
def test_file_stems_are_safe_and_differ_even_without_case(names):
    stems = file_stems([Track(name, (0, 1), (0.5, 0.5)) for name in names])
    assert len({stem.lower() for stem in stems}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,149}", stem) for stem in stems)


@given(st.text() | st.sampled_from(["a\tb\nc", "\u2028 x", "\x1b[31m"]), st.integers(4, 60))
def test_label_is_one_printable_line_of_the_length_asked_for(line, longest):
    label = one_line(line, longest)
    assert len(label) <= longest
    assert label.isprintable()
    assert label == label.strip()


def test_equal_names_are_told_apart_by_the_outputs_index():
    tracks = [Track("CTCF", (5,), (1.0,)), Track("DNase", (6,), (1.0,)), Track("CTCF", (70,), (1.0,))]
    assert names_apart(tracks) == ["CTCF (5)", "DNase", "CTCF (70)"]
