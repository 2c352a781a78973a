"""``attribute --peaks``, and what the other commands make of its store."""

import json
import sys

import click
import numpy as np
import pytest
from command_line import tism_scan

from tism_scan.api import attribute_peaks
from tism_scan.cli.attribute import command
from tism_scan.cli.export import command as export_command
from tism_scan.cli.status import command as status_command
from tism_scan.cli.verify import command as verify_command
from tism_scan.errors import InputError, ModelError, StoreError
from tism_scan.store.peak_store import PeakStore

MODEL = """
import torch

def load():
    torch.manual_seed(0)
    layers = torch.nn.Conv1d(4, 3, 5), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(60, 2)
    body = torch.nn.Sequential(*layers)
    body.input_bp, body.alphabet, body.output_names = 24, "ACGT", ["one", "two"]
    return body
"""


@pytest.fixture
def folder(tmp_path, tiny_genome, narrow_peak, monkeypatch):
    (tmp_path / "peak_model.py").write_text(MODEL)
    (tmp_path / "g.fa").write_bytes(tiny_genome.read_bytes())
    (tmp_path / "p.narrowPeak").write_bytes(narrow_peak.read_bytes())
    (tmp_path / "empty.bed").touch()
    (tmp_path / "text.bed").write_text("these are\nno peaks\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


WHAT = "--genome g.fa --peaks p.narrowPeak --model peak_model:load --tracks all"
ASKED = f"attribute {WHAT} --out p.zarr --width 16"


def test_command_tells_the_cost_resumes_and_is_known_to_the_others(folder, capsys):
    done = tism_scan(*ASKED.split(), "--method", "deepliftshap", cwd=folder, is_without_ray=True)
    assert done.returncode == 0, done.stderr
    assert (
        "9 peaks in parts of up to 1: deepliftshap of 2 tracks, 16 bp in the middle of windows" in done.stdout
    )
    assert "80 passes through the model for each peak, 720 in all" in done.stdout
    assert "peaks/s (measured on cpu)" in done.stdout
    assert "attributed 9 peaks in" in done.stdout
    assert "export " in done.stdout
    rows = PeakStore.open(folder / "p.zarr").scores()
    status_command.main(["p.zarr", "--json"], standalone_mode=False)
    status = json.loads(capsys.readouterr().out)
    assert (status["is_complete"], status["total"]["peaks_done"]) == (True, 9)
    (folder / "p.zarr" / "scores" / "c" / "3" / "0" / "0" / "0").unlink()
    assert verify_command.main(["p.zarr"], standalone_mode=False) == 1
    found = capsys.readouterr().out
    assert "peaks 4-4 are not what was published" in found
    assert "1 part is damaged, and pending again" in found
    assert "deepliftshap" in found.splitlines()[-1]
    again = tism_scan(*ASKED.split(), "--method", "deepliftshap", cwd=folder, is_without_ray=True)
    assert "resumed: 8 of 9 peaks were already done" in again.stdout
    np.testing.assert_array_equal(PeakStore.open(folder / "p.zarr").scores(), rows)
    status_command.main(["p.zarr"], standalone_mode=False)
    assert "deepliftshap of the logit around peaks, 16 bp in windows of 24 bp" in capsys.readouterr().out
    export_command.main(["p.zarr", "--format", "finemo", "--out", "f"], standalone_mode=False)
    assert "9 peaks, as many rows of 16 bp; zeros: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--method ism --method tism", "--peaks takes one method, but 2 were given"),
        ("--region chr1:1-5", "--region has no meaning with --peaks"),
        ("--stride 8", "--stride has no meaning with --peaks"),
        ("--device cpu", "--device has no meaning with --peaks"),
        ("--plot a.png", "--plot has no meaning with --peaks"),
        ("--width 26", "a width of 26 bp is more than the model's window of 24 bp; expected at most 24"),
        ("--width 15", "a width of 15 has no middle"),
        ("--peaks empty.bed", "'empty.bed' holds no peak"),
        ("--peaks text.bed", "'?text.bed'? cannot be used as BED"),
        ("--peaks gone.bed", "cannot read 'gone.bed'"),
        ("--tracks 9", "'9' is out of range"),
        ("--out g.fa", "g.fa is a file; expected a folder"),
        ("--background 1,2", "four numbers"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_written(folder, arguments, message):
    with pytest.raises((InputError, click.UsageError), match=message):
        command.main([*ASKED.split()[1:], *arguments.split()], standalone_mode=False)
    assert not (folder / "p.zarr").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--peaks p.narrowPeak --out p.zarr", "have no genome; add --genome"),
        ("--peaks p.narrowPeak --genome g.fa", "--peaks needs --out, the store of the scores"),
        ("--peaks p.narrowPeak --genome g.fa --out p.zarr", "no track was chosen"),
        ("--sequence A --out s.npz --width 8", "--width has no meaning without --peaks"),
        ("--sequence A --out s.npz --overwrite", "--overwrite has no meaning without --peaks"),
        ("--sequence A --out s.npz --address auto", "--address has no meaning without --peaks"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(folder, arguments, message):
    with pytest.raises((InputError, click.UsageError), match=message):
        command.main(arguments.split(), standalone_mode=False)
    assert not (folder / "p.zarr").exists()


def test_overwriting_has_to_be_agreed_to_and_keeps_other_stores(folder, tiny_genome, tiny_model, tmp_path):
    attribute_peaks(tiny_model, tiny_genome, "p.narrowPeak", "p.zarr", tracks=0, width=16)
    with pytest.raises(InputError, match=r"--overwrite would delete .*p.zarr; add --yes to agree"):
        command.main([*ASKED.split()[1:], "--overwrite"], standalone_mode=False)
    with pytest.raises(StoreError, match=r"was made under another plan: .*tracks"):
        attribute_peaks(tiny_model, tiny_genome, "p.narrowPeak", "p.zarr", tracks="0,1", width=16)
    again = attribute_peaks(
        tiny_model, tiny_genome, "p.narrowPeak", "p.zarr", tracks="0,1", width=16, overwrite=True
    )
    assert again.scores().shape == (9, 2, 4, 16)
    with pytest.raises(ModelError, match="is in the memory of this process"):
        attribute_peaks(tiny_model, tiny_genome, "p.narrowPeak", "new.zarr", tracks=0, ray=True)
    assert not (folder / "new.zarr").exists()


def test_chroms_may_have_other_names_in_the_peaks(folder, tiny_genome, tiny_model):
    (folder / "ensembl.bed").write_text("1\t60\t90\n2\t40\t80\n")
    (folder / "alias.tsv").write_text("chr1\t1\nchr2\t2\n")
    (folder / "ucsc.bed").write_text("chr1\t60\t90\nchr2\t40\t80\n")
    settings = {"tracks": 0, "width": 16}
    stores = [
        attribute_peaks(tiny_model, tiny_genome, f"{name}.bed", f"{name}.zarr", chrom_alias=alias, **settings)
        for name, alias in (("ensembl", "alias.tsv"), ("ucsc", None))
    ]
    np.testing.assert_array_equal(stores[0].scores(), stores[1].scores())
    assert (stores[0].peaks.chroms, stores[0].peaks.labels) == (("chr1", "chr2"), ("1", "2"))
