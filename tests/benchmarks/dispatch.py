"""How fast the driver hands out blocks, and whether its memory grows.

    python tests/benchmarks/dispatch.py [--blocks 200000] [--actors 2]

Actors do nothing with their blocks, so all of the time is the driver's and Ray's. Promised are 300 blocks a
second, and memory that is flat within 50 MB over 200,000 blocks.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
sys.path[:0] = [str(HELPERS), str(HELPERS.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # on loopback

import psutil  # noqa: E402  # the paths above are for the actors, too
from fault_workers import IdleWorker  # noqa: E402
from small_plans import small_plan  # noqa: E402

from tism_scan.ray_scan import RayOptions, scan_on_ray  # noqa: E402
from tism_scan.store.score_store import ScoreStore  # noqa: E402

BLOCK_BP = 64
WARM_UP = 5_000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=200_000)
    parser.add_argument("--actors", type=int, default=2)
    arguments = parser.parse_args()
    n_bp = arguments.blocks * BLOCK_BP
    with tempfile.TemporaryDirectory() as folder:
        genome = Path(folder) / "genome.fa"
        with genome.open("w") as file:
            file.write(">c\n")
            for _ in range(0, n_bp, 1 << 20):
                file.write("A" * min(1 << 20, n_bp))
        with genome.open("r+") as file:
            file.truncate(len(">c\n") + n_bp)
        plan = small_plan(1, chroms={"c": n_bp}, block_bp=BLOCK_BP)
        store = ScoreStore.create(Path(folder) / "scores.zarr", plan)
        measure(store, genome, arguments)


def measure(store, genome, arguments):
    process, seen = psutil.Process(), []

    def watch(progress):
        if progress.n_blocks >= WARM_UP and (not seen or progress.n_blocks - seen[-1][0] >= 5_000):
            seen.append((progress.n_blocks, time.monotonic(), process.memory_info().rss / 2**20))
            n_blocks, now, megabytes = seen[-1]
            rate = (n_blocks - seen[0][0]) / (now - seen[0][1]) if len(seen) > 1 else float("nan")
            print(f"{n_blocks:9,} blocks, {rate:7.0f} blocks/s, driver {megabytes:7.1f} MB", flush=True)

    options = RayOptions(n_actors=arguments.actors, n_cpus=arguments.actors)
    scan_on_ray(store, genome, Path("none"), options=options, on_progress=watch, worker_class=IdleWorker)
    (n_first, began, before), (n_last, ended, _) = seen[0], seen[-1]
    most = max(megabytes for _, _, megabytes in seen)
    print(
        f"{(n_last - n_first) / (ended - began):.0f} blocks/s; memory grew by at most {most - before:.1f} MB"
    )


if __name__ == "__main__":
    main()
