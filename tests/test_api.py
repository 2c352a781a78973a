"""The Python API, as a notebook uses it."""

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import WEIGHTS, tism_scan
from sequences import random_sequence
from variant_stores import vcf_text

import tism_scan as ts
from tism_scan import api
from tism_scan.effects.worker import EffectWorker
from tism_scan.locus.auditing import audit
from tism_scan.models.source import model_source
from tism_scan.scan.verify import Sample, verify_store

PACKAGES = [
    *(
        "genome",
        "plan",
        "store",
        "scan",
        "ray_scan",
        "engine",
        "models",
        "locus",
        "export",
        "bigwig",
        "browser",
    ),
    *("plot", "attribution", "errors", "storage", "demo", "cli"),
]


class Linear(torch.nn.Module):
    """A model as a notebook defines one: TISM equals ISM exactly."""

    input_bp, alphabet = 24, "ACGT"

    def __init__(self, n_outputs=2):
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(96, n_outputs)

    def forward(self, X):
        return self.layer(X.flatten(1))


class Shared(Linear):
    """The same on a trunk, of layers that are followed one by one, or not."""

    def __init__(self, act=torch.nn.ReLU):
        super().__init__(2)
        self.trunk = torch.nn.Sequential(torch.nn.Conv1d(4, 4, 3), act())
        self.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(88, 2))

    def forward(self, X):
        return self.head(self.trunk(X))


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">chr1\n{random_sequence(1200, 1)}NNN\n>chr2\n{random_sequence(300, 2)}\n")
    return path


@pytest.fixture(scope="module")
def linear_store(genome, tmp_path_factory):
    plan = ts.plan_scan(genome, Linear(), tracks="all", track_names=["one", "two"], stride=6, values="tism")
    return ts.scan(plan, tmp_path_factory.mktemp("scan") / "scores.zarr")


@pytest.mark.parametrize("make", [Linear, Shared, lambda: Shared(torch.nn.GELU)])
def test_default_dtype_of_pytorch_changes_no_score(genome, tmp_path, make):
    model = make()
    found = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            plan = ts.plan_scan(genome, model, tracks=0, groups=("both=0,1",), stride=6, stitch="mean")
            found.append(ts.scan(plan, tmp_path / f"{len(found)}.zarr").read("chr2"))
            found.append(ts.attribute(model, genome=genome, region="chr2", tracks=0, stride=6).values)
        finally:
            torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], found[3])


@pytest.mark.parametrize("make", [Linear, Shared, lambda: Shared(torch.nn.GELU)])
def test_calls_in_inference_mode_give_the_same_scores_by_the_same_engine(genome, tmp_path, make):
    model = make()
    found = []
    for is_inferring in (False, True):
        with torch.inference_mode(is_inferring):
            plan = ts.plan_scan(genome, model, tracks=0, stride=6)
            store = ts.scan(plan, tmp_path / f"{is_inferring}.zarr")
            sample = Sample(1, genome, model_source(model))
            assert verify_store(store.path, sample=sample).recomputed[0].is_equal
            scores = ts.attribute(model, genome=genome, region="chr2", tracks=0, stride=6).values
            engine = ts.make_engine(plan.loaded, plan.plan.scoring)
            with ts.Genome(genome) as opened:
                audited = audit(plan.loaded, opened, plan.plan.scoring.tracks, n_windows=2, core_bp=4)
            found.append((plan.sharing, type(engine), store.read("chr2"), scores, audited[0].approximate))
    for without, within in zip(*found, strict=True):
        np.testing.assert_array_equal(without, within)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_names_their_homes_and_their_types_are_listed_alike():
    source = Path(ts.__file__).read_text()
    typed = re.search(r"if TYPE_CHECKING:\n((?:    .*\n)+)", source)[1]
    names = re.findall(r"\w+", " ".join(line.partition(" import ")[2] for line in typed.splitlines()))
    assert sorted(names) == sorted(ts.__all__) == sorted(ts._HOMES)
    assert ts.__all__ == sorted(ts.__all__)
    assert {*dir(ts)} == {*ts.__all__, "__version__"}


@pytest.mark.parametrize("name", ts.__all__)
def test_every_name_is_there(name):
    assert getattr(ts, name) is not None


# What could be imported before the modules were given folders.
FORMER = {
    "tism_scan": (
        "Beluga Genome Interval RayOptions ScanPlan ScoreStore Scoring TismScanError Track WindowEngine "
        "export_bigwigs load_beluga make_engine parse_region read_track_names scan_on_ray scan_serially "
        "select_tracks wanted_spans weights_digest write_bigwig __version__"
    ),
    "tism_scan.attribution": (
        "Agreement Concordance concordance deep_lift_shap frozen gradient ism mean_tism "
        "mean_tism_from_gradient one_hot tism tism_from_gradient transform random_one_hot substitute"
    ),
    "tism_scan.plot": "Span plot_attribution plot_concordance",
    "tism_scan.errors": (
        "TismScanError InputError GenomeError WeightsError ModelError TrackError RegionError PlanError "
        "StoreError ExportError ClusterError AccessError LeaseError StorageFullError StorageError ScanError"
    ),
    "tism_scan.bigwig": "BigWigSummary write_bigwig",
    "tism_scan.browser": "TrackFile check_browser_options track_files write_browser_files",
    "tism_scan.export": "export_bigwigs",
    "tism_scan.genome": "Genome",
    "tism_scan.plan": "ScanPlan Scoring",
    "tism_scan.store": "ScoreStore",
    "tism_scan.scan": "scan_serially",
    "tism_scan.ray_scan": "RayOptions scan_on_ray",
    "tism_scan.engine": "WindowEngine",
    "tism_scan.models": "ModelSource",
}


@pytest.mark.parametrize("module", FORMER)
def test_names_of_earlier_code_stay(module):
    home = import_module(module)
    assert [name for name in FORMER[module].split() if not hasattr(home, name)] == []


def test_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tism_scan' has no attribute 'scam'"):
        ts.scam  # noqa: B018


@pytest.mark.parametrize("name", PACKAGES)
def test_package_says_what_it_holds_and_gives_it(name):
    package = import_module(f"tism_scan.{name}")
    assert len(package.__doc__) > 40
    for offered in getattr(package, "__all__", ()):
        assert getattr(package, offered) is not None
        submodule = Path(package.__file__).parent / f"{offered}.py"
        assert not submodule.exists(), f"{offered} hides a module of its package"


@pytest.mark.parametrize("first", ["", "tism_scan.plot", "tism_scan.scan, tism_scan.attribution"])
def test_packages_load_by_themselves_whatever_was_imported_before(first):
    code = f"import {first}\n" if first else ""
    code += "import tism_scan as ts\nprint(ts.attribution.__name__, ts.plot.__name__)\n"
    code += "print(callable(ts.plot), callable(ts.scan))"
    assert run(code).split() == ["tism_scan.attribution", "tism_scan.plot", "True", "True"]


@pytest.mark.parametrize(("package", "function"), [(ts.scan, api.scan), (ts.plot, api.plot)])
def test_packages_that_are_called_show_what_they_take(package, function):
    assert inspect.signature(package) == inspect.signature(function)


def test_scan_by_the_api_and_by_the_command_line_give_one_store(genome, tmp_path):
    settings = {"tracks": "0,2", "strands": "both", "regions": "chr1:1-900", "block_bp": 512}
    store = ts.scan(ts.plan_scan(str(genome), str(WEIGHTS), **settings), str(tmp_path / "api.zarr"))
    arguments = ["run", "--genome", genome, "--weights", WEIGHTS, "--tracks", "0,2", "--strands", "both"]
    arguments += ["--region", "chr1:1-900", "--block-bp", "512", "--actors", "1"]
    done = tism_scan(*arguments, "--out", tmp_path / "cli.zarr")
    assert done.returncode == 0, done.stderr
    typed = ts.ScoreStore.open(tmp_path / "cli.zarr")
    assert typed.plan == store.plan
    np.testing.assert_allclose(typed.read("chr1"), store.read("chr1"), rtol=0, atol=1e-6)


def test_scan_resumes_and_tells_how_far_it_is(genome, tmp_path):
    plan, seen = ts.plan_scan(genome, Linear(1), stride=6, block_bp=120), []

    def stop_halfway(progress):
        seen.append(progress)
        if progress.fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.scan(plan, tmp_path / "scores.zarr", on_progress=stop_halfway)
    n_done = len(ts.ScoreStore.open(tmp_path / "scores.zarr").done_blocks())
    assert 0 < n_done < 14
    ts.scan(plan, tmp_path / "scores.zarr", on_progress=seen.append)
    assert isinstance(seen[-1], ts.Progress)
    assert seen[-1].n_blocks == 14 - n_done


def test_plan_needs_a_choice_of_tracks_if_there_are_several(genome):
    with pytest.raises(ts.TismScanError, match="no track was chosen of the model's 2 outputs"):
        ts.plan_scan(genome, Linear(), stride=6)
    assert ts.plan_scan(genome, Linear(1), stride=6).plan.scoring.tracks[0].outputs == (0,)


def test_module_of_a_notebook_stays_as_it_is(genome):
    model = Linear().double().train()
    ts.plan_scan(genome, model, tracks=0, stride=6)
    ts.attribute(model, "ACGTACGT", tracks=0)
    assert model.training
    assert {(each.dtype, each.requires_grad) for each in model.parameters()} == {(torch.float64, True)}


def test_module_in_memory_does_not_go_to_ray_and_leaves_no_store(genome, tmp_path):
    plan = ts.plan_scan(genome, Linear(1), stride=6)
    with pytest.raises(
        ts.TismScanError, match="is in the memory of this process; Ray's actors cannot load it"
    ):
        ts.scan(plan, tmp_path / "scores.zarr", ray=True)
    assert not (tmp_path / "scores.zarr").exists()


def test_failed_blocks_raise_and_the_others_are_kept(genome, tmp_path):
    class Broken(Linear):
        def forward(self, X):
            return super().forward(X) * torch.where(X.sum((1, 2)) < 20, torch.nan, 1.0)[:, None]

    plan = ts.plan_scan(genome, Broken(1), stride=6, block_bp=120)
    with pytest.raises(ts.TismScanError, match=r"scores.zarr failed every attempt.*chr1:1-120: the model"):
        ts.scan(plan, tmp_path / "scores.zarr")
    assert np.isfinite(ts.ScoreStore.open(tmp_path / "scores.zarr").read("chr1:241-360")).all()


def test_variants_whose_part_failed_raise_once_the_file_is_written(genome, tmp_path, monkeypatch):
    def failing(self, fetched):
        raise RuntimeError("no luck")

    monkeypatch.setattr(EffectWorker, "compute", failing)
    (tmp_path / "in.vcf").write_text(vcf_text([("chr1", 5, "N", "A")]))
    planned = ts.plan_effects(genome, Linear(), tmp_path / "in.vcf", tracks="all")
    with pytest.raises(ts.TismScanError, match=r"1 part of .*out.tsv.gz.parts failed every attempt.*no luck"):
        ts.score_variants(planned, tmp_path / "out.tsv.gz")
    assert (tmp_path / "out.tsv.gz").exists()


def test_scores_are_read_by_region_and_track(linear_store):
    one = linear_store.read("chr1:101-200", track="two")
    assert one.shape == (100,)
    np.testing.assert_array_equal(linear_store.read("chr1:101-200", track=1), one)
    np.testing.assert_array_equal(linear_store.read(ts.Interval("chr1", 100, 200), ["two"]), one[None])
    both = linear_store.read("chr1:101-200")
    np.testing.assert_array_equal(both[1], one)
    np.testing.assert_array_equal(linear_store.read("chr1:101-200", ["t*", 0]), both)
    tism = linear_store.read_tism("chr1:101-200", "two")
    np.testing.assert_allclose(-tism.sum(0) / 3, one, rtol=0, atol=1e-7)
    assert np.isnan(linear_store.read("chr1:1,201-1,203", "one")).all()


@pytest.mark.parametrize(
    ("region", "track", "message"),
    [
        ("chr9:1-2", "one", "'chr9' is no chrom"),
        ("chr1:1-2000", "one", "ends past the end"),
        ("chr1:1-9", "three", "'three' fits no track of the store"),
        ("chr1:1-9", "*", r"'\*' fits 2 tracks \('0', '1'\); expected one"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(linear_store, region, track, message):
    with pytest.raises(ts.TismScanError, match=message):
        linear_store.read(region, track)


def test_store_of_mean_tism_has_no_channels_to_read(genome, tmp_path):
    store = ts.scan(ts.plan_scan(genome, Linear(1), stride=6, regions="chr2"), tmp_path / "scores.zarr")
    with pytest.raises(ts.TismScanError, match="holds mean TISM, one value a base"):
        store.read_tism("chr2:1-9")


def test_xarray_bears_positions_bases_and_names(linear_store):
    array = linear_store.to_xarray("chr1:101-200")
    assert array.dims == ("track", "base", "position")
    assert list(array["track"].values) == ["one", "two"]
    first = linear_store.read_tism("chr1:101-101", "two")
    assert array.sel(position=100, base="C", track="two") == first[1, 0]
    assert linear_store.to_xarray("chr1:101-200", "one").dims == ("base", "position")


def test_tism_of_a_linear_model_is_ism_by_either_way_in(genome, linear_store):
    sequence = random_sequence(24, 5)
    by_tism, by_ism = (ts.attribute(Linear(), sequence, tracks="all", method=m) for m in ("tism", "ism"))
    assert by_tism.values.shape == (2, 4, 24)
    np.testing.assert_allclose(by_tism.values, by_ism.values, rtol=0, atol=1e-6)
    region = "chr1:301-400"
    scores = ts.attribute(Linear(), genome=genome, region=region, tracks=1, stride=6)
    np.testing.assert_allclose(scores.values[0], linear_store.read(region, "two"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("given", [{}, {"region": "chr1:1-9"}, {"sequence": "ACGT", "region": "chr1:1-9"}])
def test_attribute_takes_a_sequence_or_a_region(genome, given):
    with pytest.raises(ts.TismScanError, match="attribute takes a sequence, or a genome and a region"):
        ts.attribute(Linear(1), **given)


def test_plot_draws_loci_of_one_or_several_methods(tmp_path):
    scores = [ts.attribute(Linear(1), random_sequence(24, 5), method=m) for m in ("mean-tism", "gradxinput")]
    for drawn in (scores[0], scores):
        figure = ts.plot(drawn, spans=[(3, 9, "site")])
        figure.savefig(tmp_path / "locus.png")
        assert len(figure.axes) >= np.size(drawn)


def test_path_of_the_class_model_is_no_pitfall():
    assert issubclass(ts.Beluga, ts.Model)
    assert isinstance(ts.load_beluga(WEIGHTS), ts.Model)


@pytest.mark.parametrize("page", ["README.md", ".github/docs/python.md"])
def test_examples_of_the_pages_run(page, genome, tmp_path):
    root = Path(__file__).parents[1]
    blocks = re.findall(r"```python\n(.*?)```", (root / page).read_text(), re.DOTALL)
    (tmp_path / "names.txt").write_text("".join(f"K562_CTCF_{i}\n" for i in range(7)))
    (tmp_path / "calls.vcf").write_text(vcf_text([("chr1", 600, "A", "C,G")]))
    stand_ins = {
        "hg38.fa": str(genome),
        "deepsea.beluga.pth": str(WEIGHTS),
        "predictor_names.txt": str(tmp_path / "names.txt"),
        "scores.zarr": str(tmp_path / "scores.zarr"),
        "calls.vcf.gz": str(tmp_path / "calls.vcf"),
        "calls.parquet": str(tmp_path / "calls.parquet"),
        '"bigwig"': repr(str(tmp_path / "bigwig")),
        "267": "3",
        "1,000,001-1,001,000": "1-300",
        "1,000,001-1,000,200": "1-20",
        "1,000,001-1,100,000": "1-300",
    }
    lines, scope = 0, {}
    for block in blocks:
        for name, stand_in in stand_ins.items():
            block = block.replace(name, stand_in)
        if "ScanPlan" in block:  # another plan
            block = block.replace("scores.zarr", "other.zarr")
        exec(compile(block, page, "exec"), scope)
        lines += block.count("\n")
    assert lines > 5
    assert scope["store"].read("chr1:1-9").shape[1] == 9
