import pytest
from hypothesis import given
from hypothesis import strategies as st

from tism_scan.errors import PlanError
from tism_scan.plan.tiling import Block, Lattice


@st.composite
def lattices(draw):
    stride = draw(st.integers(1, 60))
    return Lattice(stride + 2 * draw(st.integers(0, 60)), stride)


@given(lattices(), st.integers(1, 1000), st.integers(1, 5))
def test_blocks_hold_every_base_once(lattice, chrom_bp, cores_per_block):
    block_bp = lattice.block_bp(chrom_bp, cores_per_block * lattice.stride)
    blocks = list(lattice.blocks("chr1", chrom_bp, block_bp))
    covered = [base for block in blocks for base in range(block.start, block.end)]
    assert covered == list(range(chrom_bp))
    assert all(block.start % lattice.stride == 0 for block in blocks)


@given(lattices(), st.integers(1, 600), st.integers(1, 4), st.data())
def test_center_windows_are_those_whose_core_meets_the_block(lattice, chrom_bp, cores, data):
    block_bp = cores * lattice.stride
    block = lattice.block("c", chrom_bp, block_bp, data.draw(st.integers(0, (chrom_bp - 1) // block_bp)))
    stretch = lattice.stretch(block, chrom_bp, "center")
    holders = {base // lattice.stride for base in range(block.start, block.end)}
    assert set(range(stretch.first_window, stretch.end_window)) == holders


@given(lattices(), st.integers(1, 600), st.integers(1, 4), st.data())
def test_mean_windows_are_those_that_hold_a_base_of_the_block(lattice, chrom_bp, cores, data):
    block_bp = cores * lattice.stride
    block = lattice.block("c", chrom_bp, block_bp, data.draw(st.integers(0, (chrom_bp - 1) // block_bp)))
    stretch = lattice.stretch(block, chrom_bp, "mean")
    holders = [
        k
        for k in range(lattice.n_cores(chrom_bp))
        if lattice.window_start(k) < block.end and lattice.window_start(k) + lattice.input_bp > block.start
    ]
    assert list(range(stretch.first_window, stretch.end_window)) == holders
    assert stretch.start == lattice.window_start(holders[0])
    assert stretch.end == lattice.window_start(holders[-1]) + lattice.input_bp


def test_last_block_stops_at_the_chrom_end():
    assert list(Lattice(2000, 256).blocks("chr1", 1000, 512))[-1] == Block("chr1", 1, 512, 1000)


def test_core_stands_at_its_windows_centre():
    assert Lattice(2000, 256).window_start(0) == -872


@pytest.mark.parametrize("stride", [0, -2, 255, 2002])
def test_stride_that_does_not_fit_is_refused_with_the_strides_that_do(stride):
    with pytest.raises(PlanError, match=rf"stride {stride} .* expected an even number from 2 to 2,000"):
        Lattice(2000, stride)


def test_block_that_cuts_a_core_is_refused():
    with pytest.raises(ValueError, match="no multiple of the stride"):
        Lattice(2000, 256).block("chr1", 1000, 300, 0)


@pytest.mark.parametrize(
    ("input_bp", "stride", "expected"),
    [(2000, 255, "an even number from 2 to 2,000"), (201, 64, "an odd number from 1 to 201")],
)
def test_stride_whose_core_has_no_centre_is_refused_with_those_that_have_one(input_bp, stride, expected):
    with pytest.raises(PlanError, match=rf"^stride {stride} does not fit .*; expected {expected}$"):
        Lattice(input_bp, stride)


def test_block_is_shown_as_browsers_show_an_interval_and_has_the_size_of_what_is_computed():
    assert str(Block("chr1", 2, 1000, 2000)) == "chr1:1,001-2,000"
    assert [Block("c", 0, 0, 64, gap_bp=4, n_chosen=n).size for n in (None, 7, 0)] == [60, 7, 0]
