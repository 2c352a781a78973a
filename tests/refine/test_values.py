"""What `--values ism` gives: exact ISM where a base was refined, and what all other bases are worth."""

import gzip

import h5py
import numpy as np
import pysam
import pytest
from command_line import tism_scan
from refined_stores import refined_beside
from small_plans import publish, random_scores, small_plan
from variant_stores import CHROMS, tism_of, variant_store, vcf_text

from tism_scan.errors import StoreError
from tism_scan.export import RegionsRequest, export_regions
from tism_scan.export.seqlet_files import write_seqlets
from tism_scan.export.seqlets import SeqletRule
from tism_scan.store.refined import ExactScores
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants import annotate
from tism_scan.variants.listing import ListingRequest, list_variants

# Of one base, of several, over the end of a block, and one chrom without any.
WANTED = {"chr1": ((3, 4), (100, 110), (112, 130), (500, 530), (1290, 1300))}
WIDTH = 40
PEAKS = "chr1\t100\t130\tp\t1\t.\t1\t2\t3\t15\nchr2\t40\t90\nchr1\t505\t525\nchr1\t0\t6\nchr1\t300\t340\n"


class Stored:
    """A scan of all four bases over known letters, and a refinement with other numbers."""

    def __init__(self, folder):
        self.scan, self.letters, self.scores = variant_store(folder / "s.zarr")
        tism = {chrom: tism_of(self.letters[chrom], 2, seed=9) for chrom in WANTED}
        self.refined, self.effects = refined_beside(self.scan, WANTED, tism)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return Stored(tmp_path_factory.mktemp("values"))


@pytest.fixture
def peaks(tmp_path):
    (tmp_path / "peaks.bed").write_text(PEAKS)
    return tmp_path / "peaks.bed"


def lines_of(path):
    with gzip.open(path, "rt") as file:
        return file.read().splitlines()


def test_a_base_that_was_not_refined_has_no_effect_and_n_has_no_score(stored):
    exact = ExactScores(stored.scan, stored.refined)
    for chrom in stored.scan.plan.wanted:
        found = exact.read_track(chrom, 0, CHROMS[chrom], 1)
        for position, letter in enumerate(stored.letters[chrom]):
            is_refined = any(start <= position < end for start, end in WANTED.get(chrom, ()))
            if letter == "N":
                assert np.isnan(found[position])
            elif not is_refined:
                assert found[position] == 0
            else:
                effects = stored.effects[chrom][1, :, position]
                assert found[position] == pytest.approx(-effects.sum() / 3, abs=1e-9)


@pytest.fixture(scope="module")
def scan_of_means(tmp_path_factory):
    """Return a scan of mean TISM with its refinement, and the mean ISM of all bases of its chroms."""
    scan = ScoreStore.create(tmp_path_factory.mktemp("means") / "s.zarr", small_plan(2))
    publish(scan, random_scores(scan.plan))
    rng, tism = np.random.default_rng(2), {}
    for chrom in ("chr1", "c"):
        tism[chrom] = rng.normal(size=(2, 4, scan.plan.chroms[chrom])).astype(np.float32)
    wanted = {"chr1": ((40, 44), (46, 52), (55, 60), (505, 520), (700, 701)), "c": ((10, 30),)}
    return scan, refined_beside(scan, wanted, tism)[1]


def seqlets_by_loop(scores, threshold, rule):
    """Return start, end and sum of the runs of high bases, by the definition."""
    found, run = [], []
    for i, score in enumerate([*scores, np.nan]):
        if run and (np.isnan(score) or i - run[-1] - 1 > rule.max_gap):
            if len(run) >= rule.min_high:
                found.append((run[0], run[-1] + 1, float(np.sum(scores[run[0] : run[-1] + 1], dtype=float))))
            run = []
        if abs(score) >= threshold:
            run.append(i)
    return found


@pytest.mark.parametrize("quantile", [0.99, 0.9])
def test_seqlets_rank_refined_bases_above_all_others_and_may_span_these(scan_of_means, tmp_path, quantile):
    scan, effects = scan_of_means
    rule = SeqletRule(quantile, max_gap=5, min_high=2)
    called = write_seqlets(scan, tmp_path / "s.bed", rule, is_exact=True)
    text = (tmp_path / "s.bed").read_text()
    assert f"of plan {scan.plan.digest()} by exact ISM of 51 bases: quantile" in text
    lines = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    for i_track, each in enumerate(called):
        expected, magnitudes = [], []
        for chrom in scan.plan.wanted:
            scores = scan.read_track(chrom, 0, scan.plan.chroms[chrom], i_track)
            of_chrom = effects.get(chrom, np.full((2, 4, len(scores)), np.nan))[i_track]
            exact = np.where(
                np.isnan(of_chrom[0]), np.where(np.isnan(scores), np.nan, 0), -of_chrom.sum(0) / 3
            )
            magnitudes.append(np.abs(exact[~np.isnan(exact)]))
            expected += [(chrom, *row) for row in seqlets_by_loop(exact, each.threshold, rule)]
        ranked = np.sort(np.concatenate(magnitudes))[::-1]
        n_high = int((ranked >= each.threshold).sum())
        assert n_high <= (1 - quantile) * len(ranked)
        assert n_high == 51 if quantile == 0.9 else n_high > 15  # with .9, more than were refined
        assert (each.n_refined, each.n_bases) == (51, len(ranked))
        found = [
            (row[0], int(row[1]), int(row[2]), float(row[6])) for row in lines if row[3] == each.track.name
        ]
        assert [row[:3] for row in found] == [row[:3] for row in expected]
        np.testing.assert_allclose([row[3] for row in found], [row[3] for row in expected], rtol=1e-4)
        assert any(end - start > 12 for _, start, end, _ in found)


def test_variants_at_refined_bases_get_exact_effects_beside_those_of_the_scan(stored, tmp_path):
    places = [("chr1", 2), ("chr1", 102), ("chr1", 106), ("chr1", 511), ("chr1", 514), ("chr2", 5)]
    rows = []
    for chrom, position in places:
        ref = stored.letters[chrom][position - 1]
        rows.append((chrom, position, ref, ",".join(base for base in "ACGT" if base != ref)))
    (tmp_path / "in.vcf").write_text(vcf_text(rows))
    annotate(stored.scan, tmp_path / "in.vcf", tmp_path / "scan.vcf.gz", jobs=1)
    summary = annotate(stored.refined, tmp_path / "scan.vcf.gz", tmp_path / "both.vcf.gz", jobs=1)
    n_scored = 0
    with pysam.VariantFile(str(tmp_path / "both.vcf.gz")) as file:
        assert file.header.info["ISM_track_1"].description.startswith("ISM of track track 1: the change of")
        assert "about the change" in file.header.info["TISM_track_1"].description
        for record in file:
            position = record.pos - 1
            effects = stored.effects.get(record.chrom, np.full((2, 4, 1300), np.nan))[1, :, position]
            for alt, exact in zip(record.alts, record.info["ISM_track_1"], strict=True):
                expected = effects["ACGT".index(alt)] if record.ref != "N" else np.nan
                assert (exact is None) == np.isnan(expected)
                assert exact is None or exact == pytest.approx(expected, rel=1e-5)
                n_scored += exact is not None
            assert len(record.info["TISM_track_1"]) == len(record.alts)
            assert not {"TISM_REFMISMATCH", "ISM_REFMISMATCH"} & set(record.info)
    assert summary.counts.n_scored == n_scored >= 6
    assert summary.counts.unscored["at bases that were not refined"] >= 6
    assert sum(summary.counts.unscored.values()) + n_scored == summary.counts.n_alleles


@pytest.mark.parametrize("form", ["snv-tsv", "snv-vcf"])
def test_listed_are_the_refined_bases_beside_a_list_of_the_scans(stored, tmp_path, form):
    list_variants(stored.scan, tmp_path, ListingRequest(form), jobs=1)
    before = (tmp_path / "README.txt").read_bytes()
    estimates = []
    summary = list_variants(
        stored.refined, tmp_path, ListingRequest(form), jobs=1, on_estimate=estimates.append
    )
    assert summary.path.name == f"variants_ism.{form[4:]}.gz"
    assert (tmp_path / "README.txt").read_bytes() == before
    assert "exact ISM, the change of the logit" in summary.readme.read_text()
    positions = {int(line.split("\t")[1]) - 1 for line in lines_of(summary.path) if line[0] != "#"}
    values = stored.effects["chr1"]
    is_told = ((values == 0).all(0).sum(0) == 1) & np.isfinite(values).all((0, 1))
    assert positions == set(np.flatnonzero(is_told).tolist())
    assert summary.n_rows == 3 * len(positions)
    assert estimates[0].n_rows == 3 * stored.refined.plan.n_wanted


def regions_by_loop(stored, values, places):
    """Return letters and hypothetical scores around places, base by base."""
    one_hot, scores = np.zeros((2, len(places), 4, WIDTH))
    for i, (chrom, center) in enumerate(places):
        for column in range(WIDTH):
            position = center - WIDTH // 2 + column
            if not 0 <= position < CHROMS[chrom]:
                continue
            of_scan = stored.scores[chrom][:, :, position]
            if stored.letters[chrom][position] != "N" and (of_scan[0] == 0).sum() == 1:
                one_hot[i, "ACGT".index(stored.letters[chrom][position]), column] = 1
            if chrom in values and not np.isnan(values[chrom][0, :, position]).any():
                here = values[chrom][0, :, position].astype(float)
                scores[i, :, column] = here - here.mean()
    return one_hot, scores


def test_rows_around_peaks_have_letters_everywhere_and_scores_where_bases_were_refined(
    stored, peaks, tmp_path
):
    request = {"peaks": peaks, "width": WIDTH, "tracks": "0", "is_exact": True}
    summary = export_regions(stored.scan, tmp_path / "m", RegionsRequest("modisco", **request))
    places = [("chr1", 115), ("chr2", 65), ("chr1", 515), ("chr1", 3), ("chr1", 320)]
    one_hot, scores = regions_by_loop(stored, stored.effects, places)
    np.testing.assert_array_equal(np.load(tmp_path / "m/ohe.npz")["arr_0"], one_hot)
    np.testing.assert_allclose(np.load(tmp_path / "m/hyp.npz")["arr_0"], scores, rtol=0, atol=1e-9)
    counts = summary.tracks[0].counts
    assert 5 * WIDTH - counts.n_zeros == int(np.any(scores, axis=1).sum()) > 40
    assert (counts.n_empty_rows, counts.n_off_chrom) == (2, 17)
    assert "were refined: quantile 0.9" in summary.readme.read_text()
    export_regions(stored.scan, tmp_path / "h", RegionsRequest("chrombpnet-h5", **request))
    with h5py.File(tmp_path / "h/scores.h5") as file:
        np.testing.assert_array_equal(file["raw/seq"][:], one_hot)


def test_fasta_gives_the_letters_of_a_scan_of_means(scan_of_means, stored, tmp_path, peaks):
    scan, _ = scan_of_means
    request = RegionsRequest("modisco", peaks, WIDTH, is_exact=True)
    peaks.write_text("chr1\t300\t340\n")
    with pytest.raises(StoreError, match=r"does not tell the bases that were not refined.*add --genome"):
        export_regions(scan, tmp_path / "out", request)
    with pytest.raises(StoreError, match=r"no base around the peaks of .* has exact ISM"):
        export_regions(stored.scan, tmp_path / "out", request)
    assert not (tmp_path / "out").exists()


def test_commands_say_how_many_bases_have_exact_ism(stored, peaks, tmp_path):
    n_bases, place = stored.refined.plan.n_wanted, stored.scan.path
    ref = stored.letters["chr1"][100]
    (tmp_path / "in.vcf").write_text(vcf_text([("chr1", 101, ref, "A" if ref != "A" else "C")]))
    words = {
        ("seqlets", place, "--out", tmp_path / "s.bed"): f"exact ISM of {n_bases} of ",
        ("annotate", tmp_path / "in.vcf", "--store", place, "--out", tmp_path / "out.vcf.gz", "--jobs", 1): (
            f"exact ISM was computed of {n_bases} bases"
        ),
        ("export", place, "--format", "snv-tsv", "--jobs", 1, "--out", tmp_path / "l"): (
            f"those of {n_bases} refined bases, by exact ISM"
        ),
        ("export", place, "--format", "finemo", "--peaks", peaks, "--width", 40, "--out", tmp_path / "f"): (
            "; 2 rows without any"
        ),
    }
    for command, said in words.items():
        done = tism_scan(*command, "--values", "ism")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert said in done.stdout
