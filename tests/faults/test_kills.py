"""SIGKILL at random moments: of the driver, of an actor, or of both."""

import contextlib
import os
import random
import signal
import time

import psutil
import pytest
from drivers import driver_environment
from ray.cluster_utils import Cluster
from stored import whole_objects
from waiting import lines_of_log, repeated_without_reason, wait_until

from tism_scan.scan.claim import finish
from tism_scan.scan.verify import verify_store
from tism_scan.store.score_store import ScoreStore

KILLS = {("scan", False): 2, ("scan", True): 100, ("refinement", True): 6}
LONGEST_WAIT_S = 2.5


@pytest.fixture
def cluster(monkeypatch):
    """A Ray of two CPUs that outlives its drivers."""
    for name, value in driver_environment().items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def kill(process):
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def note_kill(store, what):
    with open(store.path.parent / "log", "a") as file:
        file.write(f"kill {what} 0 0\n")


@pytest.fixture(params=["scan", "refinement"])
def work(request, is_full_dose):
    """Return what is to be computed, what it gives if nothing stops it, and how often it is killed."""
    if (request.param, is_full_dose) not in KILLS:
        pytest.skip("tried with --dose full")
    return request.getfixturevalue(request.param), KILLS[request.param, is_full_dose]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_what_is_killed_at_random_ends_with_the_bits_of_what_is_not(
    cluster, work, start_driver, tmp_path, record_property
):
    rng, n_kills, n_scans = random.Random(7), 0, 0
    work, n_most = work
    counts = {"driver": 0, "actor": 0, "both": 0}
    while n_kills < n_most:
        n_scans += 1
        store = ScoreStore.create(tmp_path / str(n_scans) / "scores.zarr", work.plan)
        while next(store.pending(), None) is not None:
            driver = start_driver(store.path, work.worker, address=cluster.address)
            n_kills += kill_at_random(driver, store, rng, counts, n_most - n_kills)
            assert driver.wait(120) in (0, -signal.SIGKILL)
        assert store.ledger.failures() == []
        assert repeated_without_reason(lines_of_log(store)) == []
        assert verify_store(store.path, full=True).is_sound
        assert finish(store)  # the last driver may have been killed between its last block and this
        assert whole_objects(store.path) == work.objects
    record_property("kills", counts)
    print(f"{n_kills} kills ({counts}) in {n_scans} scans")  # noqa: T201  # the figure that is reported


def kill_at_random(driver, store, rng, counts, n_most):
    """Kill actors until the driver ends or is killed itself, and return how many kills that were."""
    n_kills, n_before = 0, len(lines_of_log(store))

    def actors():
        lines = [line for line in lines_of_log(store)[n_before:] if line[0] != "kill"]
        return sorted({int(line[2]) for line in lines if psutil.pid_exists(int(line[2]))})

    while n_kills < n_most:
        what = rng.choice(["driver", "actor", "both"])
        if what != "driver":
            wait_until(lambda: actors() or driver.poll() is not None)
        time.sleep(rng.uniform(0, LONGEST_WAIT_S))
        if driver.poll() is not None:
            break
        alive = actors()
        if what != "driver" and not alive:  # it ended by itself meanwhile, or was killed and not replaced yet
            continue
        note_kill(store, what)
        if what != "driver":
            kill(rng.choice(alive))
        if what != "actor":
            kill(driver.pid)
        counts[what] += 1
        n_kills += 1
        if what != "actor":
            break
    return n_kills


def test_repeated_block_would_be_noticed():
    lines = [
        ("begin", "a", "1", "n"),
        ("done", "a", "1", "n"),
        ("begin", "b", "1", "n"),
        ("begin", "c", "1", "n"),
        ("kill", "driver", "0", "0"),
        ("begin", "b", "2", "n"),
        ("begin", "a", "2", "n"),
    ]
    assert repeated_without_reason(lines) == ["a"]
