import json

import numpy as np
import pytest
from bigwig_readers import write_arrays
from hypothesis import given, settings
from hypothesis import strategies as st

from tism_scan.bigwig.peaks import BIN_BP, Peaks
from tism_scan.browser.annotations import Annotation
from tism_scan.export import export_bigwigs
from tism_scan.export.browsers import describe_export
from tism_scan.export.highest import FeatureNames, highest_seqlets
from tism_scan.export.seqlets import SeqletRule, find_seqlets
from tism_scan.genome.intervals import Interval

NAMELESS = FeatureNames([])


def noise(length, seed, scale=0.1):
    return (np.random.default_rng(seed).standard_normal(length) * scale).astype(np.float32)


def all_seqlets(scores, limit):
    """Return extreme and place of every seqlet, by one pass over whole chroms, the highest first."""
    found = []
    for chrom, values in scores.items():
        for calls in find_seqlets([(0, values)], limit, SeqletRule()):
            found += [
                (float(extreme), Interval(chrom, int(start), int(end)))
                for start, end, extreme in zip(calls.start, calls.end, calls.extreme, strict=True)
            ]
    return sorted(found, key=lambda each: (-abs(each[0]), each[1]))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from([0.5, 0.25]))
def test_highest_are_those_of_a_pass_over_all_scores(tmp_path_factory, seed, n_planted, limit):
    scores = {"a": noise(3 * BIN_BP + 77, seed), "b": noise(BIN_BP, seed + 1), "c": noise(900, seed + 2)}
    draw = np.random.default_rng(seed)
    for _ in range(n_planted):
        chrom = draw.choice(list(scores))
        start = draw.integers(0, len(scores[chrom]) - 30)
        scores[chrom][start : start + draw.integers(3, 25)] += draw.choice([-1, 1]) * draw.uniform(0.5, 4)
    scores["a"][500:700] = np.nan
    # Across the border of two bins.
    scores["a"][BIN_BP - 5 : BIN_BP + 5] = 9
    path = tmp_path_factory.mktemp("bw") / "x.bw"
    write_arrays(path, scores)
    found = [(each.extreme, each.place) for each in highest_seqlets(path, limit, NAMELESS)]
    assert found == all_seqlets(scores, limit)[:20]
    if not n_planted:  # noise beside it may belong to it
        highest, place = found[0]
        assert highest == 9.0
        assert place.start <= BIN_BP - 5 < BIN_BP + 5 <= place.end


@pytest.mark.parametrize("limit", [0.0, -1.0, float("inf"), 50.0])
def test_track_without_high_bases_has_none(tmp_path, limit):
    write_arrays(tmp_path / "x.bw", {"a": noise(5000, 1)})
    assert list(highest_seqlets(tmp_path / "x.bw", limit, NAMELESS)) == []


def test_track_without_scores_has_none(tmp_path):
    write_arrays(tmp_path / "x.bw", {"a": np.full(5000, np.nan, np.float32)})
    assert list(highest_seqlets(tmp_path / "x.bw", 0.1, NAMELESS)) == []


def test_bins_bound_all_scores_and_come_in_order(tmp_path):
    scores = {"a": noise(2 * BIN_BP + 5, 3), "b": noise(70, 4)}
    write_arrays(tmp_path / "x.bw", scores)
    with Peaks(tmp_path / "x.bw") as peaks:
        bins = peaks.bins()
    bounds = [bound for bound, *_ in bins]
    assert bounds == sorted(bounds, reverse=True)
    assert sum(end - start for *_, start, end in bins) == sum(map(len, scores.values()))
    for bound, chrom, start, end in bins:
        assert bound >= np.abs(scores[chrom][start:end]).max()


def test_seqlets_bear_the_names_of_motifs_there_and_not_of_genes(tmp_path):
    scores = noise(5000, 1)
    scores[1000:1010] = 2
    write_arrays(tmp_path / "x.bw", {"a": scores})
    rows = (("a", "1009", "1020", "CTCF", "0", "+"), ("a", "1010", "1020", "ETS", "0", "+"))
    genes = Annotation("genes", "Genes", (("a", "0", "5000", "BRCA1", "0", "+"),))
    twice = Annotation("annotation_x", "x", (*rows, ("a", "990", "1001", "CTCF", "0", "-")))
    (highest,) = highest_seqlets(tmp_path / "x.bw", 1.0, FeatureNames([genes, twice]))
    assert highest.names == ("CTCF",)


def test_summary_holds_what_the_page_shows(demo_store, demo_sites, tmp_path):
    sites = tuple(("chr3", str(start), str(end), name, "0", "+") for name, start, end in demo_sites)
    summaries = export_bigwigs(demo_store, tmp_path)
    describe_export(demo_store, tmp_path, summaries, annotations=[Annotation("annotation_m", "m", sites)])
    summary = json.loads((tmp_path / "igv-session.json").read_text())["tism_scan"]["summary"]
    n_bases = sum(demo_store.plan.chroms.values())
    assert len(summary["tracks"]) == 7
    for track, written in zip(summary["tracks"], summaries, strict=True):
        assert track["limit"] == pytest.approx(written.limit, rel=1e-3)
        assert track["share"] == pytest.approx(written.n_bases / n_bases)
        assert 5 <= len(track["seqlets"]) <= 20
    assert demo_store.plan.digest().startswith(summary["made_of"]["plan"])
    named = [seqlet[4] for seqlet in summary["tracks"][0]["seqlets"]]
    assert sum("CTCF" in name for name in named) >= 5
