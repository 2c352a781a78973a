"""Whether scans whose actors die all the time end with the right bits, in no more memory the longer it takes.

    python tests/benchmarks/soak.py [--minutes 20] [--kill-every-s 5] [--block-bp 1024]

``tism-scan run`` scans the demo's genome in small blocks, into one store after another, while one of its
actors is killed every few seconds. Each store has to equal, score for score, that of an undisturbed scan. The
driver's memory, and that of its largest actor, are printed every half minute; the last line has the most that
the driver took in the first of these runs and in the last.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import psutil

from tism_scan.demo.genome import make_genome, write_fasta
from tism_scan.store.score_store import ScoreStore

ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
TELL_EVERY_S = 30.0


def command(folder: Path, out: Path, block_bp: int) -> list[str]:
    """Return the command that scans the demo's genome."""
    words = [sys.executable, "-m", "tism_scan", "run", "--genome", folder / "genome.fa", "--tracks", "0,1"]
    words += ["--weights", folder / "beluga.pth", "--block-bp", block_bp, "--out", out, "--retry-failed"]
    return list(map(str, words))


def actors_of(driver: psutil.Process) -> list[psutil.Process]:
    """Return the actors below a driver."""
    found = []
    for process in driver.children(recursive=True):
        try:
            if "ray::BlockWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def megabytes(process: psutil.Process) -> float:
    """Return what a process holds in memory, MB."""
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0


class Soak:
    """Scans that are disturbed until a time is over."""

    def __init__(self, folder: Path, block_bp: int, kill_every_s: float) -> None:
        self.folder, self.block_bp, self.kill_every_s = folder, block_bp, kill_every_s
        self.n_kills = self.n_runs = 0
        self.driver_mb: list[float] = []
        self.began = self.told_at = time.monotonic()
        self.chance = random.Random(0)

    def scan(self, out: Path, until: float) -> None:
        """Scan into a store, run after run, until it is complete."""
        for _ in range(20):
            self.n_runs += 1
            words = command(self.folder, out, self.block_bp)
            with subprocess.Popen(
                words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as run:
                self._disturb(psutil.Process(run.pid), run, until)
            if run.returncode == 0:
                return
            if run.returncode != 1:
                raise SystemExit(f"the scan ended with code {run.returncode}")
        raise SystemExit("twenty runs did not complete the store")

    def _disturb(self, driver: psutil.Process, run: "subprocess.Popen[bytes]", until: float) -> None:
        kill_at, most = time.monotonic() + self.kill_every_s, 0.0
        while run.poll() is None:
            time.sleep(0.2)
            now = time.monotonic()
            most = max(most, megabytes(driver))
            if now >= kill_at and now < until:
                kill_at = now + self.kill_every_s
                actors = actors_of(driver)
                if actors:
                    self.chance.choice(actors).send_signal(signal.SIGKILL)
                    self.n_kills += 1
            if now - self.told_at > TELL_EVERY_S:
                self.told_at = now
                largest = max(map(megabytes, actors_of(driver)), default=0.0)
                held = f"driver {megabytes(driver):.0f} MB, largest actor {largest:.0f} MB"
                so_far = f"{self.n_kills} kills, {self.n_runs} runs"
                print(f"{now - self.began:6.0f} s: {held}, {so_far}", flush=True)
        self.driver_mb.append(most)


def main() -> None:
    """Disturb scans, and compare each with one that was left alone."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--kill-every-s", type=float, default=5.0)
    parser.add_argument("--block-bp", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_fasta(folder / "genome.fa", make_genome())
        weights = files("tism_scan.demo") / "demo_beluga.pth"
        (folder / "beluga.pth").write_bytes(weights.read_bytes())
        soak = Soak(folder, options.block_bp, options.kill_every_s)
        soak.scan(folder / "calm.zarr", until=0.0)
        calm = ScoreStore.open(folder / "calm.zarr")
        expected = {chrom: calm.read(chrom) for chrom in calm.plan.wanted}
        until, n_stores = time.monotonic() + 60 * options.minutes, 0
        while time.monotonic() < until:
            out = folder / f"{n_stores}.zarr"
            soak.scan(out, until)
            n_stores += 1
            store = ScoreStore.open(out)
            for chrom, scores in expected.items():
                if not np.array_equal(store.read(chrom), scores, equal_nan=True):
                    raise SystemExit(f"{chrom} of {out} differs from that of an undisturbed scan")
        n_blocks, times = sum(1 for _ in calm.plan.all_blocks()), f"{soak.n_kills} kills, {soak.n_runs} runs"
        print(f"{n_stores} stores of {n_blocks} blocks each, {times}: all scores are right")
        first, last = soak.driver_mb[1], soak.driver_mb[-1]
        print(f"driver at most {first:.0f} MB in the first of them, {last:.0f} MB in the last")


if __name__ == "__main__":
    main()
