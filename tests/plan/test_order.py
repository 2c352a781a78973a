from hypothesis import given
from hypothesis import strategies as st
from small_plans import small_plan

from tism_scan.plan.order import WidestFirst

LENGTHS = st.lists(st.integers(1, 3000), min_size=1, max_size=4)


@st.composite
def plans(draw):
    """Draw plans of up to four chroms, of which some stretches are wanted."""
    chroms = {f"chr{i}": length for i, length in enumerate(draw(LENGTHS))}
    wanted = {}
    for chrom, length in chroms.items():
        cuts = sorted(draw(st.sets(st.integers(0, length), min_size=2, max_size=8)))
        wanted[chrom] = tuple(zip(cuts[::2], cuts[1::2], strict=False))
    return small_plan(chroms=chroms, wanted=wanted, block_bp=draw(st.sampled_from([64, 256, 1024])))


def n_wanted_in(plan, block):
    spans = plan.wanted[block.chrom]
    return sum(max(0, min(end, block.end) - max(start, block.start)) for start, end in spans)


@given(plans())
def test_every_block_comes_once_and_none_before_a_wider_one(plan):
    blocks = list(plan.all_blocks())
    ordered = list(WidestFirst(plan, blocks))
    assert sorted(map(str, ordered)) == sorted(map(str, blocks))
    assert set(ordered) == set(blocks)
    widths = [n_wanted_in(plan, block) for block in ordered]
    assert widths == sorted(widths, reverse=True)


@given(plans())
def test_among_blocks_of_one_width_longer_chroms_come_first(plan):
    ordered = list(WidestFirst(plan, plan.all_blocks()))
    keys = [(-n_wanted_in(plan, block), -plan.chroms[block.chrom]) for block in ordered]
    assert keys == sorted(keys)


def test_blocks_and_their_bases_are_counted():
    plan = small_plan()
    order = WidestFirst(plan, plan.all_blocks())
    assert len(order) == len(list(plan.all_blocks()))
    assert order.size == 1300 + 300 + 512


def test_no_blocks_have_an_order_too():
    assert list(WidestFirst(small_plan(), [])) == []
