import struct

import numpy as np
import pybigtools
import pyBigWig
import pytest
from bigwig_readers import (
    assert_headers_agree,
    assert_readers_agree,
    assert_zooms_agree,
    values_by_reader,
    write_arrays,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tism_scan.bigwig import headers, index, write_bigwig
from tism_scan.bigwig.headers import MAGIC, chrom_tree
from tism_scan.bigwig.stream import PIECE_BP, bigwig_stream

PATTERNS = ("dense", "runs", "every second", "one base", "constant", "negative", "none", "islands")


def scores_of(pattern, length, seed):
    """Return float32 (length,) with gaps of some kind."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_t(3, length).astype(np.float32)
    if pattern == "runs":
        ends = np.sort(rng.integers(0, length + 1, 2 * rng.integers(1, 40)))
        for start, end in ends.reshape(-1, 2):
            scores[start:end] = np.nan
    elif pattern == "every second":
        scores[seed % 2 :: 2] = np.nan
    elif pattern == "one base":
        position = rng.integers(length)
        scores[np.arange(length) != position] = np.nan
    elif pattern == "constant":
        scores[:] = -0.25
    elif pattern == "negative":
        scores = -np.abs(scores) - 1
    elif pattern == "none":
        scores[:] = np.nan
    elif pattern == "islands":  # longer than what is written base by base, with long gaps between
        scores[(np.arange(length) + seed) % 5_000 > 100] = np.nan
    return scores


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.bw"


chroms = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 200), st.integers(1, 9_000)),
        st.sampled_from(PATTERNS),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chroms=chroms, block_bp=st.sampled_from([97, 4096, 1 << 20]))
@example(chroms=[(2 * PIECE_BP + 33, "dense", 1), (5, "none", 0), (PIECE_BP, "islands", 2)], block_bp=1 << 20)
@example(chroms=[(3_000_001, "runs", 3)], block_bp=1 << 20)
@example(chroms=[(PIECE_BP + 1, "one base", 4), (1, "dense", 0)], block_bp=1 << 17)
@example(chroms=[(1 + i % 40, PATTERNS[i % len(PATTERNS)], i) for i in range(300)], block_bp=1 << 20)
def test_three_readers_find_the_scores_and_every_zoom_record(tmp_path_factory, chroms, block_bp):
    path = tmp_path_factory.mktemp("readers") / "scores.bw"
    # Names are out of order on purpose.
    scores = {
        f"chr{len(chroms) - i}_{pattern[:4]}": scores_of(pattern, length, seed)
        for i, (length, pattern, seed) in enumerate(chroms)
    }
    write_arrays(path, scores, block_bp=block_bp)
    assert_readers_agree(path, scores)
    assert_headers_agree(path, scores)


def test_a_gap_has_no_zoom_record(path):
    scores = {"chr1": scores_of("dense", 40_000, 0)}
    scores["chr1"][10_000:30_000] = np.nan
    write_arrays(path, scores)
    with pybigtools.open(str(path)) as bigwig:
        for reduction in bigwig.zooms():
            for start, end, _record in bigwig.zoom_records(reduction, "chr1"):
                assert start < 10_000 or end > 30_000


def test_zooms_of_very_large_scores_are_finite(path):
    scores = {"chr1": np.full(100, np.finfo(np.float32).max)}
    write_arrays(path, scores)
    assert_zooms_agree(path, "chr1", scores["chr1"])


@pytest.mark.parametrize("pattern", ["dense", "runs", "every second"])
def test_the_file_is_the_same_whatever_the_blocks(path, pattern):
    scores = {"chr1": scores_of(pattern, PIECE_BP + 20_000, 5), "chr2": scores_of(pattern, 777, 6)}
    contents = set()
    for block_bp in (1 << 12, 10_007, PIECE_BP, 1 << 20):
        write_arrays(path, scores, block_bp=block_bp)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_the_file_is_the_same_whatever_the_threads(path):
    scores = {"chr1": scores_of("runs", 6 * PIECE_BP, 5)}
    write_arrays(path, scores)
    alone = path.read_bytes()
    write_bigwig(
        path, {"chr1": 6 * PIECE_BP}, lambda _c, start, end: scores["chr1"][start:end].copy(), n_threads=4
    )
    assert path.read_bytes() == alone


@pytest.mark.parametrize("per_node", [2, 3, 256])
def test_trees_of_any_depth_lead_to_every_score(path, monkeypatch, per_node):
    monkeypatch.setattr(headers, "CHROMS_PER_NODE", per_node)
    monkeypatch.setattr(index, "ITEMS_PER_NODE", per_node)
    scores = {f"chr{i * 7919 % 101}": scores_of("islands", 5_000 * (i % 4) + 200, i) for i in range(50)}
    write_arrays(path, scores)
    assert_readers_agree(path, scores)


@pytest.mark.parametrize("pattern", ["dense", "every second"])
def test_a_file_above_four_gigabytes_is_read_right(path, pattern):
    scores = {"chr1": scores_of(pattern, 70_000, 8), "chr2": scores_of(pattern, 3_000, 9)}
    with (
        open(path, "wb") as file,
        bigwig_stream(file, {chrom: len(values) for chrom, values in scores.items()}, path.parent) as stream,
    ):
        stream.write_chrom("chr1", iter([scores["chr1"]]))
        file.seek(5 << 30)  # a hole, which takes no room on the disk
        stream.write_chrom("chr2", iter([scores["chr2"]]))
        stream.finish()
    assert path.stat().st_size > 5 << 30
    assert_readers_agree(path, scores)
    path.unlink()


def test_numbers_of_chroms_are_those_of_the_genome_and_names_are_sorted(path):
    names = ["chr2", "chr10", "chr1", "chrM", "Chr3", "chrUn|x"]
    lengths = {name: 100 + i for i, name in enumerate(names)}
    content = chrom_tree(lengths, at=0)
    assert sorted(names) == sorted(names, key=lambda name: content.index(name.ljust(7, "\0").encode()))
    write_arrays(path, {name: scores_of("dense", length, 1) for name, length in lengths.items()})
    with pyBigWig.open(str(path)) as bigwig:
        assert list(bigwig.chroms()) == names


@pytest.mark.parametrize("n_chroms", [1, 256, 257, 70_000])
def test_a_node_of_the_tree_of_chroms_holds_no_more_names_than_its_header_says(n_chroms):
    content = chrom_tree({f"chr{i}": 5 for i in range(n_chroms)}, at=0)
    _, per_node, _, _, n_items, _ = struct.unpack_from("<4I2Q", content)
    is_leaf, _, n_in_root = struct.unpack_from("<2BH", content, 32)
    assert n_items == n_chroms
    assert n_in_root <= per_node <= 256
    assert bool(is_leaf) == (n_chroms <= 256)


def test_a_track_without_a_score_opens_everywhere(path):
    scores = {"chr1": scores_of("none", 1_000, 0), "chr2": scores_of("none", 3, 0)}
    write_arrays(path, scores)
    assert_readers_agree(path, scores)
    with pyBigWig.open(str(path)) as bigwig:
        assert bigwig.header()["nBasesCovered"] == 0
        assert bigwig.stats("chr1", nBins=2) == [None, None]
        assert bigwig.intervals("chr1") is None


def test_short_runs_take_little_room(path):
    n_bases = 200_000
    write_arrays(path, {"chr1": scores_of("every second", n_bases, 0)})
    assert path.stat().st_size < 4 * n_bases


def test_coarse_bins_of_pybigwig_are_those_of_the_scores(path):
    scores = scores_of("dense", 1 << 20, 3)
    write_arrays(path, {"chr1": scores})
    with pyBigWig.open(str(path)) as bigwig:
        for kind, expected in (("min", scores.reshape(8, -1).min(1)), ("max", scores.reshape(8, -1).max(1))):
            assert bigwig.stats("chr1", 0, 1 << 20, nBins=8, type=kind) == expected.tolist()
        means = bigwig.stats("chr1", 0, 1 << 20, nBins=8, type="mean")
    np.testing.assert_allclose(means, scores.reshape(8, -1).mean(1, dtype=np.float64), rtol=1e-4)


def test_the_magic_number_stands_at_both_ends(path):
    write_arrays(path, {"chr1": scores_of("dense", 100, 0)})
    content = path.read_bytes()
    assert content[:4] == content[-4:] == MAGIC.to_bytes(4, "little")


@pytest.mark.parametrize("position", [0, 4_095, 4_096, 262_143, 262_144, 299_999])
def test_a_lone_base_at_a_border_is_found(path, position):
    scores = np.full(300_000, np.nan, np.float32)
    scores[position] = 1.5
    write_arrays(path, {"chr1": scores})
    for reader, values in values_by_reader(path, "chr1", len(scores)):
        assert np.flatnonzero(~np.isnan(values)).tolist() == [position], reader


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([("b", 10), ("a", 10)], "a comes after a chrom that stands behind it"),
        ([("a", 10), ("a", 10)], "a comes after"),
        ([("a", 11)], "more scores came than the 10 bases of a"),
        ([("a", 9)], "9 scores came for the 10 bases of a"),
    ],
)
def test_chroms_in_disorder_or_of_another_length_are_a_mistake(path, written, message):
    *before, (chrom, length) = written
    with open(path, "wb") as file, bigwig_stream(file, {"a": 10, "b": 10}, path.parent) as stream:
        for earlier, n_bases in before:
            stream.write_chrom(earlier, iter([np.zeros(n_bases, np.float32)]))
        scores = iter([np.zeros(length, np.float32)])
        with pytest.raises(ValueError, match=message):
            stream.write_chrom(chrom, scores)
