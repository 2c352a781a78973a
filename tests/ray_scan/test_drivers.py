"""Drivers in processes of their own, each with a Ray of its own, which are killed or told to stop."""

import functools
import json
import os
import signal

import psutil
import pytest
from drivers import starting_drivers
from file_scans import scan_alone
from stored import assert_equal_to_the_bit

from tism_scan.store.lease import current_owner


@pytest.fixture
def start_driver(beluga_store, beluga_genome, narrow_beluga_weights):
    """Return a function that starts a scan in a process of its own, with a Ray of its own."""
    with starting_drivers(beluga_genome, narrow_beluga_weights) as start:
        yield functools.partial(start, beluga_store.path)


def wait_until_blocks_are_done(driver, n_blocks):
    """Read a driver's lines until it has finished some blocks."""
    for line in driver.stdout:
        if json.loads(line).get("n_blocks", 0) >= n_blocks:
            return
    pytest.fail(f"the driver ended early: {driver.stderr.read()}")


def processes_below(pid):
    return psutil.Process(pid).children(recursive=True)


def are_gone(processes, timeout_s=60):
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return [process.pid for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_killed_driver_leaves_a_store_that_resumes_to_the_same_bits(
    start_driver, beluga_store, beluga_genome, narrow_beluga_weights, serial_scores
):
    hold = beluga_store.path.parent / "hold"
    hold.write_text("4")
    driver = start_driver("SlowBelugaWorker")
    wait_until_blocks_are_done(driver, 4)
    children = processes_below(driver.pid)
    names = {child: child.name() for child in children}
    driver.kill()
    driver.wait()
    hold.unlink()
    assert 4 <= len(beluga_store.done_blocks()) < 14
    scan_alone(beluga_store, beluga_genome, narrow_beluga_weights)
    assert_equal_to_the_bit(beluga_store, serial_scores)
    # Ray's two agents look for their parent once a minute only; all that computes is gone.
    assert are_gone([child for child in children if "Agent" not in names[child]])


@pytest.mark.parametrize(
    ("number", "send", "worker_class"),
    [
        (signal.SIGINT, os.killpg, "SlowBelugaWorker"),  # a terminal sends it to all of its processes
        (
            signal.SIGTERM,
            os.kill,
            "MortalBelugaWorker",
        ),  # Ray announces the actor's death, unless kept from it
    ],
)
def test_signalled_driver_ends_cleanly_and_quietly_and_leaves_nothing_running(
    start_driver, beluga_store, number, send, worker_class
):
    hold = beluga_store.path.parent / "hold"
    hold.write_text("4")
    driver = start_driver(worker_class)
    wait_until_blocks_are_done(driver, 4)
    children = processes_below(driver.pid)
    send(driver.pid, number)
    hold.unlink()
    output, errors = driver.communicate(timeout=120)
    assert errors == ""
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines[-1] == {"was_stopped": True, "failed": {}}
    assert driver.returncode == 0
    assert current_owner(beluga_store.folder)[1].released
    assert 0 < len(list(beluga_store.pending())) < 14
    assert (beluga_store.path.parent / "died").exists() == (worker_class == "MortalBelugaWorker")
    assert are_gone(children)
