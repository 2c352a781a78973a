import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plans import small_plan

from tism_scan.plan.packing import PACK, Pack, gap_bp, short_chroms
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tiling import Lattice

LATTICES = st.builds(
    lambda stride, flank: Lattice(stride + 2 * flank, stride), st.integers(1, 40), st.integers(0, 90)
)
CHROMS = st.lists(st.integers(1, 300), min_size=1, max_size=12).map(
    lambda lengths: {f"c{i}": length for i, length in enumerate(lengths)}
)
MANY = {f"c{i}": 30 + i for i in range(120)}  # the last is 149 bp long


def packed_plan(chroms, **settings):
    return small_plan(chroms=chroms, block_bp=2048, **settings)


@given(CHROMS, LATTICES, st.data())
def test_every_base_stands_once_in_the_pack(chroms, lattice, data):
    pack = Pack.of(chroms, lattice)
    cuts = data.draw(st.lists(st.integers(-500, len(pack) + 500), max_size=6))
    edges = sorted({-500, *cuts, len(pack) + 500})
    found = {chrom: [] for chrom in chroms}
    for start, end in pairwise(edges):
        at_least = start
        for part in pack.parts(start, end):
            assert at_least <= part.at
            at_least = part.at + part.end - part.start
            assert part.at - part.start == pack.start_of[part.chrom]
            found[part.chrom] += range(part.start, part.end)
        assert at_least <= end
    assert found == {chrom: list(range(length)) for chrom, length in chroms.items()}
    *_, last = pack.parts(0, len(pack) + 500)
    assert last.at + last.end - last.start == len(pack)  # it ends with a base


@given(CHROMS, LATTICES)
def test_no_window_sees_two_chroms_and_each_has_those_of_its_own_lattice(chroms, lattice):
    pack = Pack.of(chroms, lattice)
    (block,) = lattice.blocks(PACK, len(pack), -(-len(pack) // lattice.stride) * lattice.stride)
    stretch = lattice.stretch(block, len(pack), "mean")
    found = set()
    for i_window in stretch.first_window + np.flatnonzero(pack.has_window(stretch)):
        start = lattice.window_start(int(i_window))
        (part,) = pack.parts(start, start + lattice.input_bp)
        found.add((part.chrom, start - pack.start_of[part.chrom]))
    assert found == {
        (chrom, lattice.window_start(i))
        for chrom, length in chroms.items()
        for i in range(lattice.n_cores(length))
    }


def test_many_short_chroms_share_an_array_and_few_do_not():
    many = packed_plan(MANY | {"long": 1000})
    assert many.is_packed
    assert list(many.arrays) == ["long", PACK]
    few = packed_plan(dict(list(MANY.items())[:100]) | {"long": 1000})
    assert not few.is_packed
    assert PACK not in few.arrays
    assert PACK not in packed_plan(MANY, wanted={"c1": ((0, 9),)}).arrays


def test_chrom_of_more_than_a_quarter_of_a_block_has_an_array_of_its_own():
    short = {name: length for name, length in MANY.items() if length <= 140}
    assert short_chroms(MANY, Lattice(64, 32), 4 * 140) == short


def test_pack_of_windows_that_reach_far_would_be_mostly_gaps():
    lattice = Lattice(200, 64)
    assert gap_bp(lattice) == 128
    assert not short_chroms(MANY, lattice, 16 * 128 - 64)
    assert short_chroms(MANY, lattice, 16 * 128)


def test_blocks_of_a_packed_plan_hold_every_wanted_base_once():
    wanted = {chrom: ((0, length),) for chrom, length in MANY.items()} | {"c7": ((3, 5), (9, 20))}
    plan = packed_plan(MANY, wanted=wanted)
    seen = {chrom: [] for chrom in MANY}
    for block in plan.all_blocks():
        assert plan.block(block.chrom, block.i_block) == block
        assert set(plan.chroms_of(block)) <= set(MANY)
        for part in plan.parts(block.chrom, block.start, block.end):
            seen[part.chrom] += range(part.start, part.end)
    assert seen == {chrom: list(range(length)) for chrom, length in MANY.items()}
    shift = dict(zip(plan.pack.chroms, plan.pack.starts.tolist(), strict=True))
    assert (shift["c7"] + 3, shift["c7"] + 5) in plan.spans(PACK)
    assert sum(end - start for start, end in plan.spans(PACK)) == plan.n_wanted


def test_label_of_a_block_names_its_first_and_last_chrom():
    first = next(packed_plan(MANY).blocks(PACK))
    assert str(first).startswith("11 short chroms from c0 to c10")


@pytest.mark.parametrize("chroms", [MANY, {"chr1": 1000}])
def test_packed_and_other_plans_survive_json(chroms):
    plan = packed_plan(chroms)
    of_earlier_release = replace(plan, codec="zstd").to_json()
    assert of_earlier_release["format"] == (4 if plan.is_packed else 3)
    described = json.loads(json.dumps(plan.to_json()))
    again = ScanPlan.from_json(described)
    assert again == plan
    assert again.digest() == plan.digest()
    assert again.arrays == plan.arrays


def test_layout_is_part_of_the_plan():
    packed = packed_plan(MANY)
    apart = replace(packed, is_packed=False)
    assert list(apart.arrays) == list(MANY)
    assert apart.digest() != packed.digest()
    assert ScanPlan.from_json(apart.to_json()) == apart
