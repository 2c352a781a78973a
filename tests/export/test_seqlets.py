import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from command_line import tism_scan
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from leftovers import left_by_killed_writer
from small_plans import publish, random_scores, small_plan

from tism_scan.errors import ExportError, InputError, StoreError
from tism_scan.export.seqlet_files import write_seqlets
from tism_scan.export.seqlet_parts import COLUMNS
from tism_scan.export.seqlets import ScoredMagnitudes, SeqletRule, find_seqlets
from tism_scan.store.score_store import ScoreStore

RULE = SeqletRule(quantile=0.9, max_gap=2, min_high=2)

few_values = st.sampled_from([np.nan, 0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -3.0])
some_scores = arrays(np.float32, st.integers(0, 60), elements=few_values)


def one_by_one(scores, threshold, rule):
    """Return the seqlets as (start, end, sum, extreme), by the definition."""
    found, run = [], []

    def close():
        if len(run) >= rule.min_high:
            inside = scores[run[0] : run[-1] + 1]
            extreme = max(inside, key=lambda score: (abs(score), score))
            found.append((run[0], run[-1] + 1, sum(map(float, inside)), float(extreme)))
        run.clear()

    for i, score in enumerate(scores):
        if np.isnan(score) or (run and i - run[-1] - 1 > rule.max_gap):
            close()
        if abs(score) >= threshold:
            run.append(i)
    close()
    return found


def rows(pieces, threshold, rule):
    return [
        (int(start), int(end), float(total), float(extreme))
        for found in find_seqlets(pieces, threshold, rule)
        for start, end, total, extreme in zip(found.start, found.end, found.total, found.extreme, strict=True)
    ]


@given(some_scores, st.integers(0, 4), st.integers(1, 3))
def test_seqlets_are_what_the_rule_says(scores, max_gap, min_high):
    rule = SeqletRule(0.9, max_gap, min_high)
    assert rows([(0, scores)], 1.0, rule) == one_by_one(scores, 1.0, rule)


@given(some_scores, st.lists(st.integers(0, 60)), st.integers(0, 4), st.integers(1, 3))
def test_seqlets_do_not_depend_on_how_a_chrom_is_cut(scores, cuts, max_gap, min_high):
    rule = SeqletRule(0.9, max_gap, min_high)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(scores)), len(scores)]
    pieces = [(start, scores[start:end]) for start, end in pairwise(edges)]
    assert rows(pieces, 1.0, rule) == rows([(0, scores)], 1.0, rule)


@pytest.mark.parametrize("max_gap", [0, 1, 2, 3])
def test_gap_that_is_as_long_as_allowed_may_lie_at_a_pieces_end(max_gap):
    scores = np.array([2.0, *[0.0] * max_gap, 3.0, *[0.0] * (max_gap + 1), 1.0], np.float32)
    rule = SeqletRule(0.9, max_gap, min_high=1)
    for cut in range(len(scores)):
        found = rows([(0, scores[:cut]), (cut, scores[cut:])], 1.0, rule)
        assert [(start, end) for start, end, *_ in found] == [
            (0, max_gap + 2),
            (len(scores) - 1, len(scores)),
        ]


def test_as_many_bases_are_high_as_the_quantile_allows():
    magnitudes = ScoredMagnitudes()
    magnitudes.add(np.array([1.0, 2.0, 4.0, 8.0], np.float32))
    assert magnitudes.n_high(magnitudes.threshold(0.5)) == 2
    assert magnitudes.n_high(magnitudes.threshold(0.75)) == 1


def test_pieces_that_are_left_out_have_no_score():
    ones = np.ones(3, np.float32)
    found = rows([(10, ones), (13, ones), (17, ones)], 1.0, RULE)
    assert [(start, end) for start, end, *_ in found] == [(10, 16), (17, 20)]


@given(arrays(np.float32, st.integers(1, 300), elements=few_values), st.sampled_from([0.5, 0.9, 0.99]))
def test_no_more_bases_are_high_than_the_quantile_allows(scores, quantile):
    magnitudes = ScoredMagnitudes()
    magnitudes.add(scores)
    threshold = magnitudes.threshold(quantile)
    finite = np.abs(scores[np.isfinite(scores)])
    n_high = int((finite >= threshold).sum())
    assert n_high <= (1 - quantile) * len(finite)
    assert n_high == magnitudes.n_high(threshold)
    assert threshold > 0


def test_threshold_is_the_quantile_to_within_a_bin():
    scores = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    magnitudes = ScoredMagnitudes()
    for part in np.array_split(scores, 7):
        magnitudes.add(part)
    assert magnitudes.threshold(0.99) == pytest.approx(np.quantile(np.abs(scores), 0.99), rel=1 / 2000)
    assert magnitudes.highest == pytest.approx(np.abs(scores).max(), rel=1 / 4096)


@pytest.mark.parametrize("scores", [[], [np.nan, np.nan], [0.0, 0.0], [1.0] * 50])
def test_track_without_high_bases_has_no_seqlets(scores):
    magnitudes = ScoredMagnitudes()
    magnitudes.add(np.array(scores, np.float32))
    assert math.isinf(magnitudes.threshold(0.99))


def test_chance_is_what_independent_high_bases_would_make():
    rule, rng = SeqletRule(0.98, 4, 3), np.random.default_rng(1)
    scores = (rng.random(400_000) < 0.02).astype(np.float32)
    n_found = len(rows([(0, scores)], 1.0, rule))
    expected = rule.expected_by_chance(len(scores), int(scores.sum()))
    assert n_found == pytest.approx(expected, abs=4 * math.sqrt(expected))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((1.0, 5, 3), "quantile 1.0 is not from 0.5 to below 1"),
        ((0.1, 5, 3), "quantile 0.1 is not from"),
        ((float("nan"), 5, 3), "quantile nan is not from"),
        ((0.9, -1, 3), "gap of -1 bases is impossible"),
        ((0.9, 5, 0), "0 high bases are no seqlet"),
    ],
)
def test_impossible_rule_is_refused(numbers, message):
    with pytest.raises(InputError, match=message):
        SeqletRule(*numbers)


def peaky_scores(plan):
    """Return scores with a few short runs of high ones in each chrom."""
    scores, rng = random_scores(plan), np.random.default_rng(5)
    for values in scores.values():
        for start in rng.integers(0, values.shape[-1] - 12, size=6):
            values[..., start : start + 8] = 1 + rng.random((*values.shape[:-1], 8))
    return scores


def stored(folder, scores, **plan):
    store = ScoreStore.create(folder, small_plan(**plan))
    publish(store, scores)
    return store


@pytest.fixture(scope="module")
def scores():
    return peaky_scores(small_plan())


@pytest.fixture(scope="module")
def store(scores, tmp_path_factory):
    return stored(tmp_path_factory.mktemp("store") / "s.zarr", scores)


def table(path):
    return [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]


def test_file_holds_each_tracks_seqlets_with_their_sum_and_extreme(store, scores, tmp_path):
    called = write_seqlets(store, tmp_path / "s.bed", RULE)
    rows_of = {each.track.name: each for each in called}
    lines = table(tmp_path / "s.bed")
    assert len(lines) == sum(each.n_seqlets for each in called) > 20
    for chrom, start, end, name, score, strand, total, extreme in lines:
        i_track = int(name.removeprefix("track "))
        inside = scores[chrom][i_track, int(start) : int(end)]
        assert float(total) == pytest.approx(inside.astype(float).sum(), rel=1e-5)
        assert abs(float(extreme)) == pytest.approx(np.abs(inside).max(), rel=1e-5)
        assert (np.abs(inside) >= rows_of[name].threshold).sum() >= RULE.min_high
        assert 0 < int(score) <= 1000
        assert strand == "."


def test_what_a_killed_run_left_is_removed_and_nothing_else_is_left(store, tmp_path):
    left_by_killed_writer(tmp_path / "s.bed")
    write_seqlets(store, tmp_path / "s.bed", RULE)
    assert [each.name for each in tmp_path.iterdir()] == ["s.bed"]


def test_file_is_sorted_in_the_order_of_the_fasta(store, tmp_path):
    write_seqlets(store, tmp_path / "s.bed", RULE)
    order = list(store.plan.chroms)
    places = [(order.index(chrom), int(start)) for chrom, start, *_ in table(tmp_path / "s.bed")]
    assert places == sorted(places)
    header = (tmp_path / "s.bed").read_text().splitlines()[1]
    assert header == "#" + "\t".join(COLUMNS)


def test_two_processes_write_the_same_file_as_one(store, tmp_path):
    for jobs in (1, 2):
        write_seqlets(store, tmp_path / f"{jobs}.bed", RULE, jobs=jobs)
    assert (tmp_path / "1.bed").read_bytes() == (tmp_path / "2.bed").read_bytes()


def test_blocks_do_not_change_the_seqlets(scores, store, tmp_path):
    other = stored(tmp_path / "s.zarr", scores, block_bp=64)
    for name, each in (("a", store), ("b", other)):
        write_seqlets(each, tmp_path / f"{name}.bed", RULE)
    assert table(tmp_path / "a.bed") == table(tmp_path / "b.bed")


def test_more_tracks_than_open_files_are_merged_in_order(tmp_path, monkeypatch, store):
    monkeypatch.setattr("tism_scan.export.seqlet_parts._FILES_AT_ONCE", 2)
    write_seqlets(store, tmp_path / "few.bed", RULE)
    monkeypatch.undo()
    write_seqlets(store, tmp_path / "all.bed", RULE)
    assert (tmp_path / "few.bed").read_bytes() == (tmp_path / "all.bed").read_bytes()


def test_only_chosen_tracks_and_chroms_are_called(store, tmp_path):
    write_seqlets(store, tmp_path / "s.bed", RULE, tracks="1", chroms=["chr1"])
    assert {(chrom, name) for chrom, _, _, name, *_ in table(tmp_path / "s.bed")} == {("chr1", "track 1")}


def test_compressed_file_is_found_through_its_index(store, tmp_path):
    pysam = pytest.importorskip("pysam")
    write_seqlets(store, tmp_path / "s.bed", RULE)
    write_seqlets(store, tmp_path / "s.bed.gz", RULE)
    with pysam.TabixFile(str(tmp_path / "s.bed.gz")) as found:
        lines = [line.split("\t") for line in found.fetch("chr1", 300, 900)]
    inside = [
        row
        for row in table(tmp_path / "s.bed")
        if row[0] == "chr1" and int(row[1]) < 900 and int(row[2]) > 300
    ]
    assert lines == inside
    assert len(inside) > 0


def test_compression_without_pysam_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysam", None)
    with pytest.raises(ExportError, match=r"'pysam' is not installed.*s\.bed\.gz.*pip install"):
        write_seqlets(store, tmp_path / "s.bed.gz", RULE)


@pytest.mark.parametrize("name", ["s.txt", "absent/s.bed"])
def test_impossible_place_is_refused(store, tmp_path, name):
    with pytest.raises(ExportError, match="expected"):
        write_seqlets(store, tmp_path / name, RULE)


def test_unfinished_store_is_refused_unless_allowed(scores, tmp_path):
    store = ScoreStore.create(tmp_path / "s.zarr", small_plan())
    publish(store, scores, list(store.plan.all_blocks())[1:])
    with pytest.raises(StoreError, match=r"not complete: chr1 \(1 block\) still to be computed"):
        write_seqlets(store, tmp_path / "s.bed", RULE)
    assert not (tmp_path / "s.bed").exists()
    write_seqlets(store, tmp_path / "s.bed", RULE, allow_incomplete=True)
    assert all(int(start) >= 512 for chrom, start, *_ in table(tmp_path / "s.bed") if chrom == "chr1")


@pytest.mark.parametrize("jobs", [1, 2])
def test_infinite_score_is_named_and_nothing_is_left_behind(scores, tmp_path, jobs):
    broken = {chrom: values.copy() for chrom, values in scores.items()}
    broken["chr1"][1, 700] = np.inf
    store = stored(tmp_path / "s.zarr", broken)
    (tmp_path / "s.bed").write_text("older\n")
    with pytest.raises(StoreError, match="the score of chr1:701 is infinite"):
        write_seqlets(store, tmp_path / "s.bed", RULE, jobs=jobs)
    assert (tmp_path / "s.bed").read_text() == "older\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.bed", "s.zarr"]


def seqlets_command(*arguments):
    return tism_scan("seqlets", *arguments)


def test_command_writes_the_file_and_tells_of_chance(store, tmp_path):
    result = seqlets_command(store.path, "--out", tmp_path / "s.bed", "--quantile", "0.9", "--min-bases", "2")
    assert result.returncode == 0, result.stderr
    assert "by chance" in result.stdout
    assert f"{len(table(tmp_path / 's.bed'))} seqlets of 3 tracks" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--quantile", "2"], "quantile 2.0 is not from 0.5 to below 1"),
        (["--tracks", "nothing"], "'nothing' fits no track"),
        (["--chroms", "chrX"], "chrX"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(store, tmp_path, arguments, message):
    result = seqlets_command(store.path, "--out", tmp_path / "s.bed", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_seqlets_of_the_demo_stand_on_the_planted_motifs(demo_store, demo_sites, tmp_path):
    write_seqlets(demo_store, tmp_path / "s.bed")
    called = table(tmp_path / "s.bed")
    assert {name for _, _, _, name, *_ in called} > {factor for factor, _, _ in demo_sites}
    for factor in {factor for factor, _, _ in demo_sites}:
        spans = [(int(start), int(end)) for _, start, end, name, *_ in called if name == factor]
        sites = [(start, end) for each, start, end in demo_sites if each == factor]
        hit = [any(a < end and start < b for a, b in spans) for start, end in sites]
        true = [any(a < end and start < b for start, end in sites) for a, b in spans]
        assert np.mean(hit) >= 0.95, f"recall of {factor}"
        assert np.mean(true) >= 0.5, f"precision of {factor}"
