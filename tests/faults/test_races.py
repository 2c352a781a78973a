"""Several drivers that want one store at the same moment."""

import subprocess
import sys

import pytest
from drivers import driver_environment
from racers import acquire_often, race, take_over_often

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
