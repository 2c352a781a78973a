import numpy as np
from command_line import tism_scan

import tism_scan as ts
from tism_scan.plan.tracks import Track

MODEL = """
import torch


class Tiny(torch.nn.Module):
    input_bp, alphabet, output_names = 100, "ACGT", ("one", "two")

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.trunk = torch.nn.Sequential(torch.nn.Conv1d(4, 5, 7), torch.nn.ReLU(), torch.nn.MaxPool1d(2))
        self.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5 * 47, 2))

    def forward(self, X):
        return self.head(self.trunk(X))
"""


def test_run_scans_with_a_model_of_ones_own(tmp_path):
    (tmp_path / "my_model.py").write_text(MODEL)
    sequence = "".join(np.random.default_rng(2).choice(list("ACGT"), 1_000))
    (tmp_path / "genome.fa").write_text(f">chr1\n{sequence}\n")
    arguments = ["--model", "my_model:Tiny", "--tracks", "two", "--stride", "20", "--actors", "1"]
    result = tism_scan("run", "--genome", "genome.fa", *arguments, "--out", "s.zarr", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    store = ts.ScoreStore.open(tmp_path / "s.zarr")
    assert store.plan.scoring.tracks == (Track("two", (1,), (1.0,)),)
    assert store.plan.model == "my_model:Tiny"
    assert np.isfinite(store.read_track("chr1", 0, 1_000, 0)).all()


PROFILE = """
import torch


class Profile(torch.nn.Module):
    input_bp, alphabet, output_names = 60, "ACGT", ("donor", "acceptor")

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Conv1d(4, 2, 7)

    def forward(self, X):
        return {"logits": self.layer(X)}


class Unnamed(torch.nn.Module):
    input_bp, alphabet = 20, "ACGT"

    def forward(self, X):
        return X[:, 0]
"""


def test_outputs_of_any_model_are_listed_by_name(tmp_path):
    (tmp_path / "my_model.py").write_text(MODEL + PROFILE)
    for factory, flags, expected in (
        ("Tiny", ["o"], ["0\tone", "1\ttwo"]),
        ("Profile", ["*cc*", "--reduce", "sum"], ["1\tacceptor"]),
        ("Unnamed", ["9"], ["9\toutput_9", "19\toutput_19"]),
    ):
        result = tism_scan("tracks", *flags, "--model", f"my_model:{factory}", cwd=tmp_path)
        assert (result.stdout.splitlines(), result.stderr) == (expected, "")


def test_tracks_of_nothing_and_names_that_do_not_fit_are_one_line(tmp_path):
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\n")
    result = tism_scan("tracks", cwd=tmp_path)
    assert result.returncode == 2
    assert "expected --track-names FILE, or --model SPEC" in result.stderr
    model = ["--model", "my_model:Tiny"]
    result = tism_scan("tracks", *model, "--track-names", "names.txt", cwd=tmp_path)
    assert result.returncode == 2
    assert "3 track names were given for a model with 2 outputs" in result.stderr


def test_positions_are_reduced_as_the_plan_says_and_a_resume_keeps_to_it(tmp_path):
    (tmp_path / "my_model.py").write_text(PROFILE)
    sequence = "".join(np.random.default_rng(2).choice(list("ACGT"), 400))
    (tmp_path / "genome.fa").write_text(f">chr1\n{sequence}\n")
    model = ["--genome", "genome.fa", "--model", "my_model:Profile", "--tracks", "acceptor"]
    scan = ["run", *model, "--stride", "20", "--actors", "1", "--out", "s.zarr"]
    result = tism_scan(*scan, "--reduce", "center:1", cwd=tmp_path, is_without_ray=True)
    assert result.returncode == 0, result.stderr
    store = ts.ScoreStore.open(tmp_path / "s.zarr")
    assert store.plan.model == "my_model:Profile (center:1)"
    assert store.plan.scoring.tracks == (Track("acceptor", (1,), (1.0,)),)
    scores = store.read_track("chr1", 0, 400, 0)
    # the window's middle sees seven bases: half of each core's are beside them
    assert 0 < np.count_nonzero(scores) <= 7 * 20
    other = tism_scan(*scan, "--reduce", "sum", cwd=tmp_path)
    assert other.returncode == 2
    assert "my_model:Profile (center:1)" in other.stderr
    assert "my_model:Profile (sum)" in other.stderr
    twice = tism_scan(*scan, "--reduce", "sum", "--stitch", "all", cwd=tmp_path)
    assert twice.returncode == 2
    assert "with stride 20 the 54 positions of a window do not go on" in twice.stderr
    assert "such as --stride 54 for one base each" in twice.stderr
