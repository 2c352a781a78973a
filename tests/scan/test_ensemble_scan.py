"""Folds scanned together: the store, what reads it, and the command line."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyBigWig
import pytest
import torch
from bpnet_files import chrombpnet_config, keras_names, random_network, write_keras
from click.testing import CliRunner
from command_line import tism_scan
from torch import nn

import tism_scan as ts
from tism_scan.cli import cli
from tism_scan.engine.choice import make_engine
from tism_scan.engine.ensemble_engine import scoring_of_member
from tism_scan.errors import PlanError, StoreError
from tism_scan.export.bigwigs import export_bigwigs
from tism_scan.export.browsers import describe_export
from tism_scan.genome.fasta import Genome
from tism_scan.models.source import ModelSource
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.refine import plan_refinement, refine
from tism_scan.scan.estimate import count_work, estimate_scan
from tism_scan.scan.verify import Sample, verify_store
from tism_scan.store.refined import existing_refinement
from tism_scan.variants.calibration import calibrate

FACTORY = """
import torch


class Net(torch.nn.Module):
    input_bp, alphabet, output_names = 40, "ACGT", ("one", "two")

    def __init__(self, weights):
        super().__init__()
        self.trunk = torch.nn.Sequential(torch.nn.Conv1d(4, 5, 7), torch.nn.ReLU())
        self.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5 * 34, 2))
        self.load_state_dict(torch.load(weights, weights_only=True))

    def forward(self, X):
        return self.head(self.trunk(X))
"""
N_BP = 600
ASKED = {"tracks": "one,two", "stride": 10, "block_bp": 200}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a genome, a factory, and the weights of three folds."""
    folder = tmp_path_factory.mktemp("folds")
    (folder / "nets_of_a_scan.py").write_text(FACTORY)
    letters = "".join(np.random.default_rng(2).choice(list("ACGT"), N_BP))
    (folder / "genome.fa").write_text(f">chr1\n{letters[:300]}NNNN{letters[304:]}\n>chr2\n{letters[:90]}\n")
    for i in range(3):
        torch.manual_seed(i)
        body = nn.ModuleDict(
            {
                "trunk": nn.Sequential(nn.Conv1d(4, 5, 7), nn.ReLU()),
                "head": nn.Sequential(nn.Flatten(), nn.Linear(5 * 34, 2)),
            }
        )
        torch.save(body.state_dict(), folder / f"fold_{i}.pt")
    return folder


def sources(folder, *order):
    return [ModelSource("nets_of_a_scan:Net", folder / f"fold_{i}.pt", folder=folder) for i in order]


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory):
    """Return a finished store of mean and standard deviation over three folds."""
    planned = ts.plan_scan(folder / "genome.fa", sources(folder, 0, 1, 2), values="mean+sd", **ASKED)
    return ts.scan(planned, tmp_path_factory.mktemp("scan") / "sd.zarr")


@pytest.fixture(scope="module")
def each(folder, tmp_path_factory):
    """Return the scores of each fold by itself, (fold, track, base) of chr1."""
    out, found = tmp_path_factory.mktemp("each"), []
    for i in range(3):
        planned = ts.plan_scan(folder / "genome.fa", sources(folder, i)[0], **ASKED)
        found.append(ts.scan(planned, out / f"{i}.zarr").read("chr1"))
    return np.stack(found).astype(np.float64)


def test_store_holds_mean_and_standard_deviation_of_the_folds_scores(store, each):
    np.testing.assert_allclose(store.read("chr1"), each.mean(0), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(store.read_sd("chr1"), each.std(0, ddof=1), rtol=1e-4, atol=1e-9)
    assert np.isnan(store.read_sd("chr1", "two")[300:304]).all()
    assert "standard deviation over models" in repr(store)


def test_record_names_every_fold_and_a_format_of_its_own(store, folder):
    run = json.loads((store.path / ".scan" / "run.json").read_text())
    digests = [ts.weights_digest(folder / f"fold_{i}.pt") for i in range(3)]
    assert run["plan"]["weights_digest"] == "+".join(sorted(digests))
    assert run["plan"]["scoring"]["values"] == "mean+sd"
    of_earlier_release = replace(store.plan, codec="zstd").to_json()
    assert of_earlier_release["format"] == 6
    assert ScanPlan.from_json(of_earlier_release).digest() != store.plan.digest()
    assert ScanPlan.from_json(run["plan"]).digest() == store.plan.digest()


def test_plain_readers_find_the_statistics_by_name(store):
    xarray = pytest.importorskip("xarray")
    opened = xarray.open_zarr(store.path)
    assert list(opened["statistic"].values) == ["mean", "sd"]
    assert opened["chr1"].dims == ("track", "statistic", "position_chr1")
    assert store.to_xarray("chr1:1-50", "one").sel(statistic="sd").shape == (50,)


def test_mean_alone_has_the_format_that_earlier_releases_read(folder, tmp_path, each, store):
    planned = ts.plan_scan(folder / "genome.fa", sources(folder, 2, 0, 1), **ASKED)
    assert replace(planned.plan, codec="zstd").to_json()["format"] == 3
    mean = ts.scan(planned, tmp_path / "mean.zarr")
    np.testing.assert_array_equal(mean.read("chr1"), store.read("chr1"))
    with pytest.raises(StoreError, match="holds no standard deviation; expected a store of several models"):
        mean.read_sd("chr1")


def test_resume_takes_the_folds_in_any_order_and_refuses_fewer(folder, store):
    again = ts.plan_scan(folder / "genome.fa", sources(folder, 1, 2, 0), values="mean+sd", **ASKED)
    assert ts.scan(again, store.path).plan == store.plan
    fewer = ts.plan_scan(folder / "genome.fa", sources(folder, 1, 2), values="mean+sd", **ASKED)
    with pytest.raises(
        StoreError, match=r"made under another plan: weights_digest \w+\+\w+\+\w+, not \w+\+\w+"
    ):
        ts.scan(fewer, store.path)


def test_standard_deviation_of_one_fold_is_refused_before_anything_is_made(folder):
    with pytest.raises(PlanError, match=r"there is one; expected two or more; give --weights for each"):
        ts.plan_scan(folder / "genome.fa", sources(folder, 0)[0], values="mean+sd", **ASKED)


def test_verify_finds_recomputed_blocks_equal(store, folder):
    sample = Sample(2, folder / "genome.fa", ts.models.model_source(sources(folder, 2, 1, 0)))
    report = verify_store(store.path, full=True, sample=sample)
    assert report.is_sound
    assert [found.n_unequal for found in report.recomputed] == [0, 0]


def test_export_writes_the_deviation_beside_each_mean(store, tmp_path):
    summaries = export_bigwigs(store, tmp_path / "bigwig")
    names = ["0000_one.bw", "0000_one_sd.bw", "0001_two.bw", "0001_two_sd.bw"]
    assert [summary.path.name for summary in summaries] == names
    for name, expected in ((names[2], store.read("chr1", 1)), (names[3], store.read_sd("chr1", 1))):
        with pyBigWig.open(str(tmp_path / "bigwig" / name)) as file:
            held = file.values("chr1", 0, N_BP, numpy=True)
        np.testing.assert_array_equal(held.astype(np.float32), expected)
    describe_export(store, tmp_path / "bigwig", summaries)
    assert "(n - 1) of mean TISM over the 3 models" in (tmp_path / "bigwig" / "README.txt").read_text()
    assert "_sd" not in (tmp_path / "bigwig" / "hub.txt").read_text()
    assert "_sd" not in (tmp_path / "bigwig" / "tracks.tsv").read_text()
    assert not [s for s in export_bigwigs(store, tmp_path / "bigwig") if s not in summaries]


def test_file_of_a_track_is_never_another_tracks_deviation(folder, tmp_path):
    planned = ts.plan_scan(
        folder / "genome.fa",
        sources(folder, 0, 1),
        values="mean+sd",
        groups=["g=all", "g_sd=all"],
        stride=10,
        regions="chr1:1-50",
    )
    made = ts.scan(planned, tmp_path / "s.zarr")
    with pytest.raises(ts.TismScanError, match=r"two files would be 'g_sd.bw'"):
        export_bigwigs(made, tmp_path / "bigwig")


def test_ranks_are_those_of_the_mean(store):
    ranks = calibrate(store)
    assert (len(ranks.mean), len(ranks.substitutions)) == (2, 0)
    assert ranks.mean[0].n == sum(np.isfinite(store.read(chrom, 0)).sum() for chrom in ("chr1", "chr2"))


@pytest.mark.parametrize("method", ["mean-tism", "mean-ism", "gradxinput"])
def test_attribute_takes_the_mean_of_the_folds(folder, method):
    asked = {"genome": folder / "genome.fa", "region": "chr1:101-160", "tracks": "one", "method": method}
    for space in ("logit", "probability"):
        alone = [
            ts.attribute(source, **asked, stride=10, output_space=space).values
            for source in sources(folder, 0, 1, 2)
        ]
        found = ts.attribute(sources(folder, 0, 1, 2), **asked, stride=10, output_space=space).values
        np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-6)


def test_commands_take_weights_several_times(folder, tmp_path, monkeypatch):
    model = ["--model", "nets_of_a_scan:Net"]
    model += [word for i in range(3) for word in ("--weights", f"fold_{i}.pt")]
    asked = ["--genome", "genome.fa", "--tracks", "one", "--stride", "10", "--values", "mean+sd"]
    out = tmp_path / "s.zarr"
    ran = tism_scan("run", *model, *asked, "--out", out, cwd=folder, is_without_ray=True)
    assert ran.returncode == 0, ran.stderr
    monkeypatch.chdir(folder)
    assert "mean TISM, and its standard deviation over models, of the logit" in said("status", out)
    assert "1 equal to the bit" in said("verify", out, "--recompute", 1, "--genome", "genome.fa", *model)
    assert said("tracks", *model) == "0\tone\n1\ttwo\n"
    assert "3 x TrunkEngine" in said("bench", *model, "--seconds", 0.01, "--stride", 10, "--device", "cpu")
    assert "0000_one_sd.bw" in said("export", out, "--out", tmp_path / "bigwig", "--jobs", 1)
    assert "holds mean TISM" in said("export", out, "--format", "snv-tsv", "--out", tmp_path / "x")


def said(*arguments):
    """Return what a command printed in this process, or the error that ended it."""
    done = CliRunner().invoke(cli, [str(word) for word in arguments], standalone_mode=False)
    return done.output + (str(done.exception) if done.exception else "")


def test_exact_ism_of_a_refinement_is_that_of_the_mean(folder, store, tmp_path):
    copied = tmp_path / "copy.zarr"
    shutil.copytree(store.path, copied)
    planned = plan_refinement(
        ts.ScoreStore.open(copied), folder / "genome.fa", sources(folder, 2, 1, 0), quantile=0.9
    )
    refine(planned)
    found = existing_refinement(ts.ScoreStore.open(copied)).read_tism("chr1:101-200", "one")
    asked = {"genome": folder / "genome.fa", "region": "chr1:101-200", "tracks": "one", "stride": 10}
    ism = [ts.attribute(source, **asked, method="ism").values[0] for source in sources(folder, 0, 1, 2)]
    is_refined = np.isfinite(found)
    assert is_refined.any()
    np.testing.assert_allclose(found[is_refined], np.mean(ism, axis=0)[is_refined], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "fold_0.pt", "--weights", "fold_0.pt"], "are the same model"),
        (["--weights", "fold_0.pt", "--values", "mean+sd"], "there is one; expected two or more"),
    ],
)
def test_bad_folds_get_one_line_and_exit_code_2(folder, tmp_path, arguments, message):
    asked = ["--model", "nets_of_a_scan:Net", "--genome", "genome.fa", "--tracks", "one", "--stride", "10"]
    ran = tism_scan("run", *asked, *arguments, "--out", tmp_path / "s.zarr", cwd=folder, is_without_ray=True)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "s.zarr").exists()


@pytest.fixture(scope="module")
def keras_folds(tmp_path_factory):
    """Return a folder with ChromBPNet's files of three folds, and of one that reads longer windows."""
    folder = tmp_path_factory.mktemp("keras")
    for i, input_bp in enumerate((400, 400, 400, 420)):
        state = random_network(n_layers=3, seed=i)
        config = chrombpnet_config(input_bp, crop_bp=39)
        write_keras(folder / f"fold_{i}.h5", state, keras_names(state, "wo_bias_bpnet_"), config=config)
    return folder


def weights_of(*names):
    return [word for name in names for word in ("--weights", name)]


def test_folds_of_keras_files_are_scanned_as_their_mean(folder, keras_folds, tmp_path):
    asked = {"tracks": "counts,profile", "stride": 100, "stitch": "mean", "regions": "chr1:1-400"}
    files = [ModelSource("chrombpnet", keras_folds / f"fold_{i}.h5") for i in range(3)]
    each, together = (
        [
            ts.scan(ts.plan_scan(folder / "genome.fa", model, **asked), tmp_path / f"{name}_{i}.zarr")
            for i, model in enumerate(models)
        ]
        for name, models in (("each", files), ("together", [files]))
    )
    expected = np.mean([store.read("chr1:1-400") for store in each], axis=0)
    np.testing.assert_allclose(together[0].read("chr1:1-400"), expected, rtol=1e-5, atol=1e-8)


def test_plan_of_folds_says_what_they_all_do_once_and_counts_what_each_computes(folder, keras_folds, caplog):
    files = [ModelSource("chrombpnet", keras_folds / f"fold_{i}.h5") for i in range(3)]
    asked = {"tracks": "counts", "stride": 100, "regions": "chr1:1-400"}
    planned = ts.plan_scan(folder / "genome.fa", files, values="mean+sd", **asked)
    assert sum("backward passes" in record.getMessage() for record in caplog.records) == 1
    scoring = planned.plan.scoring
    alone = make_engine(files[0].load(), scoring_of_member(scoring), device="cpu")
    together = make_engine(planned.loaded, scoring, device="cpu")
    with Genome(folder / "genome.fa") as genome:
        work = count_work(genome, planned.plan)
        estimate = estimate_scan(genome, planned.plan, work, together, seconds=0.01)
    assert estimate.flop == pytest.approx(3 * alone.flop_per_window() * work.n_windows)
    assert estimate.n_windows == 4


def test_audit_of_folds_that_are_linear_finds_tism_exact(folder, monkeypatch):
    (folder / "linear_nets.py").write_text(FACTORY.replace(", torch.nn.ReLU()", ""))
    monkeypatch.chdir(folder)
    model = ["--model", "linear_nets:Net", *weights_of("fold_0.pt", "fold_1.pt")]
    found = said("audit", *model, "--genome", "genome.fa", "--tracks", "one", "--n", 3, "--core-bp", 10)
    assert [word.strip() for word in found.split("one")[1].split("│")[2:7]] == ["1.000"] * 4 + ["1.00"]


@pytest.mark.parametrize("command", ["plan", "audit"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("fold_0.h5", "fold_3.h5"),
            "fold_0.h5 has input_bp 400, and fold_3.h5 has 420; expected",
        ),
        (("fold_1.h5", "fold_1.h5"), "fold_1.h5 and fold_1.h5 are the same model"),
        (("fold_0.h5", "none.h5"), "cannot read the weights none.h5: No such file or directory"),
    ],
    ids=["another length", "twice", "missing"],
)
def test_bad_folds_are_refused_by_name(folder, keras_folds, monkeypatch, command, names, message):
    monkeypatch.chdir(keras_folds)
    model = ["--model", "chrombpnet", *weights_of(*names)]
    assert message in said(command, *model, "--genome", folder / "genome.fa", "--tracks", "counts")


@pytest.mark.parametrize("command", ["plan", "audit"])
def test_fold_with_other_outputs_is_refused_by_name(folder, monkeypatch, command):
    (folder / "nets_of_three.py").write_text(
        "from nets_of_a_scan import Net as Two\nimport torch\n\n\nclass Net(Two):\n"
        "    def __init__(self, weights):\n        super().__init__(weights)\n"
        "        if str(weights).endswith('fold_1.pt'):\n"
        "            self.head[1], self.output_names = torch.nn.Linear(170, 3), ('a', 'b', 'c')\n"
    )
    monkeypatch.chdir(folder)
    model = ["--model", "nets_of_three:Net", *weights_of("fold_0.pt", "fold_1.pt")]
    found = said(command, *model, "--genome", "genome.fa", "--tracks", 0)
    assert "the models of an ensemble differ: fold_" in found
    assert "has n_outputs" in found
