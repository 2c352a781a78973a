"""Disks that lose their power, fill up, or turn bits."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import WEIGHTS, tism_scan
from drivers import driver_environment
from fault_workers import assert_scores_are_codes
from mounting import mounted
from ray_workers import CodesEngine
from serial_scans import scan_with
from small_plans import publish, random_scores, small_plan
from stored import whole_objects

from tism_scan.errors import StorageFullError
from tism_scan.genome.fasta import Genome
from tism_scan.scan.verify import verify_store
from tism_scan.store.score_store import ScoreStore

POWER_CUTS = {False: 1, True: 5}
FULL_DISKS = {False: 1, True: 5}
FLIPS = {False: 40, True: 200}
N_BLOCKS = 2_000
BLOCK_BP = 4_096


def image_of(path):
    """Return a disk of 48 MB in a file, with a file system on it."""
    with open(path, "wb") as file:
        file.truncate(48 << 20)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4 here")
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
    return path


def cut_the_power(folder, seed, how):
    """Return the blocks that a writer was told are safe, and a report on what a cut left of them."""
    plan = small_plan(2, chroms={"chr1": N_BLOCKS * BLOCK_BP}, block_bp=BLOCK_BP)
    image = image_of(folder / "disk")
    with mounted(image, folder / "before", "-o", "loop"):
        store = ScoreStore.create(folder / "before" / "scores.zarr", plan)
        subprocess.run(["sync", "-f", store.path], check=True)
        command = [sys.executable, "-m", "block_writer", store.path, str(seed), how]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=driver_environment()) as writer:
            acknowledged = [int(writer.stdout.readline()) for _ in range(random.Random(seed).randint(5, 60))]
            time.sleep(random.Random(seed).uniform(0, 0.05))
            writer.send_signal(signal.SIGSTOP)
            shutil.copy(image, folder / "disk after the cut")  # what had reached the disk, and nothing else
            os.set_blocking(writer.stdout.fileno(), False)
            acknowledged += [int(line) for line in (writer.stdout.read() or b"").split()]
            writer.kill()
    with mounted(folder / "disk after the cut", folder / "after", "-o", "loop"):
        done = {i_block for _, i_block in ScoreStore.open(folder / "after/scores.zarr").done_blocks()}
        report = verify_store(folder / "after/scores.zarr", full=True)
    return set(acknowledged), done, report


def test_every_marked_block_survives_a_power_cut(tmp_path, is_full_dose):
    n_safe = 0
    for i_cut in range(POWER_CUTS[is_full_dose]):
        (tmp_path / str(i_cut)).mkdir()
        acknowledged, done, report = cut_the_power(tmp_path / str(i_cut), i_cut, "sync")
        assert acknowledged <= done
        assert report.damaged == []
        n_safe += len(acknowledged)
    print(f"{n_safe} acknowledged blocks survived {POWER_CUTS[is_full_dose]} cuts")  # noqa: T201


def test_power_cut_without_syncing_would_be_noticed(tmp_path):
    acknowledged, done, report = cut_the_power(tmp_path, 3, "nosync")
    assert report.damaged or not acknowledged <= done


@pytest.mark.slow
def test_full_disk_ends_the_scan_with_one_line_and_it_resumes_once_there_is_room(tmp_path, is_full_dose):
    sequence = "".join(np.random.default_rng(3).choice(list("ACGT"), 30_000))
    (tmp_path / "genome.fa").write_text(f">chr1\n{sequence}\n")
    command = ["run", "--genome", tmp_path / "genome.fa", "--weights", WEIGHTS, "--tracks", "all"]
    command += ["--block-bp", "2048", "--actors", "1"]
    for i_disk in range(FULL_DISKS[is_full_dose]):
        size_kb = 280 + 40 * i_disk
        with mounted("tmpfs", tmp_path / "disk", "-t", "tmpfs", "-o", f"size={size_kb}k") as disk:
            full = tism_scan(*command, "--out", disk / "scores.zarr")
            assert full.returncode == 1
            last = [line for line in full.stderr.splitlines() if not line.startswith("scan: ")]
            assert len(last) == 1, full.stderr
            assert last[0].startswith("Error: no room left to write ")
            n_done = len(ScoreStore.open(disk / "scores.zarr").done_blocks())
            assert 0 < n_done < 15
            subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
            assert verify_store(disk / "scores.zarr", full=True).is_sound
            resumed = tism_scan(*command, "--out", disk / "scores.zarr", is_without_ray=True)
            assert resumed.returncode == 0, resumed.stderr
            assert f"resumed: {n_done} block" in resumed.stdout
            assert verify_store(disk / "scores.zarr", full=True).n_pending == 0
    print(f"{FULL_DISKS[is_full_dose]} full disks")  # noqa: T201  # the figure that is reported


@pytest.fixture
def often(is_full_dose):
    """Skip what starts Ray for a figure that is reported, and for little else."""
    if not is_full_dose:
        pytest.skip("tried with --dose full")


@pytest.fixture
def command(scan, tmp_path):
    command = [sys.executable, "-m", "tism_scan", "run", "--genome", scan.genome, "--weights", WEIGHTS]
    return [*command, "--tracks", "0", "--actors", "1", "--block-bp", "4096", "--out", tmp_path / "s.zarr"]


@pytest.mark.slow
def test_scan_does_without_shared_memory(often, command, tmp_path):
    inside = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    done = subprocess.run([*inside, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(ScoreStore.open(tmp_path / "s.zarr").pending()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("ulimit -v 1500000", "Ray cannot be started here: `ulimit -v` is 1,500,000 KB; expected 4,194,304"),
        ("export RAY_memory_usage_threshold=0.001 RAY_memory_monitor_refresh_ms=100", "actors do not start"),
    ],
    ids=["for this process", "on the node"],
)
def test_lack_of_memory_ends_the_scan_with_one_line_and_it_resumes(often, command, tmp_path, limit, words):
    lacking = ["bash", "-c", f'{limit}; exec "$@"', "bash", *command]
    done = subprocess.run(lacking, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"Error: {words}")
    assert "Traceback" not in done.stderr
    again = tism_scan(*command[3:], is_without_ray=True)
    assert again.returncode == 0, again.stderr
    assert list(ScoreStore.open(tmp_path / "s.zarr").pending()) == []


def test_disk_that_takes_no_more_files_stops_the_scan_which_resumes_once_it_does(scan, tmp_path):
    with mounted("tmpfs", tmp_path / "disk", "-t", "tmpfs", "-o", "nr_inodes=60") as disk:
        store = ScoreStore.create(disk / "scores.zarr", scan.plan)
        with Genome(scan.genome) as genome:
            with pytest.raises(
                StorageFullError, match=r"^no room left to write .*no more files, see `df -i`"
            ):
                scan_with(genome, CodesEngine(2), store)
            n_done = len(store.done_blocks())
            assert 0 < n_done < sum(1 for _ in scan.plan.all_blocks())
            assert store.ledger.failures() == []
            subprocess.run(["mount", "-o", "remount,nr_inodes=1000", disk], check=True)
            resumed = scan_with(genome, CodesEngine(2), ScoreStore.open(store.path))
        assert resumed.n_blocks == sum(1 for _ in scan.plan.all_blocks()) - n_done
        assert verify_store(store.path, full=True).is_sound
        assert_scores_are_codes(store, scan)


def test_every_flipped_bit_and_cut_object_is_found(tmp_path, is_full_dose):
    plan = small_plan(3, chroms={"chr1": 20 * BLOCK_BP, "../x": 3 * BLOCK_BP}, block_bp=BLOCK_BP)
    store, scores = ScoreStore.create(tmp_path / "scores.zarr", plan), random_scores(plan)
    publish(store, scores)
    store.consolidate()
    whole, rng, n_silent = whole_objects(store.path), random.Random(11), 0
    keys = sorted(key for key in whole if "/c/" in key)
    for i_harm in range(FLIPS[is_full_dose]):
        key = rng.choice(keys)
        content = bytearray(whole[key])
        if i_harm % 4 == 3:
            del content[rng.randrange(len(content)) :]
        else:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (store.path / key).write_bytes(content)
        report = verify_store(store.path, full=True)
        # Names of tracks, which the plan holds too, are written again at once.
        found = [damage.fault for damage in report.damaged] or [damage.what for damage in report.mended]
        n_silent += len(found) != 1 or key not in found[0]
        assert [str(block) for block in store.pending()] == [damage.what for damage in report.damaged]
        publish(store, scores, list(store.pending()))
        (store.path / key).write_bytes(whole[key])
    assert n_silent == 0
    assert whole_objects(store.path) == whole
    print(f"{FLIPS[is_full_dose]} harms found, {n_silent} silent")  # noqa: T201  # the figure
