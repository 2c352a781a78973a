"""How a scan scales: with actors for real, with simulated GPUs, and on paper.

    python tests/benchmarks/scaling.py real [--repeats 3] [--blocks 40] [--model beluga]
    python tests/benchmarks/scaling.py simulated [--actors 1,8,64,256] [--block-s 0.67] [--seats 1]
    python tests/benchmarks/scaling.py paper [--flop-per-s 3.3e13] [--dollars-per-hour 4]

real: one thread an actor, two actors against one; it wants two idle cores. Efficiency is half the ratio of
the rates, each from the moment when all actors are ready to the last block. The rival is "bare": the same
engine on the same blocks in one and in two processes, without Ray or a store, which is what the machine
allows. The model is full Beluga of random weights with one track, or, to see what small blocks cost, the
demo's with six.

simulated: actors that sleep for as long as a GPU would need for a block. All else is the scan's own: its
pending blocks, its loop, its actors. Each is a process, or, where a machine does not hold hundreds of them,
one of several seats in a process; the driver calls, waits for and counts them alike. Efficiency is the time
that perfectly fed actors would need over the time that was needed.

paper: what hg38 takes on 1, 8 and 64 GPUs, from stated rates.
"""

import argparse
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.resources import files
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil

from tism_scan.tiling import Block

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

HG38 = [
    *(248_956_422, 242_193_529, 198_295_559, 190_214_555, 181_538_259, 170_805_979, 159_345_973, 145_138_636),
    *(138_394_717, 133_797_422, 135_086_622, 133_275_309, 114_364_328, 107_043_718, 101_991_189, 90_338_345),
    *(83_257_441, 80_373_285, 58_617_616, 64_444_167, 46_709_983, 50_818_468, 156_040_895, 57_227_415),
    16_569,
]
BYTES_PER_VALUE = 3.5  # measured: a Beluga of random weights on 16 kb of hg38, lossless
DOLLARS_PER_1000_PUTS = 0.005  # list price of S3 and of Google's standard class
DOLLARS_PER_GB_MONTH = 0.023


def shown(figures: dict) -> str:
    """Return figures on one line."""
    return ", ".join(
        f"{key} {value:,.4g}" if isinstance(value, float) else f"{key} {value:,}"
        for key, value in figures.items()
    )


class Watch:
    """Notes the time when all actors are ready, and what was done by then."""

    def __init__(self, n_actors: int) -> None:
        self.n_actors = n_actors
        self.began: tuple[float, int] | None = None
        self.last = (0.0, 0)

    def __call__(self, progress) -> None:
        if self.began is None and progress.n_actors == self.n_actors:
            self.began = (time.perf_counter(), progress.n_bp)
        if progress.n_bp != self.last[1]:
            self.last = (time.perf_counter(), progress.n_bp)

    def rate(self) -> float:
        """Return bases each second, all actors together."""
        return (self.last[1] - self.began[1]) / (self.last[0] - self.began[0])


def make_scan(folder: Path, model_name: str, n_blocks: int):
    """Write a genome and weights, and return their paths and a plan of as many equal blocks."""
    import torch

    from tism_scan.alphabet import decode
    from tism_scan.beluga import load_beluga, random_beluga, weights_digest
    from tism_scan.genome import Genome
    from tism_scan.plan import ScanPlan, Scoring
    from tism_scan.tracks import Track

    genome_path, weights, block_bp = folder / "genome.fa", folder / "weights.pth", 1 << 14
    codes = np.random.default_rng(0).integers(0, 4, n_blocks * block_bp).astype(np.uint8)
    genome_path.write_text(f">chr1\n{decode(codes)}\n")
    if model_name == "beluga":
        torch.save(random_beluga().published_state_dict(), weights)
        scoring = Scoring((Track("0", (0,), (1.0,)),), 2000)
    else:
        weights = Path(str(files("tism_scan.demo") / "demo_beluga.pth"))
        tracks = tuple(Track(str(i), (i,), (1.0,)) for i in range(6))
        scoring = Scoring(tracks, load_beluga(weights).input_bp, stride=64, strands="both")
    with Genome(genome_path) as genome:
        chroms, digest = dict(genome.chroms), genome.digest()
    wanted = {chrom: ((0, length),) for chrom, length in chroms.items()}
    return genome_path, weights, ScanPlan(scoring, digest, weights_digest(weights), chroms, wanted, block_bp)


def compute_bare(genome_path: Path, weights: Path, plan, blocks: list[Block], together: Barrier) -> None:
    """Compute blocks with one thread, when all others are ready to, and keep nothing."""
    import torch

    from tism_scan.beluga import load_beluga
    from tism_scan.genome import Genome
    from tism_scan.scan import fetch_block, score_block
    from tism_scan.trunk_engine import make_engine

    torch.set_num_threads(1)
    with Genome(genome_path) as genome:
        engine = make_engine(load_beluga(weights), plan.scoring)
        together.wait()
        for block in blocks:
            score_block(engine, plan, fetch_block(genome, plan, block))
        together.wait()


def bare_rate(genome_path: Path, weights: Path, plan, n_processes: int) -> float:
    """Return bases each second of processes that share the blocks out, without Ray or a store."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(n_processes + 1)
    blocks = list(plan.all_blocks())
    shares = [blocks[i::n_processes] for i in range(n_processes)]
    processes = [
        context.Process(target=compute_bare, args=(genome_path, weights, plan, share, together))
        for share in shares
    ]
    for process in processes:
        process.start()
    together.wait()
    began = time.perf_counter()
    together.wait()
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return plan.n_wanted / seconds


def scan_rate(genome_path: Path, weights: Path, plan, n_actors: int) -> float:
    """Return bases each second of a scan on Ray, from when all actors are ready to the last block."""
    from tism_scan.ray_scan import RayOptions, scan_on_ray
    from tism_scan.store import ScoreStore

    watch = Watch(n_actors)
    with tempfile.TemporaryDirectory() as folder:
        store = ScoreStore.create(Path(folder) / "scores.zarr", plan)
        options = RayOptions(n_actors=n_actors, n_cpus=n_actors)
        scan_on_ray(store, genome_path, weights, options=options, on_progress=watch)
    return watch.rate()


def real(arguments: argparse.Namespace) -> dict:
    """Return the rates of one and of two, with Ray and without, and their efficiencies."""
    rates: dict[str, dict[int, list[float]]] = {kind: {1: [], 2: []} for kind in ("scan", "bare")}
    with tempfile.TemporaryDirectory() as name:
        scan = make_scan(Path(name), arguments.model, arguments.blocks)
        for _ in range(arguments.repeats):
            for kind, rate in (("scan", scan_rate), ("bare", bare_rate)):
                for n in (1, 2):
                    rates[kind][n].append(rate(*scan, n))
                    print(f"{kind} {n}: {rates[kind][n][-1]:,.0f} bases/s", flush=True)
    efficiency = {}
    for kind, of_kind in rates.items():
        one, two = (statistics.median(of_kind[n]) for n in (1, 2))
        pairs = [two / one / 2 for one, two in zip(of_kind[1], of_kind[2], strict=True)]
        efficiency[kind] = two / one / 2
        print(
            f"{kind}, median: {one:,.0f} and {two:,.0f} bases/s, efficiency {efficiency[kind]:.3f} "
            f"({min(pairs):.3f} to {max(pairs):.3f})"
        )
    return {"bases_per_s": rates, "efficiency": efficiency}


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

    def start(self) -> str:
        return os.uname().nodename

    def process(self, block: Block, seat: int = 0) -> SleepReport:
        with self.gpus[seat]:
            time.sleep(self.block_s)
        return SleepReport(block, len(block), self.block_s)

    def abandon(self, block: Block) -> None:
        """Publish nothing, as ever."""


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
            start=Call(self.held.start),
            process=Call(self.held.process, seat),
            abandon=Call(self.held.abandon),
        )


def plan_of_blocks(n_blocks: int):
    """Return a plan of so many blocks."""
    from tism_scan.plan import ScanPlan, Scoring
    from tism_scan.tracks import Track

    length = n_blocks << 20
    scoring = Scoring((Track("0", (0,), (1.0,)),), 2000)
    return ScanPlan(scoring, "0" * 64, "0" * 64, {"c": length}, {"c": ((0, length),)}, 1 << 20)


def simulated(arguments: argparse.Namespace) -> dict:
    """Return the efficiency with each number of actors, and what a hundred thousand blocks cost to list."""
    from tism_scan.store import ScoreStore

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

    from tism_scan.actors import ActorPool
    from tism_scan.cluster import RayOptions
    from tism_scan.feeding import Feed, Progress

    options = RayOptions(n_actors=n_actors)
    here = str(Path(__file__).parent)
    ray.init(
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
        progress = Progress(n_blocks_total=sum(1 for _ in store.pending()))
        never = threading.Event()
        loop = Feed(pool, store.pending(), store, progress, lambda _: None, stop=never, disowned=never)
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


def paper(arguments: argparse.Namespace) -> dict:
    """Print what hg38 takes, as a table."""
    from tism_scan.beluga import random_beluga
    from tism_scan.plan import ScanPlan, Scoring
    from tism_scan.tracks import Track
    from tism_scan.trunk_engine import TrunkEngine

    model = random_beluga()
    chroms = {str(i): length for i, length in enumerate(HG38)}
    wanted = {chrom: ((0, length),) for chrom, length in chroms.items()}
    rows = []
    for n_tracks in (1, 100, 2002):
        scoring = Scoring(tuple(Track(str(i), (i,), (1.0,)) for i in range(n_tracks)), 2000, strands="both")
        flop_per_bp = TrunkEngine(model, scoring, device="cpu").flop_per_window() / scoring.stride
        plan = ScanPlan(scoring, "0" * 64, "0" * 64, chroms, wanted)
        n_blocks = sum(1 for _ in plan.all_blocks())
        n_shards = n_blocks * plan.n_shards_per_block
        gpu_hours = plan.n_wanted * flop_per_bp / arguments.flop_per_s / 3600
        gigabytes = plan.n_wanted * n_tracks * BYTES_PER_VALUE / 1e9
        rows.append(
            {
                "tracks": n_tracks,
                "mflop_per_bp": flop_per_bp / 1e6,
                "blocks": n_blocks,
                "objects": 2 * n_shards,  # a shard, and the marker that it is finished
                "gigabytes": gigabytes,
                "gpu_hours": gpu_hours,
                **{f"hours_on_{n}": gpu_hours / n for n in (1, 8, 64)},
                "dollars_of_gpus": gpu_hours * arguments.dollars_per_hour,
                "dollars_of_puts": 2 * n_shards / 1000 * DOLLARS_PER_1000_PUTS,
                "dollars_a_month": gigabytes * DOLLARS_PER_GB_MONTH,
            }
        )
        print(shown(rows[-1]))
    return {"rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True)
    for act in (real, simulated, paper):
        kind = kinds.add_parser(act.__name__)
        kind.set_defaults(act=act)
        kind.add_argument("--json", type=Path)
        if act is real:
            kind.add_argument("--repeats", type=int, default=3)
            kind.add_argument("--blocks", type=int, default=40)
            kind.add_argument("--model", choices=("beluga", "demo"), default="beluga")
        elif act is simulated:
            kind.add_argument("--actors", default="1,8,64")
            kind.add_argument("--block-s", type=float, default=0.67)
            kind.add_argument("--seconds", type=float, default=60)
            kind.add_argument("--seats", type=int, default=1)
        else:
            kind.add_argument("--flop-per-s", type=float, default=3.3e13)
            kind.add_argument("--dollars-per-hour", type=float, default=4.0)
    arguments = parser.parse_args()
    figures = arguments.act(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
