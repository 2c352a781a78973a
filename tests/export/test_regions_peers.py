"""TF-MoDISco and Fi-NeMo, where they are installed: the demo's planted motifs come back from the store."""

import csv
import os
import subprocess
import sys
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from command_line import WEIGHTS
from serial_scans import scan_with

from tism_scan.api import attribute_peaks
from tism_scan.demo.synthesis import MOTIFS, OUTPUT_NAMES
from tism_scan.engine.choice import make_engine
from tism_scan.export import RegionsRequest, export_regions
from tism_scan.genome.fasta import Genome
from tism_scan.genome.intervals import Interval
from tism_scan.genome.spans import merge
from tism_scan.models.beluga import load_beluga, weights_digest
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import select_tracks
from tism_scan.store.score_store import ScoreStore

pytestmark = [pytest.mark.peers, pytest.mark.timeout(1800)]

FACTOR, WIDTH, FLANK = "CTCF", 200, 150
IUPAC = {"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC", "N": "ACGT"}
MODISCO = [sys.executable, "-c", "from modiscolite.cli import cli; cli()"]
FINEMO = [sys.executable, "-m", "finemo"]


def run(*words):
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sites(demo_genome):
    """Return chrom, start and end of each planted motif of the factor."""
    return [
        (chrom, site.start, site.end)
        for chrom, made in demo_genome.items()
        for site in made.sites
        if site.factor == FACTOR
    ]


@pytest.fixture(scope="module", params=["scan", "peaks"])
def exported(request, demo_fasta, sites, tmp_path_factory):
    """Return a folder with all three formats of the factor's track, around its sites, by format."""
    if not any(map(find_spec, ("modiscolite", "finemo"))):
        pytest.skip("neither modisco-lite nor finemo is installed")
    folder = tmp_path_factory.mktemp("peers")
    peaks = folder / "sites.bed"
    peaks.write_text("".join(f"{c}\t{a}\t{b}\t{c}_{a}\n" for c, a, b in sites))
    if request.param == "scan":
        store, asked = scanned(demo_fasta, sites, folder / "s.zarr"), (peaks, WIDTH)
    else:
        settings = {"tracks": FACTOR, "track_names": OUTPUT_NAMES, "width": WIDTH}
        store, asked = attribute_peaks(WEIGHTS, demo_fasta, peaks, folder / "p.zarr", **settings), ()
    for form in ("modisco", "finemo", "chrombpnet-h5"):
        genome = demo_fasta if asked else None
        export_regions(store, folder / form, RegionsRequest(form, *asked, genome=genome))
    return folder


def scanned(fasta, sites, path):
    """Return a scan of all four bases of the factor's track around its sites."""
    model = load_beluga(WEIGHTS)
    scoring = Scoring(select_tracks(FACTOR, model.n_outputs, OUTPUT_NAMES), model.input_bp, values="tism")
    with Genome(fasta) as genome:
        near = (Interval(c, max(a - FLANK, 0), min(b + FLANK, genome.chroms[c])) for c, a, b in sites)
        digests = genome.digest(), weights_digest(WEIGHTS)
        store = ScoreStore.create(path, ScanPlan(scoring, *digests, genome.chroms, merge(near), 1 << 13))
        scan_with(genome, make_engine(model, scoring, device="cpu"), store)
    return store


@pytest.fixture(scope="module")
def motifs(exported):
    """Return the file of motifs that TF-MoDISco finds: pip install modisco-lite."""
    pytest.importorskip("modiscolite", reason="modisco-lite is not installed")
    found = exported / "modisco.h5"
    ohe, hyp = (exported / "modisco" / name for name in ("ohe.npz", "hyp.npz"))
    run(*MODISCO, "motifs", "-s", ohe, "-a", hyp, "-n", 100_000, "-w", WIDTH, "-o", found)
    return found


def likeness(profile, factor):
    """Return the highest correlation of a pattern with a motif, wherever and on whichever strand it is."""
    (consensus,) = (motif.consensus for motif in MOTIFS if motif.factor == factor)
    expected = np.array(
        [[(base in IUPAC.get(each, each)) for base in "ACGT"] for each in consensus], dtype=float
    )
    expected /= expected.sum(axis=1, keepdims=True)
    n = len(consensus)
    padded = np.pad(profile, ((n, n), (0, 0)), constant_values=0.25)
    windows = [padded[i : i + n] for i in range(len(padded) - n + 1)]
    return max(
        np.corrcoef(window.ravel(), strand.ravel())[0, 1]
        for window in windows
        if window.std()
        for strand in (expected, expected[::-1, ::-1])
    )


def is_on_a_site(sites, chrom, start, end):
    return any(chrom == c and start < b and end > a for c, a, b in sites)


def test_modisco_finds_the_planted_motif_and_no_other(motifs):
    with h5py.File(motifs) as file:
        assert not len(file.get("neg_patterns", ()))
        profiles = [pattern["sequence"][:] for pattern in file["pos_patterns"].values()]
    assert profiles
    for profile in profiles:
        assert likeness(profile, FACTOR) > 0.9
        assert all(likeness(profile, motif.factor) < 0.75 for motif in MOTIFS if motif.factor != FACTOR)


def test_modiscos_seqlets_are_on_the_planted_sites(exported, motifs, sites):
    beside, out = exported / "modisco" / "peaks.narrowPeak", exported / "seqlets.bed"
    run(*MODISCO, "seqlet-bed", "-i", motifs, "-p", beside, "-c", "*", "-q", "-o", out)
    rows = [line.split("\t") for line in out.read_text().splitlines() if line.count("\t") >= 3]
    assert len(rows) > 100
    assert all(is_on_a_site(sites, row[0], int(row[1]), int(row[2])) for row in rows)


def test_finemos_hits_are_on_the_planted_sites(exported, motifs, sites):
    pytest.importorskip("finemo", reason="finemo is not installed")
    out = exported / "hits"
    run(*FINEMO, "call-hits", "-r", exported / "finemo" / "regions.npz", "-m", motifs, "-o", out)
    with open(out / "hits.tsv") as file:
        hits = [
            (row["chr"], int(row["start"]), int(row["end"])) for row in csv.DictReader(file, delimiter="\t")
        ]
    n_found = sum(is_on_a_site(hits, *site) for site in sites)
    assert n_found > 0.9 * len(sites)
    assert np.mean([is_on_a_site(sites, *hit) for hit in hits]) > 0.95


@pytest.mark.filterwarnings("ignore")
def test_finemo_reads_all_three_formats_alike(exported):
    data_io = pytest.importorskip("finemo.data_io", reason="finemo is not installed")
    half = WIDTH // 2
    sequences, scores, peaks, has_peaks = data_io.load_regions_npz(str(exported / "finemo" / "regions.npz"))
    scale = np.load(exported / "finemo" / "regions.npz")["scale"]
    beside = data_io.load_peaks(str(exported / "finemo" / "peaks.narrowPeak"), None, half)
    assert has_peaks
    for column in ("chr", "peak_region_start", "peak_name", "peak_id", "chr_id"):
        assert peaks[column].to_list() == beside[column].to_list()
    by_h5 = data_io.load_regions_from_chrombpnet_h5([str(exported / "chrombpnet-h5" / "scores.h5")], half)
    np.testing.assert_array_equal(by_h5[0], sequences)
    np.testing.assert_array_equal(by_h5[1], scores)
    hyp, ohe = (str(exported / "modisco" / f"{name}.npz") for name in ("hyp", "ohe"))
    by_npz = data_io.load_regions_from_modisco_fmt([hyp], ohe, half)
    np.testing.assert_array_equal(by_npz[0], sequences)
    np.testing.assert_allclose(by_npz[1], scores / scale, rtol=1e-3, atol=1e-6)


def test_modisco_reads_the_h5_of_chrombpnet_as_the_archives(exported, motifs):
    found = exported / "by_h5.h5"
    scores = exported / "chrombpnet-h5" / "scores.h5"
    run(*MODISCO, "motifs", "-i", scores, "-n", 100_000, "-w", WIDTH, "-o", found)
    with h5py.File(found) as one, h5py.File(motifs) as other:
        assert set(one) == set(other)
    test_modisco_finds_the_planted_motif_and_no_other(found)
