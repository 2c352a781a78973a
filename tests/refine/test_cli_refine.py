"""`tism-scan refine`, and what other commands make of its exact ISM, as a user types them."""

import json

import pytest
from command_line import tism_scan


@pytest.fixture
def inputs(refined):
    return ["--genome", refined.genome, "--weights", refined.weights]


def test_a_refinement_that_is_finished_is_resumed_at_once(refined, inputs):
    done = tism_scan("refine", refined.scan.path, *inputs, "--quantile", "0.99")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"refining {refined.store.plan.n_wanted:,} of 9,000 bases (quantile 0.99)" in done.stdout
    assert "export" in done.stdout.splitlines()[-1]


def test_status_verify_and_export_know_of_it(refined, tmp_path):
    path, n_bases = refined.scan.path, refined.store.plan.n_wanted
    n_blocks = len(list(refined.store.plan.all_blocks()))
    status = tism_scan("status", path)
    line = f"exact ISM   of {n_bases} bases (quantile 0.99): {n_blocks} of {n_blocks} blocks done, 0 failed"
    assert line in status.stdout
    described = json.loads(tism_scan("status", path, "--json").stdout)["refinement"]
    assert (described["n_bases"], described["is_complete"]) == (n_bases, True)
    verified = tism_scan("verify", path, "--full", "--json")
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["refinement"]["n_objects"] == n_blocks
    export = tism_scan("export", path, "--values", "ism", "--out", tmp_path)
    assert (export.returncode, export.stderr) == (0, "")
    names = sorted(file.name for file in tmp_path.iterdir() if not file.name.startswith("."))
    assert names == ["0000_output_0_ism.bw", "0002_output_2_ism.bw", "README_ism.txt"]
    readme = (tmp_path / "README_ism.txt").read_text()
    assert "Positive: the reference base supports the prediction" in readme
    assert f"{refined.store.plan.n_wanted:,} bases were chosen, by" in readme
    assert "quantile 0.99, of the scan's scores" in readme


def test_blocks_of_it_are_computed_again_by_verify(refined, inputs):
    verified = tism_scan("verify", refined.scan.path, *inputs, "--recompute", "1", "--json")
    assert verified.returncode == 0, verified.stderr
    (found,) = json.loads(verified.stdout)["refinement"]["recomputed"]
    assert found["n_wrong"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--quantile", "0.9"], "was refined at the bases of quantile 0.99, not quantile 0.9"),
        (["--quantile", "1.5"], "1.5 is not in the range 0<=x<=1"),
        (["--quantile", "0.9", "--seqlets", "x"], "--quantile and --seqlets choose the bases twice"),
        (["--bed", "absent.bed"], "cannot read 'absent.bed'"),
        (["--overwrite"], "add --yes to agree"),
        (["--overwrite", "--yes", "--quantile", "1"], "chooses none of the"),
        (["--overwrite", "--yes", "--quantile", "0.1"], "expected at most half"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(refined, inputs, options, words):
    before = sorted(refined.scan.path.rglob("*.json"))
    done = tism_scan("refine", refined.scan.path, *inputs, *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert words in done.stderr
    assert sorted(refined.scan.path.rglob("*.json")) == before


def test_a_store_that_was_not_refined_has_no_ism_to_export(demo_store, tmp_path):
    done = tism_scan("export", demo_store.path, "--values", "ism", "--out", tmp_path / "bw")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no exact ISM; expected a store that was refined; run `tism-scan refine` first" in done.stderr
    assert not (tmp_path / "bw").exists()
