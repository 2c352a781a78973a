"""How long a user waits for the first word and the first block of a run, against bare Ray and PyTorch.

    python tests/benchmarks/waiting.py [--repeats 3]

A real ``tism-scan run`` scans a part of the demo's genome on a pseudo-terminal, into a new store each time.
Its rival is the least that any such program has to do: import PyTorch and Ray, start Ray, and have one actor
import PyTorch. Both use two CPUs; the shortest of each is told.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import pexpect

from tism_scan.demo.genome import make_genome, write_fasta

FIRST_BLOCK = r"chr1:1-32,768: \d+ bases in"
BARE = """
import torch, ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

@ray.remote(num_cpus=2)
class Actor:
    def start(self):
        import torch
        return torch.ones(3).sum().item()

ray.get(Actor.remote().start.remote())
"""
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "COLUMNS": "120", "TERM": "xterm"}


def waits(folder: Path, i_repeat: int) -> tuple[float, float]:
    """Return the time to the first word, and to the first block's report, s."""
    words = ["-m", "tism_scan", "-v", "run", "--genome", str(folder / "genome.fa"), "--actors", "1"]
    words += ["--weights", str(folder / "beluga.pth"), "--tracks", "0", "--region", "chr1:1-65,536"]
    words += ["--block-bp", "32768", "--out", str(folder / f"{i_repeat}.zarr")]
    began = time.perf_counter()
    run = pexpect.spawn(sys.executable, words, env=ENVIRONMENT, timeout=120, encoding="utf-8")
    run.expect("loading PyTorch")
    first_word = time.perf_counter() - began
    run.expect(FIRST_BLOCK)
    first_block = time.perf_counter() - began
    run.expect(pexpect.EOF)
    run.close()
    if run.exitstatus:
        raise SystemExit(run.before)
    return first_word, first_block


def bare() -> float:
    """Return the time until an actor of a Ray without anything else has imported PyTorch, s."""
    began = time.perf_counter()
    command = [sys.executable, "-c", f"{BARE}print('ready', flush=True)"]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        if process.stdout is None or b"ready" not in process.stdout.readline():
            raise SystemExit("bare Ray did not start")
        seconds = time.perf_counter() - began
    return seconds


def main() -> None:
    """Measure both in turn, and print the shortest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_fasta(folder / "genome.fa", make_genome())
        weights = files("tism_scan.demo") / "demo_beluga.pth"
        (folder / "beluga.pth").write_bytes(weights.read_bytes())
        measured = [(*waits(folder, i), bare()) for i in range(repeats)]
    first_word, first_block, rival = (min(column) for column in zip(*measured, strict=True))
    print(
        f"first word {first_word:.2f} s, first block {first_block:.2f} s, bare Ray and PyTorch {rival:.2f} s"
    )
    print(f"first block / bare: {first_block / rival:.2f}")


if __name__ == "__main__":
    main()
