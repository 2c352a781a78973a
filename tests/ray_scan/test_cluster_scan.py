"""Scans on more than one of Ray's nodes, all on this machine."""

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
import ray_workers
from drivers import HELPERS
from file_scans import plan_of_files, scan_alone
from ray.cluster_utils import Cluster
from scan_models import plan_of
from sequences import random_sequence
from stored import assert_equal_to_the_bit, scores_in
from waiting import wait_until

import tism_scan
from tism_scan.genome.fasta import Genome
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.ray_scan import RayOptions, scan_on_ray
from tism_scan.store.score_store import ScoreStore

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
        patch.setenv("PYTHONPATH", str(HELPERS), prepend=os.pathsep)  # for ray_workers
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
        codes, digest = genome.fetch("c", 0, 60), genome.digest()
    scoring = Scoring((Track("a", (0,), (1.0,)),), 24, 6)
    plan = replace(plan_of(scoring, {"c": codes}, block_bp=6), genome_digest=digest)
    store = ScoreStore.create(tmp_path / "quick.zarr", plan)
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
    scoring = Scoring((Track("a", (3,), (1.0,)),), 2000, 256)
    plan = plan_of_files(genome, narrow_beluga_weights, scoring, 256)
    store = ScoreStore.create(folder / "alone.zarr", plan)
    scan_alone(store, genome, narrow_beluga_weights)
    return plan, genome, scores_in(store)


def test_nodes_together_give_the_scores_of_one_process_to_the_bit(
    nodes, beluga, narrow_beluga_weights, tmp_path, is_full_dose
):
    (plan, genome, expected), n_nodes = beluga, 4 if is_full_dose else 2
    for _ in range(n_nodes):
        nodes.add(num_cpus=1)
    (tmp_path / "n_fellows").write_text(str(n_nodes))
    store = ScoreStore.create(tmp_path / "scores.zarr", plan)
    progress = scan_on_ray(
        store,
        genome,
        narrow_beluga_weights,
        options=RayOptions(stage_folder=tmp_path / "node"),
        worker_class=ray_workers.PlacedBelugaWorker,
    )
    assert progress.n_blocks == 27
    assert_equal_to_the_bit(store, expected)
    assert len({node for node, _ in places(tmp_path)}) == n_nodes
    assert len(list((tmp_path / "node").rglob("genome.fa"))) == 1


def test_actors_share_gpus_as_they_are_told(nodes, quick):
    nodes.add(num_gpus=2)
    (quick.folder / "n_fellows").write_text("4")
    most = []
    progress = quick(
        options=RayOptions(gpus_per_actor=0.5), on_progress=lambda progress: most.append(progress.n_workers)
    )
    assert progress.n_blocks == 10
    assert max(most) == 4
    gpus = sorted(gpu for _, gpu in places(quick.folder))
    assert gpus == ["0", "0", "1", "1"]


# A cloud of this machine: Ray's own stand-in provider starts a node's processes where others start machines.
CLOUD = {
    "cluster_name": "cloud",
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "max_workers": 3,
    "upscaling_speed": 3,
    "idle_timeout_minutes": 0.05,
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {
            "resources": {"GPU": 1, "object_store_memory": 100 << 20},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 3,
        },
    },
    "file_mounts_sync_continuously": False,
    **{name: {} for name in ("auth", "docker", "file_mounts")},
    **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
    **{f"{name}_commands": [] for name in ("initialization", "setup", "head_setup", "worker_setup")},
    **{f"{name}_start_ray_commands": [] for name in ("head", "worker")},
}


@pytest.fixture
def cloud(tmp_path):
    """Return the address of a head whose autoscaler starts and ends nodes, three at most."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    configuration = json.loads(json.dumps(CLOUD))
    configuration["provider"]["gcs_address"] = address
    (tmp_path / "cloud.json").write_text(json.dumps(configuration))
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=0"]
    command += [f"--port={address.partition(':')[2]}", "--node-ip-address=127.0.0.1"]
    command += ["--include-dashboard=false", "--object-store-memory=100000000"]
    short = tempfile.mkdtemp(prefix="r")  # Ray's sockets lie below it, and their names must be short
    command += [f"--temp-dir={short}", f"--autoscaling-config={tmp_path / 'cloud.json'}"]
    environment = os.environ | {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PYTHONPATH": f"{Path(tism_scan.__file__).parents[1]}:{HELPERS}",
        "RAY_FAKE_CLUSTER": "1",
    }
    log = (tmp_path / "head.log").open("w")
    with log, subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as head:
        yield address
        started = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        try:
            head.wait(20)
        except subprocess.TimeoutExpired:
            head.kill()
        for process in psutil.wait_procs(started, timeout=5)[1]:
            process.kill()
    shutil.rmtree(short, ignore_errors=True)


SCAN_IN_THE_CLOUD = """
import json, sys, time
from pathlib import Path
import ray, ray_workers
from tism_scan.errors import ClusterError
from tism_scan.ray_scan import RayOptions, scan_on_ray
from tism_scan.store.score_store import ScoreStore

address, folder = sys.argv[1], Path(sys.argv[2])
n_nodes = lambda: sum(node["Alive"] for node in ray.nodes()) - 1
seen = []

def scan():
    return scan_on_ray(
        ScoreStore.open(folder / "quick.zarr"), folder / "quick.fa", folder / "no weights",
        options=RayOptions(address, gpus_per_actor=1, max_actors=2),
        worker_class=ray_workers.PlacedWorker,
        on_progress=lambda progress: seen.append((n_nodes(), progress.n_workers)),
    )

for _ in range(60):
    try:
        progress = scan()
        break
    except ClusterError:  # the head is not there yet
        time.sleep(0.5)
ray.init(address, log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + 60
while n_nodes() and time.monotonic() < deadline:
    time.sleep(0.5)
most = [max(column) for column in zip(*seen)]
print(json.dumps({"n_blocks": progress.n_blocks, "first": seen[0], "most": most, "at_the_end": n_nodes()}))
"""


@pytest.mark.slow
def test_cluster_grows_as_the_scan_asks_and_shrinks_when_it_is_done(cloud, quick):
    command = [sys.executable, "-c", SCAN_IN_THE_CLOUD, cloud, str(quick.folder)]
    environment = os.environ | {"PYTHONPATH": f"{Path(tism_scan.__file__).parents[1]}:{HELPERS}"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told == {"n_blocks": 10, "first": [0, 0], "most": [2, told["most"][1]], "at_the_end": 0}
    assert told["most"][1] in (1, 2)  # the first node may have done it all before the second is there


STOPPED_SCAN = """
import sys, time
from pathlib import Path
import ray_workers
from tism_scan.errors import ClusterError
from tism_scan.ray_scan import RayOptions, scan_on_ray
from tism_scan.store.score_store import ScoreStore

address, folder = sys.argv[1], Path(sys.argv[2])
for _ in range(60):
    try:
        scan_on_ray(
            ScoreStore.open(folder / "quick.zarr"), folder / "quick.fa", folder / "no weights",
            options=RayOptions(address, gpus_per_actor=1, max_actors=2),
            worker_class=ray_workers.SleepyWorker,
        )
        break
    except ClusterError:  # the head is not there yet
        time.sleep(0.5)
"""


NODES_IN_THE_END = """
import sys, time
import ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
n_nodes = lambda: sum(node["Alive"] for node in ray.nodes()) - 1
deadline = time.monotonic() + 60
while n_nodes() and time.monotonic() < deadline:
    time.sleep(0.5)
print(n_nodes())
"""


@pytest.mark.slow
def test_cluster_shrinks_although_the_driver_was_killed_while_its_blocks_were_to_end(cloud, quick):
    """As `ray job stop` does it: SIGTERM, and three seconds later SIGKILL."""
    environment = os.environ | {"PYTHONPATH": f"{Path(tism_scan.__file__).parents[1]}:{HELPERS}"}
    driver = subprocess.Popen([sys.executable, "-c", STOPPED_SCAN, cloud, str(quick.folder)], env=environment)
    store = ScoreStore.open(quick.folder / "quick.zarr")
    try:
        assert wait_until(lambda: len(store.done_blocks()) == 9)  # the tenth takes a minute
        driver.terminate()
        with pytest.raises(subprocess.TimeoutExpired, match="timed out after 3"):
            driver.wait(3)
    finally:
        driver.kill()
        driver.wait()
    command = [sys.executable, "-c", NODES_IN_THE_END, cloud]
    look = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert look.stdout.split() == ["0"], look.stderr
