import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small_plans import WEIRD_NAMES, small_plan
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from tism_scan.store.arrays import encode_shard, is_equivalent, metadata_of, node_name, rounded

CODECS = {
    name: (BloscCodec(cname=name, clevel=level, shuffle="bitshuffle", typesize=4), Crc32cCodec())
    for name, level in (("lz4", 9), ("zstd", 3))
}
LARGEST = float(np.finfo(np.float32).max)


@given(st.lists(st.text() | st.sampled_from(WEIRD_NAMES), unique=True))
@example(WEIRD_NAMES)
def test_no_two_chroms_share_a_name(chroms):
    assert len({node_name(chrom) for chrom in chroms}) == len(chroms)


@given(st.text() | st.sampled_from(WEIRD_NAMES))
def test_name_is_one_plain_part_of_a_path(chrom):
    name = node_name(chrom)
    assert name.isascii()
    assert set(name) <= set("=-_.") | {char for char in name if char.isalnum()}
    assert not name.startswith((".", "__"))
    assert name not in ("", "zarr.json")


@pytest.mark.parametrize("chrom", ["chr1", "chrUn_KI270752v1", "HLA-A", "NC_000001.11", "1", "c", "_x"])
def test_plain_name_stays_as_it_is(chrom):
    assert node_name(chrom) == chrom


ordinary = hnp.arrays(
    np.float32,
    st.integers(1, 50),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True),
)


@given(ordinary, st.integers(1, 23))
def test_rounding_errs_by_no_more_than_half_of_the_last_kept_bit(scores, keep_bits):
    is_normal = np.isfinite(scores) & (np.abs(scores) >= np.finfo(np.float32).tiny)
    exact = scores[is_normal].astype(np.float64)
    error = np.abs(rounded(scores, keep_bits)[is_normal] - exact)
    assert (error <= 2.0 ** -(keep_bits + 1) * np.abs(exact)).all()


@given(ordinary, st.integers(1, 23))
def test_rounding_again_changes_nothing(scores, keep_bits):
    once = rounded(scores, keep_bits)
    assert np.array_equal(rounded(once, keep_bits).view(np.uint32), once.view(np.uint32))


@given(ordinary, st.none() | st.integers(1, 23))
@example(np.array([LARGEST, -LARGEST, np.inf, -np.inf, np.nan], np.float32), 3)
def test_rounding_makes_no_number_infinite_and_no_infinity_a_number(scores, keep_bits):
    kept = rounded(scores, keep_bits)
    is_number = ~np.isnan(scores)
    assert np.array_equal(np.isfinite(kept), np.isfinite(scores))
    assert np.array_equal(np.signbit(kept)[is_number], np.signbit(scores)[is_number])


@given(ordinary)
def test_scores_are_kept_to_the_bit_by_default(scores):
    is_number = ~np.isnan(scores)
    kept = rounded(scores, None)[is_number]
    assert np.array_equal(kept.view(np.uint32), scores[is_number].view(np.uint32))


@pytest.mark.parametrize("keep_bits", [None, 1, 10, 23])
def test_every_nan_becomes_the_one_nan(keep_bits):
    several = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF], np.uint32).view(np.float32)
    assert set(rounded(several, keep_bits).view(np.uint32).tolist()) == {0x7FC00000}


def test_ties_arerounded_to_even():
    scores = np.array([1.25, 1.75, -1.25, 1.2500001], np.float32)
    assert rounded(scores, 1).tolist() == [1.0, 2.0, -1.0, 1.5]


def scores_of_any_kind(shape, seed):
    """Return random bits, noise, zeros, and NaN alone, a chunk each, with runs of NaN in them."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=1e-3, size=shape).astype(np.float32)
    for place in np.ndindex(shape[:-1]):
        kind = rng.integers(4)
        if kind == 0:
            scores[place] = rng.integers(0, 1 << 32, shape[-1], dtype=np.uint32).view(np.float32)
        elif kind == 1:
            scores[place] = np.nan
        elif kind == 2:
            scores[place] = 0
        start, end = np.sort(rng.integers(0, shape[-1] + 1, 2))
        scores[place][start:end] = np.nan
    return scores


@given(
    values=st.sampled_from(["mean", "tism"]),
    n_per_shard=st.integers(1, 9),
    n_present=st.integers(1, 9),
    n_cores=st.integers(1, 40),
    n_missing=st.integers(0, 63),
    codec=st.sampled_from(list(CODECS)),
    keep_bits=st.none() | st.integers(1, 23),
    is_transposed=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
@example("tism", 9, 7, 40, 1, "zstd", None, False, 0)
@example("mean", 1, 1, 1, 63, "lz4", 10, True, 1)
@settings(max_examples=80, deadline=None)
def test_shard_is_the_one_that_zarr_itself_writes(
    values, n_per_shard, n_present, n_cores, n_missing, codec, keep_bits, is_transposed, seed
):
    bases, block_bp = ((4,) if values == "tism" else ()), 64 * n_cores
    n_present = min(n_per_shard, n_present)
    chroms = {"c": 3 * block_bp - n_missing}
    plan = small_plan(n_per_shard, chroms=chroms, block_bp=block_bp, values=values, keep_bits=keep_bits)
    plan = replace(plan, codec=codec)
    assert plan.tracks_per_shard == n_per_shard
    for block in list(plan.blocks("c"))[1:]:
        scores = scores_of_any_kind((n_present, *bases, len(block)), seed)
        memory = MemoryStore()
        theirs = zarr.create_array(
            memory,
            shape=scores.shape,
            dtype="float32",
            shards=(n_per_shard, *bases, block_bp),
            chunks=(1, *(1 for _ in bases), block_bp),
            compressors=CODECS[codec],
            fill_value=float("nan"),
            config={"write_empty_chunks": True},
        )
        theirs[:] = rounded(scores, keep_bits)
        (expected,) = (value.to_bytes() for key, value in memory._store_dict.items() if key != "zarr.json")
        given_scores = np.asfortranarray(scores) if is_transposed else scores
        assert encode_shard(plan, block, given_scores) == expected
        assert np.array_equal(given_scores.view(np.uint32), scores.view(np.uint32))  # it changes nothing


@pytest.mark.parametrize("values", ["mean", "tism"])
@pytest.mark.parametrize("n_tracks", [1, 3])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("consolidated", [False, True])
def test_metadata_are_those_that_zarr_itself_writes(values, n_tracks, codec, consolidated):
    plan = replace(small_plan(n_tracks, values=values), codec=codec)
    ours = metadata_of(plan, consolidated=consolidated)
    memory = MemoryStore()
    group = zarr.create_group(memory, attributes=json.loads(ours["zarr.json"])["attributes"])
    bases = {"base": 4} if values == "tism" else {}
    for chrom in plan.arrays:
        name, block_bp = node_name(chrom), plan.array_block_bp(chrom)
        axes = {"track": n_tracks, **bases, f"position_{name}": plan.chroms[chrom]}
        group.create_array(
            name,
            shape=tuple(axes.values()),
            dimension_names=tuple(axes),
            attributes={"chrom": chrom},
            dtype="float32",
            fill_value=float("nan"),
            shards=(n_tracks, *bases.values(), block_bp),
            chunks=(1, *(1 for _ in bases), block_bp),
            compressors=CODECS[codec],
        )
    if consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other readers may not know consolidated metadata
            zarr.consolidate_metadata(memory)
    theirs = {key: json.loads(buffer.to_bytes()) for key, buffer in memory._store_dict.items()}
    assert {key: json.loads(content) for key, content in ours.items()} == theirs


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stitch": "mean", "strands": "both", "output_space": "probability", "stride": 32},
        {"path": (1, 0.5)},
    ],
)
def test_attributes_say_how_the_scores_were_made(settings):
    plan = small_plan(**settings)
    described = json.loads(metadata_of(plan, consolidated=False)["zarr.json"])["attributes"]["tism_scan"]
    for name in ("stride", "stitch", "strands", "output_space"):
        assert described[name] == getattr(plan.scoring, name)
    assert described.get("path", [1]) == list(plan.scoring.path)
    assert ("path" in described) == ("path" in settings)


def test_metadata_that_gather_other_arrays_or_say_something_else_are_not_equivalent():
    ours = metadata_of(small_plan(), consolidated=True)["zarr.json"]
    fewer, other, more = (json.loads(ours) for _ in range(3))
    del fewer["consolidated_metadata"]["metadata"]["chr1"]
    other["attributes"]["tism_scan"]["stride"] = 1
    more["attributes"]["note"] = "a user's"
    for each, is_same in ((fewer, False), (other, False), (more, True)):
        assert is_equivalent(json.dumps(each).encode(), ours) == is_same
    assert not is_equivalent(ours, json.dumps(fewer).encode())
    assert not is_equivalent(None, ours)


def test_metadata_of_ten_thousand_chroms_take_a_kilobyte_each():
    plan = small_plan(chroms={f"chr{i}": 2_000 for i in range(10_000)})
    assert not plan.is_packed
    assert len(metadata_of(plan, consolidated=True)["zarr.json"]) < 10_000 * 1_000
