"""Several drivers that want one store at the same moment."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from drivers import driver_environment
from racers import acquire_often, race, take_over_often
from ray_workers import CodesEngine
from serial_scans import scan_with
from stored import whole_objects

from tism_scan.genome.fasta import Genome
from tism_scan.scan.execution import Execution
from tism_scan.scan.verify import verify_store
from tism_scan.storage.folder import LocalFolder
from tism_scan.store.lease import current_owner
from tism_scan.store.score_store import ScoreStore

RACES = {False: 6, True: 50}
# Scans a store serially with an engine that takes its time, so that the loser finds the winner at work.
SERIAL = """
import sys, time
from ray_workers import CodesEngine
from tism_scan.errors import LeaseError
from tism_scan.genome.fasta import Genome
from serial_scans import scan_with
from tism_scan.store.score_store import ScoreStore

class Engine(CodesEngine):
    def score(self, *arguments):
        time.sleep(0.02)
        return super().score(*arguments)

store = ScoreStore.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with Genome(sys.argv[2]) as genome:
        scan_with(genome, Engine(2), store)
    print("won")
except LeaseError as error:
    print("lost", error)
"""


@pytest.mark.parametrize("run", [acquire_often, take_over_often], ids=["new", "of a dead driver"])
def test_one_of_two_gets_the_lease_in_every_race(tmp_path, run, is_full_dose):
    n_races = RACES[is_full_dose]
    won = race(run, 2, tmp_path, n_races)
    assert sorted(i_race for races in won.values() for i_race in races) == list(range(n_races))
    for i_race in range(n_races):
        assert current_owner(LocalFolder(tmp_path / str(i_race)))[0] == (2 if run is take_over_often else 1)
    print(f"{n_races} races, one winner each: {[len(races) for races in won.values()]}")  # noqa: T201


def test_one_of_two_drivers_scans_a_store_and_the_other_says_who_does(scan, tmp_path):
    store = ScoreStore.create(tmp_path / "scores.zarr", scan.plan)
    command = [sys.executable, "-c", SERIAL, store.path, scan.genome]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    drivers = [subprocess.Popen(command, env=driver_environment(), **pipes) for _ in range(2)]
    for driver in drivers:
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        driver.stdin.write("go\n")
        driver.stdin.flush()
    ends = sorted(driver.communicate(timeout=60)[0] for driver in drivers)
    assert ends[0].startswith("lost the store is being written by process ")
    assert ends[1] == "won\n"
    assert list(store.pending()) == []


@pytest.mark.parametrize("overwrite", [True, False], ids=["overwritten", "taken over"])
def test_driver_that_sleeps_while_another_takes_its_store_publishes_nothing_more(scan, tmp_path, overwrite):
    """The other has other weights if it begins anew, whose objects may be of the same sizes."""
    store = ScoreStore.create(tmp_path / "scores.zarr", scan.plan)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    sleeper = subprocess.Popen(
        [sys.executable, "-c", SERIAL, store.path, scan.genome], env=driver_environment(), **pipes
    )
    with sleeper:
        assert sleeper.stdout.readline() == "ready\n"
        sleeper.stdin.write("go\n")
        sleeper.stdin.flush()
        while len(store.done_blocks()) < 3:
            time.sleep(0.005)
        os.kill(sleeper.pid, signal.SIGSTOP)
        n_before = len(store.done_blocks())
        plan = replace(scan.plan, weights_digest="0" * 64) if overwrite else scan.plan
        taken = ScoreStore.create(store.path, plan, overwrite=overwrite, break_lock=overwrite)
        with Genome(scan.genome) as genome:
            result = scan_with(genome, CodesEngine(2), taken, execution=Execution(break_lock=True))
        expected = whole_objects(store.path)
        os.kill(sleeper.pid, signal.SIGCONT)
        told = sleeper.communicate(timeout=60)[0]
    assert told.startswith("lost another process took ")
    assert result.n_blocks == sum(1 for _ in plan.all_blocks()) - (0 if overwrite else n_before)
    assert whole_objects(store.path) == expected
    assert verify_store(store.path, full=True).is_sound
    assert list(taken.pending()) == []
