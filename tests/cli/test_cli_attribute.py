"""``attribute`` and ``audit`` through a real process."""

import json
import struct
import sys

import click
import numpy as np
import pytest
from click.testing import CliRunner
from command_line import WEIGHTS, tism_scan
from sequences import random_sequence
from serial_scans import scan_with

import tism_scan as ts
from tism_scan.cli import cli
from tism_scan.cli.attribute import command
from tism_scan.demo.genome import make_genome, write_fasta
from tism_scan.demo.synthesis import OUTPUT_NAMES
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import InputError
from tism_scan.genome.alphabet import decode
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import load_beluga
from tism_scan.models.source import ModelSource
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring, path_text
from tism_scan.plan.tracks import select_tracks
from tism_scan.store.score_store import ScoreStore

IUPAC = {"R": "AG", "Y": "CT", "S": "CG", "K": "GT"}

MODEL = """
import torch
from torch import nn

def load(weights=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(4, 2, 9), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten())
    model.input_bp, model.alphabet, model.output_names = 60, "ACGT", ["one", "two"]
    return model
"""


def _done(*arguments, cwd=None):
    result = tism_scan(*arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attribute")
    write_fasta(folder / "genome.fa", make_genome())
    (folder / "names.txt").write_text("\n".join(OUTPUT_NAMES) + "\n")
    (folder / "my_model.py").write_text(MODEL)
    (folder / "records.fa").write_text(f">one\n{random_sequence(40, 1)}\n>two\n{random_sequence(300, 2)}\n")
    return folder


@pytest.fixture(scope="module")
def site():
    """Return a planted CTCF site of chr1."""
    made = make_genome()["chr1"]
    return next(
        (site.start, site.end, decode(made.codes[site.start : site.end]))
        for site in made.sites
        if site.factor == "CTCF"
    )


@pytest.fixture(scope="module")
def beluga(folder):
    return ("--weights", WEIGHTS, "--track-names", folder / "names.txt")


def _read_tsv(path):
    header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    values = np.array([line[3:] for line in lines], dtype=np.float32)
    return header, [line[:3] for line in lines], values


def test_a_region_equals_the_store_of_a_scan(folder, beluga, tmp_path):
    _done(
        *("attribute", "--genome", folder / "genome.fa", *beluga, "--tracks", "CTCF,6"),
        *("--region", "chr1:18,001-23,000", "--path", "1,0.75", "--out", tmp_path / "s.npz"),
    )
    scoring = Scoring(select_tracks("0,6", 7), 2000, path=(1, 0.75))
    with Genome(folder / "genome.fa") as genome, np.load(tmp_path / "s.npz") as file:
        assert file["path"].tolist() == [1, 0.75]
        wanted = {"chr1": ((18_000, 23_000),)}
        plan = ScanPlan(scoring, "g", "w", dict(genome.chroms), wanted, block_bp=4096)
        store = ScoreStore.create(tmp_path / "s.zarr", plan)
        scan_with(genome, WindowEngine(load_beluga(WEIGHTS), scoring), store)
        for i in range(2):
            stored = store.read_track("chr1", 18_000, 23_000, i)
            np.testing.assert_allclose(file["scores"][i], stored, atol=1e-6)


def test_the_planted_motif_is_read_off_exact_ism(folder, beluga, site, tmp_path):
    start, end, planted = site
    result = _done(
        *("attribute", "--genome", folder / "genome.fa", *beluga, "--tracks", "CTCF", "--method", "mean-ism"),
        *("--region", f"chr1:{start - 19}-{end + 20}", "--center"),
        *("--out", tmp_path / "s.tsv", "--plot", tmp_path / "s.png"),
    )
    header, labels, values = _read_tsv(tmp_path / "s.tsv")
    assert header == ["chrom", "pos", "ref", "CTCF"]
    assert labels[20][:2] == ["chr1", str(start + 1)]
    assert "".join(label[2] for label in labels[20:39]) == planted
    on_motif = np.zeros(len(values), dtype=bool)
    on_motif[20:39] = True
    assert set(np.argsort(values[:, 0])[-10:]) <= set(np.flatnonzero(on_motif))
    assert values[on_motif, 0].mean() > 20 * np.abs(values[~on_motif, 0]).mean()
    assert "mean-ism of 59 bases in 1 locus from 1 window, 1 track" in result.stdout
    width, height = struct.unpack(">II", (tmp_path / "s.png").read_bytes()[16:24])
    assert width >= 1000
    assert height >= 250
    assert result.stderr == ""


def test_a_picture_names_its_axes_and_tracks(folder, beluga, site, tmp_path):
    _done(
        *("attribute", "--genome", folder / "genome.fa", *beluga, "--tracks", "CTCF,accessible"),
        *("--method", "tism", "--region", f"chr1:{site[0]}-{site[1]}", "--plot", tmp_path / "s.svg"),
    )
    svg = (tmp_path / "s.svg").read_text()
    for text in ("CTCF", "accessible", "chr1, position (bp)", "mean TISM", "(logit)", "TISM"):
        assert f">{text}</text>" in svg  # text, which drawing programs can edit


def test_several_methods_and_motifs_share_a_picture(folder, beluga, site, tmp_path):
    (tmp_path / "motifs.bed").write_text(f"chr1\t{site[0]}\t{site[1]}\tmy motif\n")
    result = _done(
        *("attribute", "--genome", folder / "genome.fa", *beluga, "--tracks", "CTCF", "--method", "tism"),
        *("--method", "ism", "--region", f"chr1:{site[0]}-{site[1]}", "--plot", tmp_path / "s.svg"),
        *("--spans", tmp_path / "motifs.bed"),
    )
    svg = (tmp_path / "s.svg").read_text()
    for text in ("CTCF, TISM", "CTCF, ISM", "mean TISM", "my motif"):
        assert f">{text}</text>" in svg
    assert result.stdout.startswith("tism and ism of 20 bases in 1 locus")


def test_a_sequence_is_scored_in_the_middle_of_a_window(beluga, tmp_path):
    _done("attribute", "--sequence", "ttgaCCGGAAGTn", *beluga, "--tracks", "ETS", "--out", tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as file:
        assert file["scores"].shape == (1, 13)
        assert np.isnan(file["scores"][0, 12])
        assert np.isfinite(file["scores"][0, :12]).all()
        assert file["window_start"] == (13 - 2000) // 2


def test_a_model_of_ones_own_scores_records_that_each_get_a_picture(folder, tmp_path):
    result = _done(
        *(
            "attribute",
            "--model",
            "my_model:load",
            "--fasta",
            "records.fa",
            "--tracks",
            "t*",
            "--stride",
            "20",
        ),
        *("--method", "deepliftshap", "--out", tmp_path / "s.tsv", "--plot", tmp_path / "s.png"),
        cwd=folder,
    )
    header, labels, values = _read_tsv(tmp_path / "s.tsv")
    assert header[3:] == ["two:A", "two:C", "two:G", "two:T"]
    assert [labels[i][:2] for i in (39, 40, -1)] == [["one", "40"], ["two", "1"], ["two", "300"]]
    assert np.isfinite(values).all()
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["s_1.png", "s_2.png"]
    assert "340 bases in 2 loci from 16 windows" in result.stdout


def test_contributions_that_do_not_add_up_are_told_once_each_on_a_line(folder, tmp_path):
    (tmp_path / "squared.py").write_text(
        MODEL.replace("nn.Flatten())", "nn.Flatten(), Square())").replace(
            "def load",
            "class Square(nn.Module):\n    def forward(self, x):\n        return x**2\n\n\ndef load",
        )
    )
    result = _done(
        *("attribute", "--model", "squared:load", "--fasta", folder / "records.fa", "--tracks", "one"),
        *("--stride", "20", "--method", "deepliftshap", "--out", tmp_path / "s.npz"),
        cwd=tmp_path,
    )
    lines = [line for line in result.stderr.splitlines() if "onvergence" in line]
    assert lines
    assert all(line.startswith("Warning: Convergence deltas") for line in lines)
    assert "RuntimeWarning" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--out s.npz", "none of them was given; expected one of --region, --sequence, --fasta and --peaks"),
        ("--sequence A --fasta f --out s.npz", "--sequence and --fasta was given; expected one"),
        ("--region chr1:1-5 --out s.npz", "region 'chr1:1-5' has no genome; add --genome"),
        ("--sequence A --center --out s.npz", "--center is for --region"),
        ("--sequence A", "expected --out, --plot, or both"),
        ("--sequence A --method ism --method tism --out s.npz", "--out holds one method, but 2 were given"),
        ("--sequence A --out s.npz --spans names.txt", "--spans is for pictures; add --plot"),
        ("--sequence A --plot s.png --spans names.txt", "names.txt cannot be used as BED: .*line 1"),
        ("--sequence A --plot s.png --spans gone.bed", "cannot read 'gone.bed'"),
        ("--sequence A --out s.csv", r"has the suffix '\.csv'; expected \.npz, \.tsv"),
        ("--sequence A --plot s.npz", r"expected \.png, \.svg, \.pdf"),
        ("--sequence A --out gone/s.npz", "expected a folder that is there"),
        ("--sequence A --out s.npz", "no track was chosen; expected a selection"),
        ("--sequence A --tracks 0 --out s.npz", "the model 'beluga' was given no weights"),
        ("--sequence AXQ --model my_model:load --tracks 0 --out s.npz", "sequence 'AXQ' holds 'Q', 'X'"),
        ("--sequence A --model my_model:load --tracks 9 --out s.npz", "'9' is out of range: the model has"),
        ("--sequence A --model my_model:load --tracks 0 --background 1,2 --out s.npz", "four numbers"),
        ("--sequence A --model my_model:load --tracks 0 --path 1,x --out s.npz", "'1,x' is no list of num"),
        ("--sequence A --model my_model:load --tracks 0 --method ism --path 0.5 --out s.npz", "not made of"),
        ("--sequence A --model my_model:load --tracks 0 --device tpu --out s.npz", "device 'tpu' cannot be"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_written(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises((InputError, click.UsageError), match=message):
        command.main(arguments.split(), standalone_mode=False)
    assert not (folder / "s.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--sequence A", "expected --out, --plot, or both"),
        ("--sequence A --model no_such:f --tracks 0 --out s.npz", "there is no module 'no_such'"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(folder, arguments, message):
    result = tism_scan("attribute", *arguments.split(), cwd=folder)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_audit_reports_and_saves_what_it_found(folder, beluga, tmp_path):
    result = _done(
        *(
            "audit",
            "--genome",
            folder / "genome.fa",
            *beluga,
            "--tracks",
            "CTCF,ETS",
            "--n",
            "4",
            "--seed",
            "1",
        ),
        *("--core-bp", "32", "--out", tmp_path / "a.json", "--plot", tmp_path / "a.png"),
        *("--path", "1", "--path", "1,0.75,0.5"),
    )
    whole = json.loads((tmp_path / "a.json").read_text())
    found, along = whole["paths"]
    assert along["path"] == [1, 0.75, 0.5]
    assert whole["best_path"] in (found["path"], along["path"])
    assert f"best for this model: --path {path_text(whole['best_path'])}, with" in result.stdout
    assert along["agreements"][0]["tism_pearson"] != found["agreements"][0]["tism_pearson"]
    assert [each["track"] for each in found["agreements"]] == ["CTCF", "ETS"]
    assert all(-1 <= each["tism_pearson"] <= 1 for each in found["agreements"])
    assert found["theoretical_speed_up"] == 6000
    assert min(found["speed_up"], found["speed_up_all_tracks"]) > 10  # on a busy machine
    assert f"speed-up {found['speed_up']:,.0f} for one track" in result.stdout
    assert "about three times the length, 6,000" in result.stdout
    assert "the paper found correlations of about 0.7" in result.stdout
    width, height = struct.unpack(">II", (tmp_path / "a.png").read_bytes()[16:24])
    assert width > 900
    assert height > 450


def test_audit_draws_where_the_bed_file_says(folder, beluga, site, tmp_path):
    (tmp_path / "peaks.bed").write_text(f"chr1\t{site[0]}\t{site[1]}\n")
    arguments = ("audit", "--genome", folder / "genome.fa", *beluga, "--tracks", "CTCF", "--core-bp", "64")
    bed = ("--bed", tmp_path / "peaks.bed")
    _done(*arguments, *bed, "--n", "1", "--out", tmp_path / "a.json")
    ((chrom, start),) = json.loads((tmp_path / "a.json").read_text())["windows"]
    assert chrom == "chr1"
    assert start + 968 < site[1]
    assert start + 968 + 64 > site[0]
    result = tism_scan(*arguments, *bed, "--n", "9")
    assert result.returncode == 2
    assert "where it may be drawn from, has" in result.stderr


def test_audit_of_a_genome_without_windows_is_one_line(folder, beluga, tmp_path):
    (tmp_path / "n.fa").write_text(">chr1\n" + "N" * 5000 + "\n")
    result = tism_scan("audit", "--genome", tmp_path / "n.fa", *beluga, "--tracks", "0", "--n", "3")
    assert result.returncode == 2
    assert "has 0 whole cores of 256 bp without N; expected 3" in result.stderr


def test_audit_of_a_store_loads_its_model_once(folder, tmp_path, monkeypatch):
    store = ts.plan_scan(folder / "genome.fa", WEIGHTS, tracks=0).create_store(tmp_path / "s.zarr")
    loads, load = [], ModelSource.load
    monkeypatch.setattr(ModelSource, "load", lambda source: loads.append(source) or load(source))
    arguments = ["audit", "--genome", folder / "genome.fa", "--weights", WEIGHTS, "--tracks", "0"]
    small = ["--n", "1", "--core-bp", "8", "--store", store.path]
    audited = CliRunner().invoke(cli, [str(word) for word in (*arguments, *small)])
    assert audited.exit_code == 0, audited.output
    assert len(loads) == 1


def test_help_lists_the_commands_in_the_order_of_the_work():
    text = _done("--help").stdout.partition("Commands:")[2]
    order = [
        "demo",
        "tracks",
        "attribute",
        "audit",
        "bench",
        "plan",
        "run",
        "status",
        "verify",
        "refine",
        "export",
        "view",
        "calibrate",
        "annotate",
        "variants",
        "seqlets",
        "help",
    ]
    found = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2] != " "]
    assert found == order
