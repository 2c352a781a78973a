"""What Ray says, understood: without a Ray that runs."""

import contextlib
import itertools
import resource
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError

from tism_scan.errors import ClusterError, ScanError, UnreachableError
from tism_scan.models.source import ModelSource
from tism_scan.ray_scan import cluster as cluster_module
from tism_scan.ray_scan import pool as pool_module
from tism_scan.ray_scan.actors import MAX_FAILURES_IN_A_ROW, Actor
from tism_scan.ray_scan.asks import Asks
from tism_scan.ray_scan.cluster import RayOptions, connected, takes_gpus
from tism_scan.ray_scan.pool import ActorPool, is_accident
from tism_scan.ray_scan.shares import ActorShare
from tism_scan.scan.execution import Execution
from tism_scan.scan.worker import WorkerSetup

# As Ray 2.60 writes it of a process that was killed; it speaks of nodes, too.
KILLED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: BlockWorker\nThe actor is dead "
    "because its worker process has died. Worker exit type: SYSTEM_ERROR (...) consider enabling resource "
    "isolation via --enable-resource-isolation to prevent node deaths by resource contention"
)


def died(message, *, preempted=False):
    error = ActorDiedError()
    error.error_msg = message
    error._preempted = preempted
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (died(KILLED), False),
        (died("The actor died unexpectedly.\nThe actor died because its node has died. Node Id: ab"), True),
        (died(KILLED, preempted=True), True),
        (ActorUnavailableError("RpcError: Socket closed", None), True),
        (OutOfMemoryError("Task was killed due to the node running low on memory."), True),
    ],
    ids=["process killed", "node died", "node preempted", "out of reach", "out of memory"],
)
def test_block_is_to_blame_only_if_the_actors_own_process_died(error, expected):
    assert is_accident(error) is expected


class Asked:
    """Stands in for what is asked of a cluster."""

    n_actors = None

    def ask(self, n_actors):
        self.n_actors = n_actors

    def close(self):
        self.ask(0)


@pytest.mark.parametrize(
    ("max_actors", "n_useful", "ended"),
    [(8, 4, []), (8, 3, ["b"]), (8, 2, ["b", "d"]), (8, 0, ["b", "d"]), (None, 0, [])],
)
def test_actors_that_are_spare_and_long_idle_end_on_a_cluster_that_may_shrink(
    monkeypatch, max_actors, n_useful, ended
):
    killed, now = [], time.monotonic()
    monkeypatch.setattr(ray, "kill", killed.append)
    pool = object.__new__(ActorPool)  # without a cluster
    pool.options, pool._owners, pool._asks = RayOptions(max_actors=max_actors), {}, Asks()
    pool._demand, pool._cluster = Asked(), SimpleNamespace(is_lost=False)
    pool.ready = [
        Actor("a", in_flight={"call": "block"}),
        Actor("b", heard_at=now - 60),
        Actor("c", heard_at=now),
        Actor("d", heard_at=now - 60),
    ]
    pool.fit_cluster(n_useful)
    assert killed == ended
    assert pool._demand.n_actors == (n_useful if max_actors else None)
    assert [actor.handle for actor in pool.ready] == [name for name in "abcd" if name not in ended]


@pytest.mark.parametrize(
    ("n_actors", "max_actors", "asked_for"), [(None, 8, 8), (2, 8, 2), (8, 2, 2), (None, 30, 20)]
)
def test_cluster_is_asked_for_no_more_than_the_scan_will_use(n_actors, max_actors, asked_for):
    pool = object.__new__(ActorPool)  # without a cluster
    pool.options, pool._demand, pool.ready = RayOptions(n_actors=n_actors, max_actors=max_actors), Asked(), []
    pool.fit_cluster(n_useful=20)
    assert pool._demand.n_actors == asked_for
    if n_actors:
        assert pool._n_wanted() == asked_for


def test_request_ends_even_if_the_wait_for_abandoned_blocks_is_interrupted(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    killed = []
    monkeypatch.setattr(ray, "wait", interrupt)
    monkeypatch.setattr(ray, "kill", killed.append)
    pool = object.__new__(ActorPool)  # without a cluster
    pool._demand, pool._abandoning, pool._starting = Asked(), ["call"], {}
    pool.ready, pool._owners, pool._asks = [Actor("a")], {}, Asks()
    pool._cluster = SimpleNamespace(is_lost=False, close=lambda: None)
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    assert pool._demand.n_actors == 0
    assert killed == ["a"]


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (
            "auto",
            ConnectionError("no one there\nmore"),
            r"cannot reach a Ray cluster at 'auto' \(no one there\)",
        ),
        ("ray://a", ImportError("No module named 'grpc'"), r"pip install 'ray\[client\]'"),
        ("local", ValueError("too little memory"), r"Ray cannot be started here \(too little memory\)"),
        (
            "local",
            Exception("The current node timed out"),
            r"started here \(The current node timed out\); ex",
        ),
        ("local", RuntimeError(), r"Ray cannot be started here \(RuntimeError\)"),
    ],
)
def test_cluster_that_cannot_be_reached_is_explained(monkeypatch, address, error, message):
    def fail(**arguments):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(cluster_module, "_knock", lambda address: None)
    kind = ScanError if address == "local" else ClusterError
    with pytest.raises(kind, match=message), connected(RayOptions(address=address)):
        pass


@pytest.mark.parametrize(("kb", "is_refused"), [(1_000_000, True), (4 << 20, False), (None, False)])
def test_limit_of_memory_that_is_too_tight_for_ray_is_named_before_it_starts(monkeypatch, kb, is_refused):
    limit = resource.RLIM_INFINITY if kb is None else kb << 10
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    started = []
    monkeypatch.setattr(ray, "init", lambda **arguments: started.append(arguments))
    refused = pytest.raises(ScanError, match=r"^Ray cannot be started here: `ulimit -v` is 1,000,000 KB; ex")
    with refused if is_refused else contextlib.nullcontext(), connected(RayOptions()):
        pass
    assert len(started) == (not is_refused)


@pytest.mark.parametrize(("n_useful", "n_started"), [(2, 2), (9, 5), (0, 0)])
def test_no_more_actors_start_than_fit_and_are_of_use(n_useful, n_started):
    pool = object.__new__(ActorPool)  # without a cluster
    pool.options, pool.ready, pool._starting = RayOptions(), [], {}
    pool._paused_until, pool._waits_for, pool._share = 0.0, "", ActorShare("GPU", 0.1)
    pool._cluster = SimpleNamespace(amounts=lambda resource: [0.3, 0.2])  # which are 3 and 2 tenths
    numbers = itertools.count()
    start = SimpleNamespace(remote=lambda: next(numbers))
    pool._actor_class = SimpleNamespace(remote=lambda setup: SimpleNamespace(start_on_node=start))
    pool._setup = None
    pool.grow(n_useful)
    assert len(pool._starting) == n_started


@pytest.mark.parametrize("is_lost", [False, True])
def test_actor_is_ended_unless_the_head_is_lost_which_ray_would_wait_for(monkeypatch, is_lost):
    killed = []
    monkeypatch.setattr(ray, "kill", killed.append)
    pool = object.__new__(ActorPool)  # without a cluster
    actor = Actor("a", in_flight={"call": "block"})
    pool.ready, pool._owners, pool._asks = [actor], {"call": actor}, Asks()
    pool._cluster = SimpleNamespace(is_lost=is_lost)
    pool._kill(actor)
    assert killed == ([] if is_lost else ["a"])
    assert (pool.ready, pool._owners, actor.in_flight) == ([], {}, {})


def test_actor_is_doubted_for_failures_in_a_row_only(monkeypatch):
    pool = object.__new__(ActorPool)  # without a cluster
    actor = Actor("a", in_flight={"call": "block"}, n_failures_in_a_row=MAX_FAILURES_IN_A_ROW - 1)
    pool._owners = {"call": actor}
    monkeypatch.setattr(ray, "get", lambda ref: "a report")
    assert pool._outcome("call").report == "a report"
    assert actor.n_failures_in_a_row == 0


def test_cluster_that_is_gone_since_it_was_found_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **arguments: pytest.fail("Ray would wait for minutes"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(UnreachableError, match=r"at 'auto' \(Connection refused\)"):
            connected(RayOptions("auto")).__enter__()


@pytest.mark.parametrize(
    ("amounts", "share", "expected"),
    [
        ([], 1.0, "waiting for a node with 1 GPU: none is in the cluster"),
        ([2.0, 4.0], 8.0, "waiting for a node with 8 GPUs: no node has more than 4"),
        ([1.0], 0.5, "waiting for an actor to load the model"),
    ],
)
def test_who_waits_for_an_actor_is_told_what_for_once(monkeypatch, caplog, amounts, share, expected):
    pool = object.__new__(ActorPool)  # without a cluster
    pool.options, pool.ready, pool._starting = RayOptions(n_actors=1), [], {}
    pool._paused_until, pool._waits_for, pool._share = 0.0, "", ActorShare("GPU", share)
    pool._cluster = SimpleNamespace(amounts=lambda resource: amounts)
    start = SimpleNamespace(remote=lambda: "started")
    pool._actor_class = SimpleNamespace(remote=lambda setup: SimpleNamespace(start_on_node=start))
    pool._setup = None
    with caplog.at_level("INFO", "tism_scan.steps"):
        pool.grow(n_useful=3)
        pool.grow(n_useful=3)
    assert caplog.messages == [expected]


def test_gpus_that_nobody_here_has_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = RayOptions(gpus_per_actor=1)
    for ask in (takes_gpus, connected(options).__enter__):
        with pytest.raises(ClusterError, match="and PyTorch can use no GPU of this machine; expected"):
            ask(*[options] if ask is takes_gpus else [])


@pytest.mark.parametrize(
    ("gpus", "gpus_per_actor", "expected"),
    [
        ([], None, ("cpu", 1.0)),
        ([2.0], None, ("cuda", 1.0)),
        ([2.0], 0.25, ("cuda", 0.25)),
        ([], 2, ("cuda", 1.0)),
    ],
    ids=["no GPU", "a whole GPU", "a quarter of one", "two that are to come"],
)
def test_actor_is_told_what_to_compute_on_and_how_much_of_it(monkeypatch, gpus, gpus_per_actor, expected):
    amounts = {"GPU": gpus, "CPU": [4.0]}
    watch = SimpleNamespace(amounts=amounts.get)
    monkeypatch.setattr(pool_module, "ClusterWatch", lambda: watch)
    setup = WorkerSetup(Path("s.zarr"), Path("g.fa"), ModelSource(), "digest", None, Execution(memory_gb=3.0))
    execution = ActorPool(setup, RayOptions(gpus_per_actor=gpus_per_actor))._setup.execution
    assert (execution.device, execution.share) == expected
    assert execution.memory_gb == 3.0


@pytest.mark.parametrize(
    ("gpus", "has_small_blocks", "depth"), [([1.0], True, 4), ([1.0], False, 2), ([], True, 2)]
)
def test_four_blocks_are_in_flight_where_a_gpu_computes_small_ones(
    monkeypatch, gpus, has_small_blocks, depth
):
    watch = SimpleNamespace(amounts={"GPU": gpus, "CPU": [4.0]}.get)
    monkeypatch.setattr(pool_module, "ClusterWatch", lambda: watch)
    setup = WorkerSetup(Path("s.zarr"), Path("g.fa"), ModelSource(), "digest", None, Execution())
    asked = {}
    monkeypatch.setattr(
        pool_module.ray, "remote", lambda _: SimpleNamespace(options=lambda **options: asked.update(options))
    )
    pool = ActorPool(setup, RayOptions(), has_small_blocks=has_small_blocks)
    assert pool.depth == depth
    assert asked["max_concurrency"] == depth + 1
