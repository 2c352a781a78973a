import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plans import small_plan, tracks_of

from tism_scan.errors import PlanError
from tism_scan.plan.scan_plan import DEFAULT_BLOCK_BP, SHARD_BYTES, ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.selection import Selection
from tism_scan.plan.tracks import Track

PLAN = small_plan(2)
WHOLE_GENOME = {f"chr{i}": 130_000_000 for i in range(1, 25)}

# Another value for every field of a plan and of its scoring.
CHANGES = {
    "tracks": {"tracks": tracks_of(3)},
    "track name": {"tracks": (Track("other", (0,), (1.0,)), tracks_of(2)[1])},
    "track order": {"tracks": tracks_of(2)[::-1]},
    "track weight": {"tracks": (Track("track 0", (0,), (0.5,)), tracks_of(2)[1])},
    "input_bp": {"input_bp": 300},
    "stride": {"stride": 128},
    "path": {"path": (1.0, 0.5)},
    "stitch": {"stitch": "mean"},
    "strands": {"strands": "both"},
    "output_space": {"output_space": "probability"},
    "values": {"values": "tism"},
    "genome_digest": {"genome_digest": "another"},
    "weights_digest": {"weights_digest": "another"},
    "model": {"model": "another"},
    "chroms": {"chroms": dict(PLAN.chroms) | {"more": 10}},
    "chrom order": {"chroms": dict(reversed(PLAN.chroms.items()))},
    "wanted": {"wanted": dict(PLAN.wanted) | {"chr1": ((5, 1300),)}},
    "block_bp": {"block_bp": 1024},
    "keep_bits": {"keep_bits": 10},
    "codec": {"codec": "zstd"},
}
SHOWN_NAME = {
    "track name": "tracks",
    "track order": "tracks",
    "track weight": "tracks",
    "chrom order": "chroms",
}


def changed(plan, change):
    of_scoring = {name: value for name, value in change.items() if hasattr(plan.scoring, name)}
    of_plan = {name: value for name, value in change.items() if name not in of_scoring}
    return replace(plan, scoring=replace(plan.scoring, **of_scoring), **of_plan)


def large_plan(n_tracks, *, values="mean", chroms=WHOLE_GENOME, block_bp=0, stride=256):
    scoring = Scoring(tracks_of(n_tracks), 2000, stride, values=values)
    return ScanPlan(scoring, "g", "w", chroms, {c: ((0, bp),) for c, bp in chroms.items()}, block_bp)


def test_every_field_has_a_change_to_be_tried():
    tried = {field for change in CHANGES.values() for field in change}
    described = PLAN.to_json()
    # There is only one precision, and the format is not a choice.
    named = described.keys() | described["scoring"].keys() | {"path"}  # which is named where it is another
    assert tried == named - {"scoring", "precision", "format"}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_digest_changes_with_every_field(change):
    assert changed(PLAN, change).digest() != PLAN.digest()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_plan_comes_back_from_json(change):
    plan = changed(PLAN, change)
    again = ScanPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert again.digest() == plan.digest()


@pytest.mark.parametrize("name", CHANGES)
def test_difference_names_the_field_and_both_values(name):
    differences = PLAN.differences(changed(PLAN, CHANGES[name]))
    assert len(differences) == 1
    shown = SHOWN_NAME.get(name, name)
    mine, theirs = differences[0].removeprefix(f"{shown} ").split(", not ")
    assert differences[0].startswith(f"{shown} ")
    assert mine != theirs


def test_every_difference_is_named():
    differences = PLAN.differences(changed(PLAN, {"stride": 128, "keep_bits": 10, "values": "tism"}))
    assert differences == ["stride 64, not 128", "values mean, not tism", "keep_bits None, not 10"]


def test_equal_plans_do_not_differ():
    assert PLAN.differences(small_plan(2)) == []


def test_difference_of_many_tracks_stays_short():
    (difference,) = small_plan(2002).differences(small_plan(2001))
    assert difference.startswith("tracks 0,1,2,3,4,5,6,7,... 2,002 in all, not")
    assert len(difference) < 120


def test_values_that_read_alike_are_told_apart_by_digests():
    one, another = (small_plan(20, wanted={"chr1": ((0, 5), (9, end))}) for end in (12, 13))
    assert one.differences(another) == ["wanted 8 bp in 2 spans, not 9 bp in 2 spans"]
    moved = small_plan(20, wanted={"chr1": ((0, 5), (8, 11))})
    (difference,) = one.differences(moved)
    assert re.fullmatch(r"wanted 8 bp in 2 spans \(#\w+\), not 8 bp in 2 spans \(#\w+\)", difference)


def test_difference_of_one_span_shows_the_region():
    one, another = (small_plan(2, wanted={"chr1": ((0, end),)}) for end in (10, 1000))
    assert one.differences(another) == ["wanted chr1:1-10, not chr1:1-1,000"]


def test_difference_of_names_shows_the_names():
    named = tuple(replace(track, name=f"of {track.key}") for track in PLAN.scoring.tracks)
    (difference,) = PLAN.differences(changed(PLAN, {"tracks": named}))
    track = PLAN.scoring.tracks[0]
    assert difference == f"tracks {track.key} {track.name!r}, not {track.key} 'of {track.key}'"


def test_digest_stays_the_same_for_one_format():
    as_before = "37fa9cf5de71a251eb34be7099fa8ee43be77d0147e68a83984dc316fd358156"
    assert replace(PLAN, codec="zstd").digest() == as_before
    assert PLAN.digest() == "32047bb4e232ce18c5dae058829b6c16c97e4390f5a7dbc72735eca99e462499"


def test_digest_does_not_depend_on_the_order_in_which_chroms_were_asked_for():
    shuffled = dict(reversed(PLAN.wanted.items()))
    assert replace(PLAN, wanted=shuffled).digest() == PLAN.digest()


def test_digest_does_not_depend_on_how_a_weight_was_written():
    whole_number = Track("track 0", (0,), (1,))
    assert small_plan(1).digest() == changed(small_plan(1), {"tracks": (whole_number,)}).digest()


def test_chroms_without_a_wanted_base_are_left_out():
    plan = replace(PLAN, wanted=dict(PLAN.wanted) | {"empty": (), "unwanted": ()})
    assert list(plan.wanted) == list(PLAN.wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stitch": "left"}, "stitch 'left' is not known; use one of center, mean"),
        ({"strands": "reverse"}, "strands 'reverse' is not known; use one of forward, both"),
        ({"output_space": "odds"}, "output_space 'odds' is not known; use one of logit, probability"),
        ({"values": "ism"}, "values 'ism' is not known; use one of mean, tism"),
        ({"precision": "fp8"}, "precision 'fp8' is not known; use one of fp32"),
        ({"tracks": ()}, "no track was chosen; expected at least one"),
        ({"stride": 63}, "stride 63 does not fit a window of 200 bp"),
        ({"wanted": {}}, "no base is wanted"),
        ({"wanted": {"chrX": ((0, 5),)}}, "'chrX' is no chrom of the genome"),
        ({"wanted": {"chr1": ((0, 1301),)}}, "spans of 'chr1' are not sorted, apart and within 0 to 1,300"),
        ({"wanted": {"chr1": ((9, 12), (0, 5))}}, "spans of 'chr1' are not sorted"),
        ({"wanted": {"chr1": ((0, 5), (5, 9))}}, "spans of 'chr1' are not sorted, apart"),
        ({"wanted": {"chr1": ((-1, 5),)}}, "spans of 'chr1' are not sorted, apart and within 0"),
        ({"codec": "gzip"}, "codec 'gzip' is unknown; expected lz4 or zstd"),
        ({"keep_bits": 0}, "keep_bits 0 is outside 1 to 23"),
        ({"keep_bits": 24}, "keep_bits 24 is outside 1 to 23"),
        ({"block_bp": -1}, "a block of -1 bp is impossible"),
        ({"keep_bits": 99, "wanted": {}}, "no base is wanted; keep_bits 99 is outside"),
    ],
)
def test_setting_that_cannot_be_used_says_why(change, message):
    with pytest.raises(PlanError, match=message):
        changed(PLAN, change)


def test_plan_of_an_earlier_store_is_described_as_earlier_releases_read_it():
    plan = replace(PLAN, codec="zstd")
    assert not {"path", "codec"} & (plan.to_json().keys() | plan.to_json()["scoring"].keys())
    assert plan.to_json()["format"] == 3
    along = changed(plan, CHANGES["path"])
    assert along.to_json()["format"] == 4  # which they refuse, rather than resume with other numbers
    assert plan.differences(along) == ["path 1, not 1,0.5"]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_plan_comes_back_with_its_codec(codec):
    plan = replace(PLAN, codec=codec)
    described = plan.to_json()
    assert described["format"] == {"lz4": 7, "zstd": 3}[codec]  # 7 is refused by earlier releases
    assert ScanPlan.from_json(described).codec == codec


def test_plan_of_another_format_is_refused():
    with pytest.raises(PlanError, match="has format 99, expected 2 to 7; use the release that wrote it"):
        ScanPlan.from_json(PLAN.to_json() | {"format": 99})


@pytest.mark.parametrize(
    ("n_tracks", "values", "block_bp", "tracks_per_shard", "n_shards"),
    [
        (1, "mean", 1 << 20, 1, 1),
        (7, "mean", 1 << 20, 7, 1),
        (100, "mean", 1 << 18, 100, 1),
        (2002, "mean", 1 << 18, 128, 16),
        (1, "tism", 1 << 20, 1, 1),
        (7, "tism", 1 << 20, 7, 1),
        (100, "tism", 1 << 18, 32, 4),
        (2002, "tism", 1 << 18, 32, 63),
    ],
)
def test_default_block_keeps_shards_below_their_limit(n_tracks, values, block_bp, tracks_per_shard, n_shards):
    plan = large_plan(n_tracks, values=values)
    assert (plan.block_bp, plan.tracks_per_shard, plan.n_shards_per_block) == (
        block_bp,
        tracks_per_shard,
        n_shards,
    )


@given(st.integers(1, 3000), st.sampled_from(["mean", "tism"]), st.integers(0, 1 << 26), st.integers(1, 1000))
def test_shards_hold_every_track_once_within_the_limit(n_tracks, values, block_bp, half_stride):
    plan = large_plan(n_tracks, values=values, block_bp=block_bp, stride=2 * half_stride)
    assert (plan.n_shards_per_block - 1) * plan.tracks_per_shard < n_tracks
    assert plan.n_shards_per_block * plan.tracks_per_shard >= n_tracks
    shard_bytes = plan.tracks_per_shard * plan.block_bp * 4 * plan.scoring.n_channels
    assert shard_bytes <= SHARD_BYTES or plan.tracks_per_shard == 1


@given(st.integers(0, 1 << 22), st.integers(1, 1000))
def test_block_is_rounded_up_to_a_multiple_of_the_stride(block_bp, half_stride):
    stride = 2 * half_stride
    rounded = large_plan(1, block_bp=block_bp, stride=stride).block_bp
    assert rounded % stride == 0
    assert 0 <= rounded - (block_bp or DEFAULT_BLOCK_BP) < stride


def test_few_bases_are_cut_into_enough_blocks_to_share_out():
    plan = large_plan(1, chroms={"chr1": 4_000_000})
    assert len(list(plan.all_blocks())) >= 32


def test_blocks_without_a_wanted_base_are_left_out():
    plan = replace(PLAN, wanted={"chr1": ((511, 513), (1290, 1291))})
    assert [block.i_block for block in plan.blocks("chr1")] == [0, 1, 2]
    plan = replace(PLAN, wanted={"chr1": ((0, 512), (1024, 1300))})
    assert [block.i_block for block in plan.blocks("chr1")] == [0, 2]


def test_blocks_of_all_chroms_come_in_the_order_of_the_fasta():
    assert [block.chrom for block in PLAN.all_blocks()] == ["chr1"] * 3 + ["HLA-A*01:01:01:01", "c"]


def test_block_of_a_short_chrom_is_no_longer_than_its_cores():
    assert PLAN.array_block_bp("HLA-A*01:01:01:01") == 320


def test_wanted_bases_are_counted():
    assert replace(PLAN, wanted={"chr1": ((0, 10), (20, 25)), "c": ((3, 4),)}).n_wanted == 16


def test_stretch_holds_the_windows_that_the_stitch_needs():
    block = next(PLAN.all_blocks())
    assert PLAN.stretch(block).n_windows == 8
    assert changed(PLAN, {"stitch": "mean"}).stretch(block).n_windows == 10


def test_plan_of_more_blocks_than_can_be_listed_is_refused():
    with pytest.raises(PlanError, match=r"have 12,500,000,000 blocks; expected at most 50,000,000"):
        small_plan(1, chroms={"c": 800_000_000_000}, block_bp=64).check_listable()
    described = small_plan(1).to_json() | {"chroms": [["c", 1 << 60]], "wanted": [["c", [[0, 1 << 60]]]]}
    with pytest.raises(PlanError, match="expected at most 50,000,000"):
        ScanPlan.from_json(described)


@given(st.lists(st.floats(0, 10), max_size=5))
def test_selection_survives_json(thresholds):
    selection = Selection("a digest", "quantile 0.997", tuple(thresholds))
    assert Selection.from_json(json.loads(json.dumps(selection.to_json()))) == selection
