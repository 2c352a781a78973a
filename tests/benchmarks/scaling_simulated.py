"""Scans whose actors sleep instead of computing; see ``scaling.py``."""

import argparse
import logging
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
from figures import shown

from tism_scan.plan.tiling import Block


@dataclass(frozen=True)
class SleepSetup:
    """What a sleeping actor needs; light, so that hundreds of them fit a small machine."""

    block_s: float
    n_seats: int = 1
    n_threads: int = 1


@dataclass(frozen=True)
class SleepReport:
    """What the loop wants to know of a block."""

    block: Block
    n_scored: int
    seconds: float


class SleepWorker:
    """Sleeps as long as a GPU would compute; two blocks are in flight, and one of them computes."""

    def __init__(self, setup: SleepSetup) -> None:
        self.block_s = setup.block_s
        self.gpus = [threading.Lock() for _ in range(setup.n_seats)]

    def start_on_node(self) -> str:
        return os.uname().nodename

    def process(self, block: Block, seat: int = 0) -> SleepReport:
        with self.gpus[seat]:
            time.sleep(self.block_s)
        return SleepReport(block, len(block), self.block_s)

    def abandon(self, block: Block) -> None:
        """Publish nothing."""


class Call:
    """A method of an actor, called for one of its seats."""

    def __init__(self, method, *seat: int) -> None:
        self.method, self.seat = method, seat

    def remote(self, *arguments):
        return self.method.remote(*arguments, *self.seat)


class Seats:
    """Makes what the pool takes for actors: seats in actors that hold several."""

    def __init__(self, n_seats: int) -> None:
        self.n_seats, self.n_taken, self.held = n_seats, 0, None

    def remote(self, setup: SleepSetup):
        import ray

        seat = self.n_taken % self.n_seats
        if seat == 0:
            actor = ray.remote(SleepWorker).options(num_cpus=0, max_concurrency=2 * self.n_seats)
            self.held = actor.remote(setup)
        self.n_taken += 1
        return SimpleNamespace(
            start_on_node=Call(self.held.start_on_node),
            process=Call(self.held.process, seat),
            abandon=Call(self.held.abandon),
        )


def plan_of_blocks(n_blocks: int):
    """Return a plan of so many blocks."""
    from tism_scan.plan.scan_plan import ScanPlan
    from tism_scan.plan.scoring import Scoring
    from tism_scan.plan.tracks import Track

    length = n_blocks << 20
    scoring = Scoring((Track("0", (0,), (1.0,)),), 2000)
    return ScanPlan(scoring, "0" * 64, "0" * 64, {"c": length}, {"c": ((0, length),)}, 1 << 20)


def simulated(arguments: argparse.Namespace) -> dict:
    """Return the efficiency with each number of actors, and what a hundred thousand blocks cost to list."""
    from tism_scan.store.score_store import ScoreStore

    figures: dict = {"block_s": arguments.block_s, "runs": []}
    with tempfile.TemporaryDirectory() as name:
        store = ScoreStore.create(Path(name) / "many.zarr", plan_of_blocks(100_000))
        began = time.perf_counter()
        n_pending = sum(1 for _ in store.pending())
        figures["listing_s"] = time.perf_counter() - began
        print(f"listing {n_pending:,} pending blocks: {figures['listing_s']:.2f} s", flush=True)
        for n_actors in map(int, arguments.actors.split(",")):
            n_blocks = round(n_actors * arguments.seconds / arguments.block_s)
            store = ScoreStore.create(Path(name) / f"{n_actors}.zarr", plan_of_blocks(min(n_blocks, 100_000)))
            figures["runs"].append(run_asleep(store, n_actors, arguments))
            print(shown(figures["runs"][-1]), flush=True)
    return figures


def busy_s() -> float:
    """Return the CPU time that this machine's processes have had, all together."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def run_asleep(store, n_actors: int, arguments: argparse.Namespace) -> dict:
    """Return the figures of one simulated scan."""
    import ray

    from tism_scan.ray_scan.cluster import RayOptions
    from tism_scan.ray_scan.feed import Feed
    from tism_scan.ray_scan.pool import ActorPool
    from tism_scan.scan.claim import Claim
    from tism_scan.scan.result import ScanResult
    from tism_scan.store.lease import Lease

    options = RayOptions(n_actors=n_actors)
    here = str(Path(__file__).parent)
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=128 << 20,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": f"{here}:{os.environ.get('PYTHONPATH', '')}"}},
    )
    try:
        pool = ActorPool(SleepSetup(arguments.block_s, arguments.seats), options, SleepWorker)
        if arguments.seats > 1:
            pool._actor_class = Seats(arguments.seats)
        pool.grow(n_actors)
        while len(pool.ready) < n_actors:
            pool.wait(1.0)
        progress = ScanResult(n_blocks_total=sum(1 for _ in store.pending()))
        loop = Feed(pool, Claim(store, Lease(store.folder), store.pending(), progress), lambda: None)
        began, cpu_began, machine_began = time.perf_counter(), time.process_time(), busy_s()
        loop.run()
        seconds, driver_cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        machine_cpu_s = busy_s() - machine_began
    finally:
        ray.shutdown()
    # No driver can do better than whole blocks, one after the other, on each actor.
    best_s = -(-progress.n_blocks // n_actors) * arguments.block_s
    return {
        "n_actors": n_actors,
        "n_blocks": progress.n_blocks,
        "seconds": seconds,
        "blocks_per_s": progress.n_blocks / seconds,
        "efficiency": best_s / seconds,
        "driver_cpu_ms_per_block": 1000 * driver_cpu_s / progress.n_blocks,
        "driver_cores": driver_cpu_s / seconds,
        "machine_cores": machine_cpu_s / seconds,
    }
