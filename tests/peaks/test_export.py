"""What `export` makes of the store of a set of peaks: the files that it makes of a scan's."""

import h5py
import numpy as np
import pytest
from scan_models import INPUT_BP
from serial_scans import scan_with

from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import ExportError, PlanError, StoreError
from tism_scan.export import RegionsRequest, export_regions
from tism_scan.genome.alphabet import one_hot
from tism_scan.plan.methods import ONE_VALUE_METHODS
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.store.score_store import ScoreStore

STRIDE = 8
# Cores of the scan's lattice, whose windows are those of the peaks: at both ends, beside N, twice the same.
CORES = [("chr1", 30), ("chr2", 0), ("chr1", 0), ("chr1", 18), ("chr1", 30), ("chr1", 46), ("short", 0)]


@pytest.fixture
def cores(tmp_path):
    path = tmp_path / "cores.narrowPeak"
    lines = (
        f"{chrom}\t{k * STRIDE}\t{k * STRIDE + 7}\tpeak{i}\t0\t.\t1\t2\t3\t4\n"
        for i, (chrom, k) in enumerate(CORES)
    )
    path.write_text("".join(lines))
    return path


@pytest.fixture
def scanned(genome, tiny_model, attributed, cores, tmp_path):
    """Return a scan, and the attribution of peaks whose windows are the scan's."""
    store = attributed(peaks=cores, method="tism", width=STRIDE)
    scoring = Scoring(store.settings.method.tracks, INPUT_BP, STRIDE, values="tism")
    chroms = {name: length for name, length in genome.chroms.items() if length}
    wanted = {name: ((0, length),) for name, length in chroms.items()}
    plan = ScanPlan(scoring, "g", "w", chroms, wanted, block_bp=128)
    scan = ScoreStore.create(tmp_path / "s.zarr", plan)
    scan_with(genome, WindowEngine(tiny_model, scoring), scan)
    return scan, store


def contents_of(folder):
    """Return every array of the files of an export."""
    found = {}
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as archive:
            found |= {f"{path.relative_to(folder)}:{key}": archive[key] for key in archive}
    for path in sorted(folder.rglob("*.h5")):
        with h5py.File(path) as file:
            for name in ("raw/seq", "shap/seq", "projected_shap/seq", "scale"):
                found[f"{path.relative_to(folder)}:{name}"] = file[name][()]
    return found


@pytest.mark.parametrize("form", ["modisco", "finemo", "chrombpnet-h5"])
def test_files_are_those_of_a_scan_where_the_windows_are_the_same(
    scanned, cores, tiny_genome, tmp_path, form
):
    scan, store = scanned
    export_regions(scan, tmp_path / "a", RegionsRequest(form, cores, STRIDE, genome=tiny_genome))
    summary = export_regions(store, tmp_path / "b", RegionsRequest(form))
    of_scan, of_peaks = contents_of(tmp_path / "a"), contents_of(tmp_path / "b")
    assert list(of_scan) == list(of_peaks)
    for key, values in of_scan.items():
        assert values.dtype == of_peaks[key].dtype
        if values.dtype.kind == "f":
            np.testing.assert_allclose(of_peaks[key], values, rtol=2e-3, atol=2e-5 * np.abs(values).max())
        else:
            np.testing.assert_array_equal(of_peaks[key], values)
    peaks = [(tmp_path / folder / "peaks.narrowPeak").read_bytes() for folder in "ab"]
    assert peaks[0] == peaks[1]
    counts = summary.tracks[0].counts
    assert (counts.n_off_chrom, counts.n_unwanted, counts.n_unsure) == (1, 0, 0)
    assert summary.width == STRIDE
    readmes = [(tmp_path / folder / f"README.{form}.txt").read_text() for folder in "ab"]
    expected = readmes[0].replace("Scores of a scan by tism-scan", "Scores of peaks by tism-scan attribute")
    expected = expected.replace(scan.plan.digest(), store.plan.digest())
    assert readmes[1] == expected.replace(f"Model {scan.plan.model};", f"Model {store.plan.model};")


@pytest.mark.parametrize("method", ["ism", "gradient", "corrected", "hypothetical", "deepliftshap"])
def test_rows_are_hypothetical_whatever_the_method(attributed, tmp_path, method):
    store = attributed(method=method)
    export_regions(store, tmp_path / "out", RegionsRequest("modisco", tracks="2", width=10))
    ohe, hyp = (np.load(tmp_path / "out" / name)["arr_0"] for name in ("ohe.npz", "hyp.npz"))
    np.testing.assert_array_equal(ohe, one_hot(store.sequence()[:, 3:13]))
    expected = store.scores(2)[..., 3:13]
    if method not in ("hypothetical", "deepliftshap"):
        expected = expected - expected.mean(1, keepdims=True)
    np.testing.assert_array_equal(hyp, expected)
    text = (tmp_path / "out" / "README.modisco.txt").read_text()
    assert {"ism": "exact ISM minus", "deepliftshap": "DeepLIFT/SHAP"}.get(method, "gradient") in text


@pytest.mark.parametrize("method", sorted(ONE_VALUE_METHODS))
def test_one_value_a_base_is_refused(attributed, tmp_path, method):
    with pytest.raises(ExportError, match=f"holds {method}, one value a base; expected one for each"):
        export_regions(attributed(method=method), tmp_path / "out", RegionsRequest("modisco"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"peaks": "x.bed"}, ExportError, "holds its own peaks and their sequence; leave --peaks out"),
        ({"genome": "x.fa"}, ExportError, "leave --genome out"),
        ({"chrom_alias": "x.tsv"}, ExportError, "leave --chrom-alias out"),
        ({"width": 18}, ExportError, "more than the 16 bp that .* has around each peak"),
        ({"width": 9}, PlanError, "a width of 9 has no middle"),
    ],
)
def test_what_a_store_of_peaks_has_itself_is_not_taken(attributed, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        export_regions(attributed(method="tism"), tmp_path / "out", RegionsRequest("modisco", **options))
    assert not (tmp_path / "out").exists()


def test_an_incomplete_store_is_refused_or_has_zeros_there(attributed, tmp_path):
    store = attributed(method="tism")
    for marker in (store.path / ".scan" / "done").glob("?.1.*"):
        marker.unlink()
    for key in ("scores/c/1/0/0/0", "sequence/c/1/0"):
        (store.path / key).unlink()
    with pytest.raises(StoreError, match="is not complete: 2 of 9 peaks still to be computed"):
        export_regions(store, tmp_path / "out", RegionsRequest("modisco"))
    summary = export_regions(
        store, tmp_path / "out", RegionsRequest("modisco", tracks="0", allow_incomplete=True)
    )
    ohe, hyp = (np.load(tmp_path / "out" / name)["arr_0"] for name in ("ohe.npz", "hyp.npz"))
    assert not hyp[2:4].any()
    assert not ohe[2:4].any()
    assert hyp[4].any()
    assert summary.n_peaks == len(hyp) == 9
