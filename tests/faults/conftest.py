"""What the tests that break things share: a scan of real scores in small blocks, and what it should give."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from sequences import random_sequence

from faults.helpers import TESTS, driver_environment, objects_of
from tism_scan.beluga import load_beluga, weights_digest
from tism_scan.genome import Genome
from tism_scan.plan import ScanPlan, Scoring
from tism_scan.scan import scan_serially
from tism_scan.store import ScoreStore
from tism_scan.tracks import Track
from tism_scan.trunk_engine import make_engine

N_BP = 20_000
BLOCK_BP = 512


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def scan(tmp_path_factory, narrow_beluga_weights):
    """Return the plan, genome and weights of a scan of forty blocks, and the objects of its store."""
    folder = tmp_path_factory.mktemp("whole")
    fasta = folder / "genome.fa"
    fasta.write_text(f">chr1\n{random_sequence(N_BP, 4)}\n>a/../b\n{random_sequence(700, 5)}\n")
    with Genome(fasta) as genome:
        wanted = {chrom: ((0, length),) for chrom, length in genome.chroms.items()}
        scoring = Scoring((Track("a", (3,), (1.0,)), Track("g", (1, 7), (0.5, 0.5))), 2000, 256)
        digests = genome.digest(), weights_digest(narrow_beluga_weights)
        plan = ScanPlan(scoring, *digests, dict(genome.chroms), wanted, BLOCK_BP)
        store = ScoreStore.create(folder / "scores.zarr", plan)
        scan_serially(genome, make_engine(load_beluga(narrow_beluga_weights), scoring), store)
    return SimpleNamespace(
        plan=plan, genome=fasta, weights=narrow_beluga_weights, objects=objects_of(store.path)
    )


@pytest.fixture
def start_driver(scan):
    """Return a function that starts a scan in a process of its own."""
    started = []

    def start(store, worker_class, *, address, n_actors=2, prefix=()):
        command = [*prefix, sys.executable, str(TESTS / "ray_driver.py"), store, scan.genome, scan.weights]
        driver = subprocess.Popen(
            [*map(str, command), worker_class, str(n_actors), address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=driver_environment(),
        )
        started.append(driver)
        return driver

    yield start
    for driver in started:
        if driver.poll() is None:
            driver.kill()
        driver.communicate()
