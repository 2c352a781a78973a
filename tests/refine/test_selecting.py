"""Which bases are refined."""

import gzip
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_plans import CHROMS, publish, random_scores, small_plan

from tism_scan.errors import PlanError, RegionError, StoreError
from tism_scan.export.seqlet_files import write_seqlets
from tism_scan.export.seqlets import SeqletRule
from tism_scan.refine import plan_refinement
from tism_scan.refine.selecting import HighestScores, select_highest, select_listed
from tism_scan.store.score_store import ScoreStore


def store_of(path, scores_of=None, *, n_tracks=2, **settings):
    """Return a store of small chroms, with random scores or those that a function makes of them."""
    store = ScoreStore.create(path / "s.zarr", small_plan(n_tracks, **settings))
    scores = random_scores(store.plan)
    if scores_of is not None:
        scores = {chrom: scores_of(each) for chrom, each in scores.items()}
    publish(store, scores)
    return store


def chosen_positions(spans):
    return {
        chrom: np.concatenate([np.arange(start, end) for start, end in each]).tolist()
        for chrom, each in spans.items()
    }


@pytest.mark.parametrize("values", ["mean", "tism"])
@pytest.mark.parametrize("quantile", [0.75, 0.95, 0.9995])
def test_chosen_are_the_highest_of_each_track_over_all_chroms(values, quantile, tmp_path):
    store = store_of(tmp_path, values=values)
    spans, thresholds = select_highest(store, quantile)
    magnitudes = {chrom: np.abs(store.read(chrom)) for chrom in store.plan.wanted}
    for i_track, threshold in enumerate(thresholds):
        ranked = np.sort(np.concatenate([each[i_track] for each in magnitudes.values()]))[::-1]
        ranked = ranked[~np.isnan(ranked)]
        assert threshold == ranked[round((1 - quantile) * len(ranked)) - 1]
    expected = {
        chrom: np.flatnonzero((each >= np.array(thresholds)[:, None]).any(0)).tolist()
        for chrom, each in magnitudes.items()
    }
    assert chosen_positions(spans) == {chrom: each for chrom, each in expected.items() if each}


def test_progress_grows_to_the_bases_of_all_tracks(tmp_path):
    store, told = store_of(tmp_path), []
    select_highest(store, 0.95, told.append)
    assert [each.n_done for each in told] == sorted(each.n_done for each in told)
    assert told[-1].n_done == 2 * store.plan.n_wanted
    assert {each.n_total for each in told} == {2 * store.plan.n_wanted}


def test_equal_scores_are_chosen_together_and_zeros_never(tmp_path):
    def with_ties(scores):
        tied = np.where(np.isnan(scores), np.nan, np.float32(0))
        tied[0, :20] = 0.5
        return tied

    spans, thresholds = select_highest(store_of(tmp_path, with_ties, chroms={"chr1": 1300}), 0.995)
    assert thresholds == (0.5, 0.0)  # the other track is 0 everywhere
    assert chosen_positions(spans) == {"chr1": list(range(20))}


@given(
    st.lists(st.sampled_from([0, 0.5, -0.5, 1, -2, 3, np.nan]), max_size=80),
    st.lists(st.integers(0, 80)),
    st.sampled_from([0.5, 0.8, 0.95, 1]),
)
@example([1.0] * 10, [3], 0.8)
def test_highest_do_not_depend_on_the_pieces_that_the_scores_come_in(scores, cuts, quantile):
    scores = np.array(scores, np.float32)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(scores)), len(scores)]
    highest = HighestScores(round((1 - quantile) * len(scores)))
    for start, end in pairwise(edges):
        highest.add(scores[start:end], start)
    threshold, positions = highest.above(quantile)
    ranked = np.sort(np.abs(scores[~np.isnan(scores)]))[::-1]
    n = min(round((1 - quantile) * len(ranked)), len(ranked) // 2)
    assert highest.n_scored == len(ranked)
    assert threshold == (ranked[n - 1] if n else np.inf)
    expected = [i for i, score in enumerate(np.abs(scores)) if score >= threshold and score > 0]
    assert positions.tolist() == expected


@pytest.mark.parametrize("n_bases", [98, 99, 100, 101])  # halves of odd numbers are rounded to even ones
def test_half_of_any_number_of_bases_can_be_chosen(n_bases, tmp_path):
    store = store_of(tmp_path, np.nan_to_num, n_tracks=1, chroms={"chr1": n_bases})
    spans, _ = select_highest(store, 0.5)
    assert sum(each.n_bases for each in spans.values()) == n_bases // 2


@pytest.mark.parametrize(
    ("quantile", "words"),
    [
        (1, "quantile 1 chooses none of the"),
        (0.99999, "quantile 0.99999 chooses none of the"),
        (0.3, "over its 2 tracks together; expected at most half; give a higher --quantile"),
    ],
)
def test_no_base_and_most_bases_are_refused(quantile, words, tmp_path):
    with pytest.raises(StoreError, match=words):
        select_highest(store_of(tmp_path), quantile)


def test_bases_of_a_file_are_those_that_were_scanned(tmp_path):
    store = store_of(tmp_path, wanted={"chr1": ((0, 500), (900, 1000)), "c": ((3, 10),)})
    (tmp_path / "peaks.bed").write_text("chr1\t450\t950\nchr1\t940\t960\tpeak\nunwanted\t0\t9\nc\t0\t4\n")
    spans, digest = select_listed(store, tmp_path / "peaks.bed")
    assert spans == {"chr1": ((450, 500), (900, 960)), "c": ((3, 4),)}
    (tmp_path / "again.bed").write_text("c\t3\t4\nchr1\t900\t960\nchr1\t450\t500\n")
    assert select_listed(store, tmp_path / "again.bed") == (spans, digest)
    (tmp_path / "other.bed").write_text("c\t4\t5\nchr1\t900\t960\nchr1\t450\t500\n")
    assert select_listed(store, tmp_path / "other.bed")[1] != digest


def test_a_file_without_a_scanned_base_is_refused(tmp_path):
    store = store_of(tmp_path)
    (tmp_path / "peaks.bed").write_text("unwanted\t0\t9\n")
    assert "unwanted" in CHROMS
    with pytest.raises(RegionError, match=r"peaks\.bed has no base that .* scanned"):
        select_listed(store, tmp_path / "peaks.bed")


def test_scan_of_effects_on_all_outputs_is_not_refined(tmp_path):
    scan = ScoreStore.create(tmp_path / "s.zarr", small_plan(stitch="all"))
    with pytest.raises(PlanError, match=r"holds effects on all outputs \(stitch 'all'\)"):
        plan_refinement(scan, "genome.fa", "weights.pth")


def test_bases_of_seqlets_are_a_file_like_any_other(refined, tmp_path):
    write_seqlets(refined.scan, tmp_path / "seqlets.bed.gz", SeqletRule(quantile=0.98))
    spans, _ = select_listed(refined.scan, tmp_path / "seqlets.bed.gz")
    with gzip.open(tmp_path / "seqlets.bed.gz", "rt") as file:
        lines = [line.split("\t") for line in file if not line.startswith("#")]
    expected = {(chrom, base) for chrom, start, end, *_ in lines for base in range(int(start), int(end))}
    found = chosen_positions(spans)
    assert {(chrom, base) for chrom, bases in found.items() for base in bases} == expected
    assert expected
