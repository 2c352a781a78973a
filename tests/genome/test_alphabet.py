import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tism_scan.genome.alphabet import (
    channel_of_base,
    complement_channels,
    decode,
    encode,
    is_acgt,
    one_hot,
    one_hot_table,
    reverse_complement,
)

ORDERS = ["".join(order) for order in itertools.permutations("ACGT")]


@pytest.mark.parametrize(
    ("sequence", "codes"),
    [
        ("ACGT", [0, 1, 2, 3]),
        ("acgt", [0, 1, 2, 3]),
        (b"AcGt", [0, 1, 2, 3]),
        ("NnRYKMSWBDHV.-*U ", [4] * 17),
        ("A\u00e9\u0410T\U0001f9ecG", [0, 4, 4, 3, 4, 2]),
        ("", []),
    ],
)
def test_bases_become_codes_in_either_case_and_all_else_is_4(sequence, codes):
    encoded = encode(sequence)
    assert encoded.dtype == np.uint8
    assert encoded.tolist() == codes


@given(st.text())
def test_codes_decode_to_the_upper_case_sequence_with_n_for_all_else(sequence):
    expected = "".join(letter.upper() if letter in "ACGTacgt" else "N" for letter in sequence)
    assert decode(encode(sequence)) == expected


def test_only_n_is_not_acgt():
    assert is_acgt(encode("ACGTNr")).tolist() == [True] * 4 + [False] * 2


def test_reverse_complement_is_the_other_strand_read_in_its_own_direction():
    assert decode(reverse_complement(encode("AACGTNg"))) == "CNACGTT"


@given(st.text("ACGTN"))
def test_reverse_complement_twice_is_the_sequence(sequence):
    assert decode(reverse_complement(reverse_complement(encode(sequence)))) == sequence


def test_reverse_complement_works_along_the_last_axis():
    rows = np.stack([encode("AAC"), encode("GNT")])
    assert [decode(row) for row in reverse_complement(rows)] == ["GTT", "ANC"]


@pytest.mark.parametrize("alphabet", ORDERS)
def test_one_hot_sets_the_channel_of_the_base_in_the_models_order(alphabet):
    X = one_hot(encode("ACGTN"), alphabet)
    assert X.shape == (4, 5)
    assert X.dtype == np.float32
    for position, base in enumerate("ACGT"):
        assert [alphabet[i] for i in np.flatnonzero(X[:, position])] == [base]
    assert not X[:, 4].any()


def test_belugas_order_has_g_second_and_c_third():
    assert one_hot(encode("GC"), "AGCT").tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("alphabet", ORDERS)
def test_channels_are_put_in_acgt_order(alphabet):
    codes = encode("GATTACANC")
    np.testing.assert_array_equal(one_hot(codes, alphabet)[channel_of_base(alphabet)], one_hot(codes))


@pytest.mark.parametrize("alphabet", ORDERS)
def test_channels_are_swapped_for_those_of_the_other_strand(alphabet):
    codes = encode("GATTACANC")
    other = one_hot(codes, alphabet)[complement_channels(alphabet), ::-1]
    np.testing.assert_array_equal(other, one_hot(reverse_complement(codes), alphabet))


def test_one_hot_keeps_the_leading_axes():
    codes = np.stack([encode("ACG"), encode("TTN")])
    X = one_hot(codes, "AGCT")
    assert X.shape == (2, 4, 3)
    np.testing.assert_array_equal(X[1], one_hot(codes[1], "AGCT"))


@pytest.mark.parametrize("alphabet", ["ACG", "ACGTN", "acgt", "AACG", ""])
def test_order_that_is_no_permutation_is_refused(alphabet):
    with pytest.raises(ValueError, match="a channel order is a permutation of ACGT"):
        one_hot_table(alphabet)
