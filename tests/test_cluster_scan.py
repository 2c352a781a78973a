"""Scans on more than one of Ray's nodes, all on this machine."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest
import ray
import ray_workers
from conftest import random_sequence
from ray.cluster_utils import Cluster
from scan_models import plan_of

from tism_scan.beluga import load_beluga, weights_digest
from tism_scan.genome import Genome
from tism_scan.plan import ScanPlan, Scoring
from tism_scan.ray_scan import RayOptions, scan_on_ray
from tism_scan.scan import scan_serially
from tism_scan.store import ScoreStore
from tism_scan.tracks import Track
from tism_scan.trunk_engine import make_engine

pytestmark = pytest.mark.cluster


class Nodes:
    """A cluster whose head computes nothing, and the nodes that were added to it."""

    def __init__(self):
        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.added = []

    def add(self, **resources):
        settings = {"num_cpus": 0, "object_store_memory": 100 << 20} | resources
        self.added.append(self.cluster.add_node(wait=True, **settings))

    def remove_all(self):
        for node in self.added:
            self.cluster.remove_node(node)
        self.added.clear()


@pytest.fixture(scope="module")
def running():
    """A cluster that this process has joined."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # for ray_workers
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        nodes = Nodes()
        ray.init(nodes.cluster.address, log_to_driver=False, logging_level="ERROR")
        yield nodes
        ray.shutdown()
        nodes.cluster.shutdown()


@pytest.fixture
def nodes(running):
    yield running
    running.remove_all()


@pytest.fixture
def quick(tmp_path):
    """Return a function that scans 60 bases in ten blocks."""
    (tmp_path / "quick.fa").write_text(">c\n" + "GATTACA" * 6 + "NNACGTACGTACGTACNN\n")
    with Genome(tmp_path / "quick.fa") as genome:
        codes = genome.fetch("c", 0, 60)
    scoring = Scoring((Track("a", (0,), (1.0,)),), 24, 6)
    store = ScoreStore.create(tmp_path / "quick.zarr", plan_of(scoring, {"c": codes}, block_bp=6))
    scan = functools.partial(
        scan_on_ray,
        store,
        tmp_path / "quick.fa",
        tmp_path / "no weights",
        worker_class=ray_workers.PlacedWorker,
    )
    scan.folder = tmp_path
    return scan


def places(folder):
    return [line.split() for line in (folder / "places").read_text().splitlines()]


@pytest.fixture(scope="module")
def beluga(tmp_path_factory, narrow_beluga_weights):
    """Return the plan of a small scan, its genome, and the scores that one process computes."""
    folder = tmp_path_factory.mktemp("alone")
    genome = folder / "genome.fa"
    genome.write_text(f">chr1\n{random_sequence(6_000, 4)}NNNNN\n>chr2\n{random_sequence(700, 5)}\n")
    with Genome(genome) as opened:
        digests = opened.digest(), weights_digest(narrow_beluga_weights)
        wanted = {chrom: ((0, length),) for chrom, length in opened.chroms.items()}
        plan = ScanPlan(
            Scoring((Track("a", (3,), (1.0,)),), 2000, 256), *digests, dict(opened.chroms), wanted, 256
        )
        store = ScoreStore.create(folder / "alone.zarr", plan)
        scan_serially(opened, make_engine(load_beluga(narrow_beluga_weights), plan.scoring), store)
    return plan, genome, scores_in(store)


def scores_in(store):
    return {chrom: store.read(chrom, 0, length, 0) for chrom, length in store.plan.chroms.items()}


@pytest.mark.parametrize(("n_nodes", "stages"), [(2, False), (4, True)])
def test_nodes_together_give_the_scores_of_one_process_to_the_bit(
    nodes, beluga, narrow_beluga_weights, tmp_path, n_nodes, stages
):
    plan, genome, expected = beluga
    for _ in range(n_nodes):
        nodes.add(num_cpus=1)
    store = ScoreStore.create(tmp_path / "scores.zarr", plan)
    progress = scan_on_ray(
        store,
        genome,
        narrow_beluga_weights,
        stage_folder=tmp_path / "node" if stages else None,
        worker_class=ray_workers.PlacedBelugaWorker,
    )
    assert progress.n_blocks == 27
    for chrom, scores in scores_in(store).items():
        np.testing.assert_array_equal(scores.view(np.uint32), expected[chrom].view(np.uint32))
    assert len({node for (node,) in places(tmp_path)}) == n_nodes
    assert len(list((tmp_path / "node").rglob("genome.fa"))) == stages


def test_actors_share_gpus_as_they_are_told(nodes, quick):
    nodes.add(num_gpus=2)
    most = []
    progress = quick(
        options=RayOptions(gpus_per_actor=0.5), on_progress=lambda progress: most.append(progress.n_actors)
    )
    assert progress.n_blocks == 10
    assert max(most) == 4
    gpus = sorted(gpu for _, gpu in places(quick.folder))
    assert gpus == ["0", "0", "1", "1"]


def test_scan_waits_for_gpus_that_are_yet_to_come_and_uses_no_more_than_it_may(nodes, quick):
    reports = []

    def add_a_node(progress):
        if not reports:
            nodes.add(num_gpus=3)
        reports.append(progress.n_actors)

    progress = quick(options=RayOptions(gpus_per_actor=1, max_actors=2), on_progress=add_a_node)
    assert progress.n_blocks == 10
    assert reports[0] == 0
    assert max(reports) == 2
