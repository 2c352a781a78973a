"""What the tests that break things share: a scan of real scores in small blocks, and what it should give."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from drivers import starting_drivers
from file_scans import plan_of_files, scan_alone
from sequences import random_sequence
from stored import whole_objects

from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.refine import RefineWorker, plan_refinement
from tism_scan.scan import scan_serially
from tism_scan.store.score_store import ScoreStore

QUANTILE = 0.98
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
    scoring = Scoring((Track("a", (3,), (1.0,)), Track("g", (1, 7), (0.5, 0.5))), 2000, 256)
    plan = plan_of_files(fasta, narrow_beluga_weights, scoring, BLOCK_BP)
    store = ScoreStore.create(folder / "scores.zarr", plan)
    scan_alone(store, fasta, narrow_beluga_weights)
    return SimpleNamespace(
        plan=plan,
        genome=fasta,
        weights=narrow_beluga_weights,
        objects=whole_objects(store.path),
        store=store,
        worker="fault_workers:LoggingWorker",
    )


@pytest.fixture(scope="session")
def refinement(scan, tmp_path_factory):
    """Return the same of a refinement of that scan, at two bases in a hundred, and what planned it."""
    planned = plan_refinement(scan.store, scan.genome, scan.weights, quantile=QUANTILE)
    store = ScoreStore.create(tmp_path_factory.mktemp("refined") / "refined.zarr", planned.plan)
    scan_serially(store, scan.genome, planned.model, worker_class=RefineWorker)
    return SimpleNamespace(
        plan=planned.plan,
        planned=planned,
        quantile=QUANTILE,
        objects=whole_objects(store.path),
        worker="fault_workers:LoggingRefineWorker",
    )


@pytest.fixture
def start_driver(scan):
    """Return a function that starts a scan in a process of its own."""
    with starting_drivers(scan.genome, scan.weights) as start:
        yield start
