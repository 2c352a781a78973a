"""How much of a GPU's rate a scan reaches, and what the host spends on each Mb, by a device that sleeps.

    python tests/benchmarks/pipeline.py [--offered 1:25,16:3,16:6,100:1] [--seconds 10] [--folder FOLDER]

The device sleeps as long as a GPU would compute, and gives noise; all else is `run`'s own: the actor that
holds a GPU, Ray, the genome and the store, whose files are synced. Rates and CPU time are taken from the end
of the first blocks to that of the last, CPU time from the actor's process, with Ray's threads in it, and the
driver's. The store is in FOLDER: give one on a disk of the kind that scans are written to.

Promised are 85 % of 25 Mb/s offered for one track, and of 3 Mb/s for 16, on two cores.
"""

import argparse
import logging
import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # on loopback
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import ray
import torch

from tism_scan.engine.queue import Queued
from tism_scan.engine.sizing import fitting_block_bp
from tism_scan.genome.fasta import Genome
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.ray_scan import scan_on_ray
from tism_scan.scan.worker import BlockWorker
from tism_scan.store.score_store import ScoreStore

LINE_BP = 60
SMALLEST_GENOME_BP = 32 << 20  # with fewer bases, blocks are shorter
N_FIRST = 5  # blocks that end before anything is measured
NOTES = "notes.txt"
RATE = "rate.txt"


class Due:
    """A place in the queue of a device that sleeps: it is there at a time that is known before."""

    def __init__(self, at: float) -> None:
        self.at = at

    def wait(self) -> None:
        time.sleep(max(0.0, self.at - time.monotonic()))

    def seconds_since(self, earlier: "Due") -> float:
        return self.at - earlier.at


class SleepingEngine:
    """Has a device that sleeps as long as one of some rate would compute, and gives noise."""

    def __init__(self, n_tracks: int, block_bp: int, mb_per_s: float) -> None:
        self.mb_per_s = mb_per_s
        noise = np.random.default_rng(0).standard_normal((n_tracks, block_bp), np.float32) / 1000
        self.noise = torch.from_numpy(noise)
        self.free = 0.0

    def queue(self, codes, stretch, wanted):
        began = max(self.free, time.monotonic())
        self.free = began + len(wanted) / (1e6 * self.mb_per_s)
        span = Due(began), Due(self.free)
        return Queued(self.noise[:, : len(wanted)], (span,), lambda values: values)


class SleepingWorker(BlockWorker):
    """Computes by sleeping, and notes when each block ended, and its process's CPU time until then."""

    def make_engine(self, plan):
        mb_per_s = float((self.setup.store.parent / RATE).read_text())
        return SleepingEngine(len(plan.scoring.tracks), plan.block_bp, mb_per_s)

    def process(self, block):
        report = super().process(block)
        with open(self.setup.store.parent / NOTES, "a") as file:
            file.write(f"{len(block)} {time.monotonic()} {time.process_time()}\n")
        return report


def write_genome(path: Path, n_bp: int) -> None:
    """Write one chrom of whole lines, random over a Mb or so."""
    n_lines = (1 << 20) // LINE_BP
    lines = np.full((n_lines, LINE_BP + 1), ord("\n"), np.uint8)
    lines[:, :-1] = np.frombuffer(b"ACGT", np.uint8)[
        np.random.default_rng(1).integers(0, 4, (n_lines, LINE_BP))
    ]
    with path.open("wb") as file:
        file.write(b">c\n")
        for _ in range(-(-n_bp // (n_lines * LINE_BP))):
            file.write(lines.tobytes())
        file.truncate(len(b">c\n") + n_bp // LINE_BP * (LINE_BP + 1) + n_bp % LINE_BP)


def measured(folder: Path, n_tracks: int, mb_per_s: float, seconds: float) -> dict:
    """Return the figures of one scan."""
    n_bp = max(SMALLEST_GENOME_BP, int(mb_per_s * seconds * 1e6)) >> 22 << 22
    genome = folder / "genome.fa"
    write_genome(genome, n_bp)
    tracks = tuple(Track(str(i), (i,), (1.0,)) for i in range(n_tracks))
    with Genome(genome) as opened:
        digest = opened.digest()
    plan = ScanPlan(Scoring(tracks, 2000), digest, "0" * 64, {"c": n_bp}, {"c": ((0, n_bp),)})
    block_bp = fitting_block_bp(None, plan, "stack", on_gpus=True)  # which needs no model
    store = ScoreStore.create(folder / "scores.zarr", replace(plan, block_bp=block_bp))
    (folder / RATE).write_text(str(mb_per_s))
    (folder / NOTES).unlink(missing_ok=True)
    driver_s = time.process_time()
    scan_on_ray(store, genome, folder / "none", worker_class=SleepingWorker)
    driver_s = time.process_time() - driver_s
    notes = np.loadtxt(folder / NOTES)[N_FIRST - 1 :]
    mb = notes[1:, 0].sum() / 1e6
    _, wall_s, cpu_s = notes[-1] - notes[0]
    shutil.rmtree(store.path)
    return {
        "tracks": n_tracks,
        "block Mb": block_bp / 1e6,
        "offered Mb/s": mb_per_s,
        "reached Mb/s": mb / wall_s,
        "share": mb / wall_s / mb_per_s,
        "actor CPU ms/Mb": 1000 * cpu_s / mb,
        "driver CPU ms/Mb": 1000 * driver_s / (n_bp / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--offered", default="1:25,16:3,16:6,100:1", help="tracks:Mb/s, separated by commas")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the engine's sleep in each scan")
    parser.add_argument("--folder", type=Path, help="where stores are written, and removed again")
    arguments = parser.parse_args()
    ray.init(
        "local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        for i, offered in enumerate(arguments.offered.split(",")):
            n_tracks, mb_per_s = offered.split(":")
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                figures = measured(Path(folder), int(n_tracks), float(mb_per_s), arguments.seconds)
            if not i:
                print(" | ".join(figures))
            print(" | ".join(f"{figure:.4g}" for figure in figures.values()), flush=True)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
