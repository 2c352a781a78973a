import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import WEIGHTS, tism_scan

from tism_scan.store.lease import Lease, current_owner
from tism_scan.store.score_store import ScoreStore


@pytest.fixture(scope="module")
def run_arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    sequence = "".join(np.random.default_rng(3).choice(list("ACGT"), 6_000))
    (folder / "genome.fa").write_text(f">chr1\n{sequence}\n")
    genome = ["--genome", folder / "genome.fa", "--weights", WEIGHTS]
    return genome, ["run", *genome, "--tracks", "0", "--block-bp", "2048", "--actors", "1"]


@pytest.fixture(scope="module")
def damaged(run_arguments, tmp_path_factory):
    """Return a store in which two blocks are damaged, one of them so that its size tells."""
    path = tmp_path_factory.mktemp("scanned") / "s.zarr"
    result = tism_scan(*run_arguments[1], "--out", path, is_without_ray=True)
    assert result.returncode == 0, result.stderr
    return path


def test_verify_finds_damage_says_what_to_type_and_that_mends_it(damaged, run_arguments):
    sound = tism_scan("verify", damaged, "--full")
    assert (sound.returncode, sound.stderr) == (0, "")
    assert "3 objects" in sound.stdout
    assert "no damage" in sound.stdout
    whole = {path: path.read_bytes() for path in damaged.rglob("c/0/*")}
    first, second, _ = sorted(whole)
    first.write_bytes(whole[first][:-1])
    second.write_bytes(bytes([whole[second][0] ^ 1]) + whole[second][1:])

    by_size = tism_scan("verify", damaged)
    assert by_size.returncode == 1
    assert "chr1:1-2,048 is damaged: chr1/c/0/0 has" in by_size.stdout
    by_bits = json.loads(tism_scan("verify", damaged, "--full", "--json").stdout)
    assert [damage["what"] for damage in by_bits["damaged"]] == ["chr1:2,049-4,096"]
    assert by_bits["n_pending"] == 2

    (_, folder), (program, *arguments) = map(shlex.split, by_bits["command"].split(" && "))
    assert program == "tism-scan"
    again = tism_scan(*arguments, cwd=folder, is_without_ray=True)
    assert again.returncode == 0, again.stderr
    assert "scanned 2 blocks" in again.stdout
    assert {path: path.read_bytes() for path in whole} == whole


def test_blocks_are_computed_again_with_the_same_genome_and_weights(damaged, run_arguments):
    genome, _ = run_arguments
    result = tism_scan("verify", damaged, "--recompute", "2", *genome)
    assert result.returncode == 0, result.stderr
    assert "computed 2 blocks again: 2 equal to the bit, 0 to rounding, 0 wrong" in result.stdout
    assert "round differently" not in result.stdout  # the same device
    (device,) = ScoreStore.open(damaged).ledger.devices()
    report = json.loads(tism_scan("verify", damaged, "--recompute", "2", *genome, "--json").stdout)
    assert [found["device"] for found in report["recomputed"]] == [device] * 2


@pytest.mark.parametrize("place", ["my copy.zarr", "süß ö"])
def test_verify_of_a_copy_says_how_to_mend_the_copy(damaged, tmp_path, place):
    copy = tmp_path / place
    shutil.copytree(damaged, copy)
    next(copy.rglob("c/0/0")).unlink()
    report = json.loads(tism_scan("verify", copy, "--json").stdout)
    *_, command = tism_scan("verify", copy).stdout.splitlines()
    for line in (report["command"], command):
        words = shlex.split(line)
        assert words[words.index("--out") + 1] == str(copy)
        assert str(damaged) not in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recompute", "2"], "--recompute needs the genome; add --genome and the model"),
        (["--weights", WEIGHTS], "--genome and --weights are for --recompute N"),
        (["--recompute", "0"], "0 is not in the range"),
        (["--recompute", "1", "--genome", "absent.fa"], "absent.fa.*No such file"),
    ],
)
def test_verify_refuses_what_it_cannot_use(damaged, arguments, message):
    result = tism_scan("verify", damaged, *arguments)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert re.search(message, result.stderr), result.stderr


def test_verify_of_what_is_no_store_is_one_line(tmp_path):
    result = tism_scan("verify", tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


def test_status_tells_what_computed_the_blocks(damaged):
    (device,) = json.loads(tism_scan("status", damaged, "--json").stdout)["devices"]
    assert device
    assert f"computed on {device}" in tism_scan("status", damaged).stdout


def test_weights_that_changed_between_two_runs_are_refused_with_both_digests(
    damaged, run_arguments, narrow_beluga_weights
):
    arguments = list(run_arguments[1])
    arguments[arguments.index(WEIGHTS)] = narrow_beluga_weights
    before = ScoreStore.open(damaged).plan.weights_digest
    result = tism_scan(*arguments, "--out", damaged)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert f"weights_digest {before[:12]}, not " in result.stderr


def test_store_that_another_process_writes_is_to_be_tried_later(damaged):
    with Lease(ScoreStore.open(damaged).folder).acquire():
        result = tism_scan("verify", damaged)
    assert (result.returncode, result.stderr.count("\n")) == (75, 1)
    assert "the store is being written by process" in result.stderr


def test_stopped_run_ends_in_time_releases_the_store_and_says_how_to_resume(run_arguments, tmp_path):
    """By a SIGTERM to all of its processes, as from schedulers; test_drivers has one to the driver alone."""
    out = tmp_path / "s.zarr"
    arguments = [str(word) for word in run_arguments[1]] + ["--stride", "2", "--block-bp", "200"]
    with subprocess.Popen(
        [sys.executable, "-m", "tism_scan", *arguments, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 150
        while not list(out.glob(".scan/done/[0-9]*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 130, errors
    assert "the same command resumes:" in output
    assert shlex.split(output.splitlines()[-1])[1:] == ["-m", "tism_scan", *arguments, "--out", str(out)]
    assert "stopping; " in errors or "Ray was stopped, too" in errors, errors
    assert "Traceback" not in errors
    store = ScoreStore.open(out)
    assert current_owner(store.folder)[1].released
    assert 0 < len(store.done_blocks()) < 30


def test_scan_outlives_its_words(run_arguments, tmp_path):
    """First it has nowhere to write them; in the end, with nothing left to compute, they are not wanted."""
    command = shlex.join([sys.executable, "-m", "tism_scan", *map(str, run_arguments[1])])
    for end in (">&- 2>&-", ">/dev/full 2>/dev/full", "2>&1 | head -c 10; exit ${PIPESTATUS[0]}"):
        done = subprocess.run(["bash", "-c", f"{command} --out {tmp_path}/s.zarr {end}"], timeout=150)
        assert done.returncode == 0, end
    assert list(ScoreStore.open(tmp_path / "s.zarr").pending()) == []
