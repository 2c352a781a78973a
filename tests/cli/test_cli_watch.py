import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from small_plans import publish, random_scores, small_plan

from tism_scan.cli import status as status_module
from tism_scan.errors import StoreError
from tism_scan.store.score_store import ScoreStore


@pytest.fixture
def store(tmp_path):
    return ScoreStore.create(tmp_path / "scores.zarr", small_plan())


def lines_of(store, *arguments):
    run = CliRunner().invoke(
        status_module.command, [str(store.path), "--watch", *arguments], standalone_mode=False
    )
    assert run.exception is None
    return run.return_value, run.output.splitlines()


def test_watch_ends_when_the_scan_is_complete(store):
    publish(store, random_scores(store.plan))
    code, (line,) = lines_of(store)
    assert code == 0
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d  100\.0 %, 2\.11 kb of 2\.11 kb, 0 blocks failed, written by nobody now", line
    )


def test_watch_ends_with_code_1_when_only_failed_blocks_are_left(store):
    first, *others = store.plan.all_blocks()
    publish(store, random_scores(store.plan), others)
    store.mark_failed(first, "no such luck", 3)
    code, (line,) = lines_of(store)
    assert code == 1
    assert "1 block failed" in line


def test_watch_waits_for_a_store_that_a_job_in_the_queue_has_yet_to_make(tmp_path):
    path = tmp_path / "scores.zarr"
    command = [sys.executable, "-m", "tism_scan", "status", str(path), "--watch", "--every", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert f"no run has made a store at {path} yet" in watching.stdout.readline()
        store = ScoreStore.create(path, small_plan())
        publish(store, random_scores(store.plan))
        *_, last = watching.stdout.read().splitlines()
    assert watching.returncode == 0
    assert "100.0 %" in last


def test_watch_of_a_folder_with_other_files_says_so_at_once(tmp_path):
    (tmp_path / "thesis.tex").touch()
    run = CliRunner().invoke(
        status_module.command, [str(tmp_path), "--watch", "--every", "999"], standalone_mode=False
    )
    assert isinstance(run.exception, StoreError)


def test_watch_of_what_cannot_be_read_says_what_status_says(tmp_path):
    (tmp_path / ".scan/run.json").mkdir(parents=True)  # which no one can read, not even root
    command, run = status_module.command, CliRunner().invoke
    watched, looked = (
        run(command, [str(tmp_path), *options], standalone_mode=False) for options in (["--watch"], [])
    )
    assert isinstance(watched.exception, StoreError)
    assert str(watched.exception) == str(looked.exception)


def test_watch_follows_a_scan_in_another_process(store):
    first, *others = store.plan.all_blocks()
    scores = random_scores(store.plan)
    publish(store, scores, [first])
    command = [sys.executable, "-m", "tism_scan", "status", str(store.path), "--watch", "--every", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert "24.2 %, 512 bp of 2.11 kb" in watching.stdout.readline()
        publish(store, scores, others)
        *_, last = watching.stdout.read().splitlines()
    assert watching.returncode == 0
    assert re.search(r"100\.0 %, 2\.11 kb of 2\.11 kb, [\d.]+ k?bp?/s, 0 blocks failed", last)
