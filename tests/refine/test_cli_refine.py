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
    assert "nothing is pending" in done.stdout
    assert "refined 0" not in done.stdout
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
    files = sorted(file.name for file in tmp_path.glob("*.bw"))
    assert files == ["0000_output_0_ism.bw", "0002_output_2_ism.bw"]
    names = json.loads((tmp_path / "igv-session.json").read_text())["tism_scan"]["names"]
    assert names == ["output_0, exact ISM", "output_2, exact ISM"]
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


@pytest.fixture
def exported(refined, tmp_path):
    """Return a function that exports a kind of scores of the scan into one folder."""
    (tmp_path / "genes.bed").write_text("chr1\t100\t900\tGENE<1>\n")

    def export(kind, *options):
        return tism_scan("export", refined.scan.path, "--values", kind, *options, "--out", tmp_path / "bw")

    return export


@pytest.mark.parametrize("order", [("scan", "ism"), ("ism", "scan")])
def test_a_folder_of_both_shows_the_exact_track_of_each_under_the_scans(exported, tmp_path, order):
    options = ["--genes", tmp_path / "genes.bed", "--genome-id", "toy"]
    for kind in order:
        done = exported(kind, *(options if kind == "scan" else []))
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    folder = tmp_path / "bw"
    names = ["output_0", "output_0, exact ISM", "output_2", "output_2, exact ISM"]
    files = [f"{stem}{suffix}.bw" for stem in ("0000_output_0", "0002_output_2") for suffix in ("", "_ism")]
    session = json.loads((folder / "igv-session.json").read_text())
    assert session["tism_scan"]["names"] == names
    assert session["tism_scan"]["genome_id"] == "toy"
    assert "genes.bed" in {track.get("url") for track in session["tracks"]}
    letters = [track for track in session["tracks"] if track["tism_scan"]["role"] == "letters"]
    assert [track["url"] for track in letters] == files
    assert len({track["color"] for track in letters}) == 2
    hub = (folder / "hub.txt").read_text()
    assert [line.split()[1] for line in hub.splitlines() if "bigDataUrl" in line] == ["genes.bb", *files]
    assert "longLabel output_0, exact ISM\n" in hub
    assert "longLabel output_0, mean TISM\n" in hub
    config = json.loads((folder / "config.json").read_text())
    scores = [track for track in config["tracks"] if track["type"] == "QuantitativeTrack"]
    assert [track["category"] for track in scores] == [["mean TISM"], ["exact ISM"]] * 2
    assert [track["name"] for track in json.loads((folder / "hub.washu.json").read_text())[1:]] == names
    assert [line.split("\t")[:2] for line in (folder / "tracks.tsv").read_text().splitlines()[1:]] == [
        list(each) for each in zip(files, names, strict=True)
    ]
    readme = (folder / "README.txt").read_text()
    assert "Mean TISM, one number a base" in readme
    assert "Exact ISM in the bigWigs named *_ism*.bw (darker)" in readme


def test_a_folder_in_which_the_two_cannot_stand_together_is_refused(exported, tmp_path):
    assert exported("scan").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "bw").iterdir()}
    (tmp_path / "alias.txt").write_text("chr1\t1\n")
    refused = exported("ism", "--chrom-alias", tmp_path / "alias.txt")
    record = tmp_path / "bw/.export.json"
    described = json.loads(record.read_text())
    for entry in described["files"].values():
        del entry["source"]  # as earlier releases recorded it
    record.write_text(json.dumps(described))
    older = exported("ism")
    assert [done.returncode for done in (refused, older)] == [2, 2]
    assert [done.stderr.count("\n") for done in (refused, older)] == [1, 1]
    assert "names the chroms otherwise; expected one set of names in a folder;" in refused.stderr
    assert "run that export again first, which keeps its files" in older.stderr
    assert {path: path.read_bytes() for path in before if path != record} == {
        path: content for path, content in before.items() if path != record
    }
    assert "2 of them were finished by an earlier export and kept" in exported("scan").stdout
    assert exported("ism").returncode == 0
