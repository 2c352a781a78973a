"""Rows around peaks: the numbers of a plain loop, whatever the batches, the order, and interruptions."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import zarr
from object_server import BUCKET
from scan_models import INPUT_BP, smooth_model
from serial_scans import scan_with

from tism_scan.attribution import deep_lift_shap, gradient, ism, mean_tism, tism, transform
from tism_scan.attribution.deeplift import own_shuffles
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import LeaseError, PlanError, RegionError, StoreError
from tism_scan.genome.alphabet import is_acgt, one_hot
from tism_scan.genome.intervals import Interval
from tism_scan.genome.peaks import PeakSet, read_peaks
from tism_scan.locus.scores import score_region
from tism_scan.models.contract import LoadedModel
from tism_scan.peaks import PeakEngine, attribute_pending, estimate, plan_peaks
from tism_scan.peaks import engine as peak_engine
from tism_scan.peaks.estimate import estimate_peaks
from tism_scan.plan.methods import METHODS, N_REFERENCES, ONE_VALUE_METHODS, MethodSettings
from tism_scan.plan.peak_plan import PeakSettings
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.scan import Execution
from tism_scan.scan.verify_peaks import verify_peaks
from tism_scan.store.lease import Lease
from tism_scan.store.peak_store import PeakStore
from tism_scan.store.score_store import ScoreStore
from tism_scan.store.status import store_status

WIDTH = 16


def window_of(genome, peaks, i):
    """Return the codes of the window of a peak."""
    start = int(peaks.centers[i]) - INPUT_BP // 2
    return genome.fetch(peaks.chroms[peaks.i_chrom[i]], start, start + INPUT_BP)


def by_hand(model, codes, method, tracks):
    """Return a window's values, (T, 4, L) as A, C, G, T or (T, L), from the attribution library alone."""
    X = one_hot(codes, model.alphabet)[None]
    match method:
        case "mean-tism":
            return mean_tism(model, X, tracks)[0]
        case "mean-ism":
            return ism(model, X, tracks, output="mean_effect")[0]
        case "gradxinput":
            return (gradient(model, X, tracks) * X)[0].sum(1)
        case "tism":
            values = tism(model, X, tracks)
        case "ism":
            values = ism(model, X, tracks)
        case "deepliftshap":
            shuffles = own_shuffles(torch.from_numpy(X), seed=0)
            values = deep_lift_shap(model, X, tracks, references=shuffles)
        case _:
            values = transform(gradient(model, X, tracks), X, "local" if method == "gradient" else method)
    return values[0][:, [model.alphabet.index(base) for base in "ACGT"]]


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_those_of_a_plain_loop(attributed, genome, tiny_model, method):
    store = attributed(method=method)
    peaks, row = store.peaks, slice(4, 20)
    found, codes = store.scores(), store.sequence()
    assert found.shape == ((9, 2, WIDTH) if method in ONE_VALUE_METHODS else (9, 2, 4, WIDTH))
    assert found.dtype == np.float32
    assert store.settings.bytes_per_peak == found[0].nbytes
    for i in range(9):
        window = window_of(genome, peaks, i)
        np.testing.assert_array_equal(codes[i], window[row])
        known = is_acgt(window[row])
        assert (found[i][..., ~known] == 0).all()
        if known.any() and (method != "deepliftshap" or i != 5):  # GATTACA among N may not be shuffled
            expected = by_hand(tiny_model, window, method, [0, 2])[..., row]
            np.testing.assert_allclose(found[i][..., known], expected[..., known], atol=1e-5)
    assert np.isfinite(found).all()
    assert (found[2] == 0).all()  # all N
    assert found[[0, 1, 3, 4, 7, 8]].any(axis=tuple(range(1, found.ndim))).all()


@pytest.mark.parametrize("method", ["tism", "ism", "deepliftshap"])
@pytest.mark.parametrize("strands", ["forward", "both"])
def test_rows_are_what_attribute_gives_in_one_window(attributed, genome, tiny_model, method, strands):
    store = attributed(method=method, strands=strands, output_space="probability")
    for i in (0, 4, 8):
        start = int(store.peaks.centers[i]) - WIDTH // 2
        region = Interval(store.peaks.chroms[store.peaks.i_chrom[i]], start, start + WIDTH)
        expected = score_region(tiny_model, genome, region, store.settings.method, center=True).values
        np.testing.assert_allclose(store.scores(start=i, end=i + 1)[0], expected, atol=1e-6)


def test_rows_are_a_scans_where_the_window_is_the_same(attributed, genome, tiny_model, tmp_path):
    stride = 8
    scoring = Scoring((*attributed(method="tism").settings.method.tracks,), INPUT_BP, stride, values="tism")
    chroms = {name: length for name, length in genome.chroms.items() if length}
    plan = ScanPlan(scoring, "g", "w", chroms, {name: ((0, n),) for name, n in chroms.items()}, block_bp=128)
    scan = ScoreStore.create(tmp_path / "s.zarr", plan)
    scan_with(genome, WindowEngine(tiny_model, scoring), scan)
    path = tmp_path / "cores.bed"
    path.write_text("".join(f"chr1\t{k * stride}\t{(k + 1) * stride}\n" for k in (0, 3, 12, 40)))
    store = attributed("cores.zarr", peaks=path, method="tism", width=stride)
    for i, k in enumerate((0, 3, 12, 40)):
        expected = scan.read_tism(Interval("chr1", k * stride, (k + 1) * stride))
        np.testing.assert_allclose(store.scores(start=i, end=i + 1)[0], expected, atol=1e-6)


def test_a_window_of_odd_length_has_the_centre_where_attribute_has_it(attributed, genome, linear_model):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 23, 3))
    model = LoadedModel(model, 23, "ACGT")
    model.n_outputs = 3
    store = attributed(model=model, method="tism", width=22)
    start = int(store.peaks.centers[4]) - 11
    region = Interval("chr1", start, start + 22)
    expected = score_region(model, genome, region, store.settings.method, center=True).values
    np.testing.assert_allclose(store.scores(start=4, end=5)[0], expected, atol=1e-6)


def test_references_depend_on_the_window_and_the_seed_alone():
    codes = np.random.default_rng(0).integers(0, 4, (5, 60)).astype(np.uint8)
    X = torch.from_numpy(one_hot(codes))
    shuffles = own_shuffles(X, seed=3, n_references=4)
    order = [3, 0, 4, 2, 1]
    assert torch.equal(own_shuffles(X[order], seed=3, n_references=4), shuffles[order])
    assert torch.equal(own_shuffles(X[2:3], seed=3, n_references=4), shuffles[2:3])
    assert not torch.equal(own_shuffles(X, seed=4, n_references=4), shuffles)
    own = {tuple(each.flatten().tolist()) for each in shuffles.flatten(0, 1)}
    assert len(own) == 20
    np.testing.assert_array_equal(shuffles.sum((1, 3)), 4 * X.sum(2))


@pytest.mark.parametrize("method", ["deepliftshap", "ism", "gradient"])
def test_rows_depend_neither_on_order_nor_on_batches(attributed, narrow_peak, tiny_model, tmp_path, method):
    batches = []
    tiny_model.register_forward_pre_hook(lambda model, inputs: batches.append(len(inputs[0])))
    first = attributed(method=method, peaks_per_part=1, execution=Execution(batch_size=1)).scores()
    assert 1 <= max(batches) <= 2
    lines = narrow_peak.read_text().splitlines()
    path = tmp_path / "reversed.narrowPeak"
    path.write_text("\n".join(reversed(lines)) + "\n")
    other = attributed(
        "r.zarr", peaks=path, method=method, peaks_per_part=5, execution=Execution(batch_size=64)
    )
    np.testing.assert_allclose(other.scores()[::-1], first, atol=1e-6)


@pytest.mark.parametrize("n_tracks", [1, 3])
@pytest.mark.parametrize("method", ["ism", "deepliftshap", "gradient"])
def test_values_of_many_tracks_are_computed_in_the_memory_set_for_them(
    tiny_model, monkeypatch, method, n_tracks
):
    monkeypatch.setattr(peak_engine, "_BYTES_AT_ONCE", 1 << 20)
    tracks = tuple(Track(str(i), (i,), (1.0,)) for i in range(n_tracks))
    settings = PeakSettings(MethodSettings(tracks, method), INPUT_BP, WIDTH)
    n = PeakEngine(tiny_model, settings, batch_size=1 << 20).windows_at_once
    n_values = {"ism": WIDTH, "deepliftshap": N_REFERENCES * INPUT_BP, "gradient": INPUT_BP}[method]
    n_bytes = 4 * 4 * n_values * n_tracks  # float32 of four bases
    assert n * n_bytes <= 1 << 20 < (n + 1) * n_bytes


@pytest.fixture(params=["path", "s3"])
def place(request, tmp_path, prefix):
    """Return where a store may be: in a folder, and in a bucket."""
    if request.param == "path":
        return str(tmp_path / "again.zarr")
    request.getfixturevalue("server")
    return f"s3://{BUCKET}/{prefix}"


@pytest.mark.parametrize("method", ["tism", "ism", "deepliftshap"])
def test_batches_are_halved_until_they_fit_the_memory(attributed, tiny_model, method):
    expected = attributed("a.zarr", method=method, peaks_per_part=9).scores()

    def forward(model, inputs):
        if len(inputs[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    tiny_model.register_forward_pre_hook(forward)
    store = attributed("b.zarr", method=method, peaks_per_part=9, execution=Execution(batch_size=256))
    np.testing.assert_allclose(store.scores(), expected, atol=1e-6)


def test_interrupted_and_resumed_equals_what_went_through(
    attributed, tiny_genome, tiny_model, narrow_peak, place
):
    whole = attributed(method="deepliftshap")
    settings = {"tracks": "0,2", "width": WIDTH, "peaks_per_part": 2, "method": "deepliftshap"}
    planned = plan_peaks(tiny_genome, tiny_model, narrow_peak, **settings)
    store = planned.create_store(place)

    def interrupt(progress):
        if progress.n_done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute_pending(planned, store, on_progress=interrupt)
    status = store_status(store.path)
    assert status["total"] == {
        **{"parts_done": 2, "parts_pending": 3, "parts_failed": 0},
        **{"peaks_done": 4, "peaks_pending": 5, "peaks_failed": 0},
    }
    assert np.isnan(store.scores(start=4)).all()
    with pytest.raises(StoreError, match="is not complete: 5 of 9 peaks still to be computed"):
        store.check_complete()
    store = planned.create_store(place)
    result = attribute_pending(planned, store)
    assert (result.n_blocks, result.n_bp, result.n_bp_before) == (3, 5, 4)
    objects = {
        each.relative_to(whole.path): each.read_bytes()
        for root in store.roots
        for each in (whole.path / root).rglob("*")
        if each.is_file()
    }
    assert len(objects) == 10
    for key, content in objects.items():
        assert store.folder.get(str(key)) == content
    np.testing.assert_array_equal(store.scores(), whole.scores())


def test_a_store_that_another_process_writes_is_not_overwritten(
    attributed, tiny_genome, tiny_model, narrow_peak
):
    store = attributed(method="tism")
    planned = plan_peaks(tiny_genome, tiny_model, narrow_peak, tracks="0,2", width=WIDTH, method="ism")
    before = store.scores()
    with Lease(store.folder).acquire(), pytest.raises(LeaseError, match="is being written by process"):
        planned.create_store(store.path, overwrite=True)
    np.testing.assert_array_equal(PeakStore.open(store.path).scores(), before)


def test_a_store_that_was_begun_and_not_laid_out_is_laid_out(
    attributed, tiny_genome, tiny_model, narrow_peak
):
    store = attributed(method="tism")
    (store.path / "zarr.json").unlink()
    shutil.rmtree(store.path / "name")
    again = attributed(method="tism")
    assert [*zarr.open_group(again.path, mode="r")["name"][:3]] == ["f", "a", "n"]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"width": 18}, "width 16, not 18"),
        ({"method": "ism"}, "method deepliftshap, not ism"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"strands": "both"}, "strands forward, not both"),
        ({"tracks": "0"}, "tracks"),
        ({"peaks": "fewer"}, "peaks_digest"),
        ({"model": smooth_model(seed=6)}, "weights_digest"),
    ],
)
def test_another_plan_is_refused(attributed, narrow_peak, tmp_path, other, difference):
    attributed(method="deepliftshap", seed=0)
    if "peaks" in other:
        other["peaks"] = tmp_path / "fewer.narrowPeak"
        other["peaks"].write_text("".join(narrow_peak.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(StoreError, match=rf"was made under another plan: .*{difference}"):
        attributed(**{"method": "deepliftshap", **other})


def test_what_plays_no_part_is_no_other_plan(attributed):
    store = attributed(method="tism", seed=0)
    assert attributed(method="tism", seed=7, background=(0.3, 0.2, 0.2, 0.3)).plan == store.plan


def test_two_drivers_do_not_write_one_store(attributed, tiny_genome, tiny_model, narrow_peak, monkeypatch):
    store = attributed(method="tism")
    planned = plan_peaks(tiny_genome, tiny_model, narrow_peak, tracks="0,2", width=WIDTH, peaks_per_part=2)
    with Lease(store.folder), pytest.raises(LeaseError, match="the store is being written by process"):
        attribute_pending(planned, store)


def test_other_readers_find_the_rows_and_what_they_are(attributed, narrow_peak):
    store = attributed(method="tism")
    group = zarr.open_group(store.path, mode="r")
    assert group["scores"].metadata.dimension_names == ("peak", "track", "base", "position")
    assert group["scores"].shards == (2, 2, 4, 16)
    assert group["scores"].chunks == (2, 1, 4, 16)
    np.testing.assert_array_equal(group["scores"][:], store.scores())
    np.testing.assert_array_equal(group["sequence"][:], store.sequence())
    assert group["start"][:3].tolist() == [52, -6, 202]
    assert [*group["chrom"][:3]] == ["chr2", "chr1", "chr1"]
    assert [*group["base"][:]] == [*"ACGT"]
    assert group.attrs["tism_scan"]["method"] == "tism"
    described = json.loads((store.path / "zarr.json").read_text())
    assert {"scores", "sequence", "name"} <= described["consolidated_metadata"]["metadata"].keys()
    xarray = pytest.importorskip("xarray")
    rows = xarray.open_zarr(store.path, consolidated=True)
    assert rows["scores"].sel(base="C").shape == (9, 2, 16)


def test_damage_is_named_and_computed_again(attributed, place):
    store = attributed(place, method="tism")
    before = store.scores()
    content = bytearray(store.folder.get("scores/c/1/0/0/0"))
    content[40] ^= 1
    store.folder.put("scores/c/1/0/0/0", bytes(content))
    store.folder.put("sequence/c/3/0", b"short")
    store.folder.remove("sequence/zarr.json")
    report = verify_peaks(store.path)
    assert [str(damage.what) for damage in report.damaged] == ["peaks 7-8"]
    assert [damage.what for damage in report.mended] == ["sequence/zarr.json"]
    report = verify_peaks(store.path, full=True)
    assert [str(damage.what) for damage in report.damaged] == ["peaks 3-4"]
    assert report.n_pending == 2
    np.testing.assert_array_equal(attributed(place, method="tism").scores(), before)
    assert verify_peaks(store.path, full=True).is_sound


def test_a_part_of_which_one_object_is_there_is_pending_and_no_damage(attributed):
    store = attributed(method="tism")
    (marker,) = (store.path / ".scan" / "done").glob("1.2.*")
    marker.unlink()
    assert [part.i_part for part in store.pending()] == [2]
    assert verify_peaks(store.path, full=True).damaged == []


def test_a_model_that_gives_nan_fails_the_parts_that_it_spoils(
    attributed, tiny_genome, narrow_peak, tmp_path
):
    class Broken(torch.nn.Module):
        def forward(self, X):
            return torch.where(X[:, 0, :1] > 0, torch.nan, 1.0) * X[:, :, 12].sum(1, keepdim=True)

    model = LoadedModel(Broken(), INPUT_BP, "ACGT")
    store = attributed(model=model, tracks="0", method="ism")
    failures = store.ledger.failures()
    assert failures
    assert all("the model gives NaN or infinity at " in failure.error for failure in failures)
    status = store_status(store.path)
    assert status["total"]["parts_failed"] == len(failures)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"width": 15}, PlanError, "a width of 15 has no middle"),
        ({"width": 26}, PlanError, "a width of 26 bp is more than the model's window of 24 bp"),
        ({"method": "shap"}, PlanError, "method 'shap' is not known"),
        ({"strands": "reverse"}, PlanError, "strands 'reverse' is not known"),
        ({"method": "ism", "path": (1, 0.5)}, PlanError, "which is not made of gradients"),
        ({"peaks": ""}, RegionError, "holds no peak"),
        ({"peaks": "chr9\t1\t5\n"}, RegionError, "chr9"),
        ({"peaks": "chr1\t5\n"}, RegionError, "line 1"),
        ({"peaks": "chr1\t5\t9\ta\t1\t.\t1\t1\t1\t60\n"}, RegionError, "outside its peak"),
    ],
)
def test_what_cannot_be_used_is_refused(attributed, tmp_path, settings, error, message):
    if "peaks" in settings:
        path = tmp_path / "bad.narrowPeak"
        path.write_text(settings["peaks"])
        settings = settings | {"peaks": path}
    with pytest.raises(error, match=message):
        attributed(**settings)
    assert not (tmp_path / "p.zarr").exists()


def test_each_kind_of_store_is_refused_where_the_other_is_expected(attributed, genome, tmp_path):
    store = attributed(method="tism")
    with pytest.raises(StoreError, match="is a store of peaks; expected one that `tism-scan run` made"):
        ScoreStore.open(store.path)
    scoring = Scoring(store.settings.method.tracks, INPUT_BP, 8)
    plan = ScanPlan(scoring, "g", "w", {"chr1": 379}, {"chr1": ((0, 379),)})
    scan = ScoreStore.create(tmp_path / "scan.zarr", plan)
    with pytest.raises(StoreError, match=r"scan\.zarr"):
        attributed("scan.zarr", method="tism")
    assert ScoreStore.open(scan.path).plan == plan
    with pytest.raises(StoreError, match="is a store of peaks"):
        ScoreStore.create(store.path, plan)


def test_peaks_survive_their_table(tiny_genome, narrow_peak, genome):
    peaks = read_peaks(narrow_peak, genome.chroms)
    peaks = replace(peaks, columns=("a\u2028b\t0\t.\t0\t-1\t-1", *peaks.columns[1:]))  # no end of a line
    again = PeakSet.from_table(peaks.table())
    assert again.table() == peaks.table()
    np.testing.assert_array_equal(again.centers, peaks.centers)
    assert (again.chroms, again.labels, again.columns) == (peaks.chroms, peaks.labels, peaks.columns)


def test_parts_are_neither_too_large_nor_too_few(attributed):
    settings = attributed(method="tism").settings
    assert settings.fitting_part(1_000_000) == 256
    assert settings.fitting_part(640) == 16
    assert settings.fitting_part(5) == 1
    exact = replace(settings, method=replace(settings.method, method="ism"), input_bp=2000, width=400)
    assert exact.passes_per_peak == 1201
    assert exact.fitting_part(1_000_000) == 16
    shap = replace(settings, method=replace(settings.method, method="deepliftshap", strands="both"))
    assert shap.passes_per_peak == 160


@pytest.mark.parametrize("wrong", ["scores", "codes"])
def test_rows_that_do_not_fit_their_part_are_not_published(attributed, wrong):
    store = attributed(method="tism")
    part = next(store.plan.parts())
    rows = {"scores": store.scores(start=0, end=2), "codes": store.sequence(start=0, end=2)}
    rows[wrong] = rows[wrong][..., 1:]
    with pytest.raises(ValueError, match="have shape"):
        store.publish_rows(part, **rows)


def test_peaks_that_are_not_those_of_the_plan_are_said(attributed):
    store = attributed(method="tism")
    table = next((store.path / ".scan/input").iterdir())
    table.write_text(table.read_text().replace("chr2", "chr1", 1))
    with pytest.raises(StoreError, match=r"the peaks of .* are not those of its plan; restore its"):
        _ = PeakStore.open(store.path).peaks


def test_a_store_that_was_deleted_is_not_written(attributed, tiny_genome, tiny_model, narrow_peak):
    store = attributed(method="tism")
    planned = plan_peaks(tiny_genome, tiny_model, narrow_peak, tracks="0,2", width=WIDTH, peaks_per_part=2)
    store.delete()
    with pytest.raises(StoreError, match="was deleted"):
        attribute_pending(planned, store)
    with pytest.raises(StoreError, match="is not there, or holds no parts"):
        PeakStore.open(store.path)


def test_a_model_that_fails_ends_no_estimate(tiny_genome, narrow_peak):
    class Broken(torch.nn.Module):
        def forward(self, X):
            return X[:, :, 12].sum(1, keepdim=True) / 0

    model = LoadedModel(Broken(), INPUT_BP, "ACGT")
    planned = plan_peaks(tiny_genome, model, narrow_peak, width=WIDTH, method="ism")
    assert estimate_peaks(planned) is None


@pytest.mark.parametrize(("method", "bp_timed"), [("tism", 64), ("ism", 64), ("ism", 4)])
def test_an_estimate_is_how_many_peaks_the_device_has_done_in_a_second(
    tiny_genome, tiny_model, tmp_path, monkeypatch, method, bp_timed
):
    peaks = tmp_path / "without_n.bed"
    peaks.write_text("".join(f"chr1\t{start}\t{start + 20}\n" for start in range(20, 110, 10)))
    s_per_pass, passes = 0.01, []
    tiny_model.register_forward_pre_hook(lambda model, inputs: passes.append(len(inputs[0])))
    clock = SimpleNamespace(perf_counter=lambda: s_per_pass * sum(passes))
    monkeypatch.setattr(estimate, "time", clock)
    monkeypatch.setattr(estimate, "_ISM_BP_TIMED", bp_timed)
    planned = plan_peaks(
        tiny_genome, tiny_model, peaks, tracks=0, width=WIDTH, method=method, peaks_per_part=9
    )
    found = estimate_peaks(planned)
    expected = 1 / (s_per_pass * planned.settings.passes_per_peak)
    assert found.peaks_per_s == pytest.approx(expected)
    assert found.device
