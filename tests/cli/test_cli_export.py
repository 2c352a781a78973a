"""`tism-scan export` as a user runs it."""

import io
import os
import subprocess
import sys
import time

import numpy as np
import pexpect
import pytest
from command_line import tism_scan
from rich.console import Console
from small_plans import publish, random_scores, small_plan

from tism_scan.cli import waiting
from tism_scan.progress import Progress
from tism_scan.store.score_store import ScoreStore

COMMAND = [sys.executable, "-m", "tism_scan", "export"]
ENVIRONMENT = {**os.environ, "COLUMNS": "160", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
N_LONG = 60  # tracks of an export that is still at work when a busy machine comes to interrupt it
FILES = ["0000_track_0.bw", "0001_track_1.bw"]


def export(*arguments):
    return tism_scan("export", *arguments)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a finished store of two tracks."""
    plan = small_plan(2, chroms={"chr1": 60_000, "chr2": 3_000}, block_bp=16_384)
    store = ScoreStore.create(tmp_path_factory.mktemp("store") / "scores.zarr", plan)
    publish(store, random_scores(plan))
    return store


def bigwigs(folder):
    return sorted(path.name for path in folder.glob("*.bw"))


def assert_one_line(result, code, *words):
    """Check the exit code, and that the error is one line with these words; progress may be told."""
    told = [line for line in result.stderr.splitlines() if not line.startswith("export: ")]
    assert (result.returncode, len(told)) == (code, 1), result.stderr
    for word in words:
        assert word in result.stderr


def test_export_says_what_it_wrote_and_then_what_it_kept(store, tmp_path):
    first = export(store.path, "--out", tmp_path, "--jobs", "2")
    assert (first.returncode, first.stderr) == (0, "")
    assert all(name in first.stdout for name in FILES)
    assert "kept" not in first.stdout
    again = export(store.path, "--out", tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert "2 of them were finished by an earlier export and kept; --overwrite" in again.stdout


def part(name, fraction):
    return Progress(int(100 * fraction), 100, "bases", part=name)


def test_genes_and_annotations_are_exported_and_counted(store, tmp_path):
    (tmp_path / "genes.gtf").write_text('chr1\tx\texon\t11\t20\t.\t+\t.\tgene_id "A"; transcript_id "T";\n')
    (tmp_path / "motifs.bed").write_text("chr1\t5\t9\tCTCF\nchr9\t5\t9\tCTCF\nchr2\t5\t9\tCTCF\n")
    options = ("--genes", tmp_path / "genes.gtf", "--annotation", f"sites={tmp_path / 'motifs.bed'}")
    done = export(store.path, "--out", tmp_path / "bw", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Genes: 1 gene\n" in done.stdout
    assert "sites: 2 features, 1 on other chroms left out\n" in done.stdout
    assert {"genes.bed", "genes.bb", "annotation_sites.bed"} <= {
        path.name for path in (tmp_path / "bw").iterdir()
    }


def test_a_terminal_shows_a_bar_for_each_file_that_is_being_written(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(waiting, "err", Console(file=shown, force_terminal=True, width=100))
    with waiting.file_bars("export", 3) as update:
        update(part("kept.bw", 1.0))
        update(part("a.bw", 0.5))
        update(part("b.bw", 0.25))
        time.sleep(0.3)  # the bars are drawn ten times a second
        while_written = shown.getvalue()
        for name in ("a.bw", "b.bw"):
            update(part(name, 1.0))
    assert all(word in while_written for word in ("export", "58.3 %", "a.bw", "50.0 %", "b.bw", "25.0 %"))
    assert "kept.bw" not in while_written
    assert "100.0 %" in shown.getvalue()


def test_without_a_terminal_lines_tell_of_each_file(monkeypatch, capsys):
    monkeypatch.setattr(waiting, "LINE_EVERY_S", 0.02)
    with waiting.file_bars("export", 3) as update:
        update(part("a.bw", 1.0))
        update(part("b.bw", 0.5))
        update(part("c.bw", 0.25))
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("export: 58.3 %, 1 of 3 files done, b.bw 50 %, c.bw 25 %, ")
    assert lines[-1].endswith(" s left")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tracks", "nothing"], ["'nothing' fits no track of the store"]),
        (["--chroms", "chr9"], ["'chr9'"]),
        (["--chrom-alias", "absent.txt"], ["cannot read absent.txt"]),
        (["--channels"], ["holds mean TISM only"]),
        (["--keep-bits", "30"], ["30 is not in the range 1<=x<=23"]),
        (["--jobs", "0"], ["0 is not in the range"]),
        (["--writer", "excel"], ["'excel' is not one of"]),
        (["--genes", "absent.gtf"], ["cannot read 'absent.gtf'"]),
        (["--annotation", "absent.bed"], ["cannot read 'absent.bed'"]),
    ],
)
def test_bad_options_get_one_line_and_exit_code_2(store, tmp_path, arguments, words):
    assert_one_line(export(store.path, "--out", tmp_path / "bw", *arguments), 2, *words)
    assert not (tmp_path / "bw").exists()


@pytest.mark.parametrize("below", ["", "chr1", "new/folder"])
def test_the_store_is_no_folder_for_an_export(store, below):
    before = sorted(store.path.rglob("*"))
    result = export(store.path, "--out", store.path / below)
    assert_one_line(result, 2, "is inside the Zarr store", "choose another --out")
    assert sorted(store.path.rglob("*")) == before


def test_a_users_own_readme_stops_an_export_before_its_work(store, tmp_path):
    (tmp_path / "README.txt").write_text("mine")
    assert_one_line(export(store.path, "--out", tmp_path), 2, "README.txt' was not written by export")
    assert [path.name for path in tmp_path.iterdir()] == ["README.txt"]
    assert (tmp_path / "README.txt").read_text() == "mine"


def test_a_store_that_is_not_there_gets_one_line(tmp_path):
    assert_one_line(export(tmp_path / "absent.zarr", "--out", tmp_path), 2, "absent.zarr is not there")


def test_a_folder_that_cannot_be_written_gets_one_line(store):
    assert_one_line(export(store.path, "--out", "/proc/bigwig"), 2, "cannot make the folder /proc/bigwig")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_disk_that_fills_gets_one_line_and_keeps_what_is_finished(store, tmp_path, jobs):
    assert export(store.path, "--out", tmp_path, "--tracks", "0").returncode == 0
    # A limit of file sizes, in kilobytes, stops a writer as a full disk does, without needing a disk to fill.
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *COMMAND]
    arguments = [store.path, "--out", tmp_path, "--overwrite", "--jobs", jobs]
    result = subprocess.run(
        [*limited, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert_one_line(result, 1, "no room left to write", "make room and run the same command again")
    assert bigwigs(tmp_path) == FILES[:1]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    after = export(store.path, "--out", tmp_path)
    assert "1 of them were finished by an earlier export" in after.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk; the test above needs none")
def test_a_small_disk_is_refused_before_anything_is_written(store, tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        result = export(store.path, "--out", tmp_path)
        assert_one_line(result, 2, "2 bigWig files need up to", "free; make room there")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_track_without_a_score_gets_one_line(tmp_path):
    plan = small_plan(2, chroms={"chr1": 3_000})
    scores = random_scores(plan)
    scores["chr1"][1] = np.nan
    store = ScoreStore.create(tmp_path / "empty.zarr", plan)
    publish(store, scores)
    result = export(store.path, "--out", tmp_path / "bw")
    assert_one_line(result, 0, "track 1 has no score in chr1", "holds no entry")


def test_an_infinite_score_gets_one_line(tmp_path):
    plan = small_plan(2, chroms={"chr1": 3_000})
    scores = random_scores(plan)
    scores["chr1"][1, 5] = np.inf
    store = ScoreStore.create(tmp_path / "inf.zarr", plan)
    publish(store, scores)
    result = export(store.path, "--out", tmp_path / "bw", "--jobs", "2")
    assert_one_line(result, 2, "the score of chr1:5-6 is inf")
    assert bigwigs(tmp_path / "bw") == FILES[:1]


def test_ctrl_c_stops_all_processes_and_leaves_nothing_unfinished(tmp_path):
    # So long that no busy machine is through with it before it is interrupted.
    plan = small_plan(N_LONG, chroms={"chr1": 30_000_000}, block_bp=8_192)
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    out = tmp_path / "bw"
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], str(store.path), "--out", str(out), "--allow-incomplete", "--jobs", "2"],
        env=ENVIRONMENT,
        timeout=60,
    )
    until = time.monotonic() + 40
    while not list(out.glob(".*.partial")) and time.monotonic() < until:
        time.sleep(0.02)
    child.sendintr()
    words = child.read().decode(errors="replace")
    assert "stopped; what is finished is kept" in words
    assert "Traceback" not in words  # of a process that was about to start
    child.close()
    assert child.exitstatus == 130
    assert list(out.glob(".*.partial")) == []


def test_processes_of_a_killed_export_end(tmp_path):
    plan = small_plan(N_LONG, chroms={"chr1": 3_000_000}, block_bp=8_192)
    store = ScoreStore.create(tmp_path / "s.zarr", plan)
    out = tmp_path / "bw"
    process = subprocess.Popen(
        [*COMMAND, str(store.path), "--out", str(out), "--allow-incomplete", "--jobs", "2"],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    with process:
        until = time.monotonic() + 40
        while not list(out.glob(".*.partial")) and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
    until = time.monotonic() + 20
    while list(out.glob(".*.partial")) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(out.glob(".*.partial")) == []
