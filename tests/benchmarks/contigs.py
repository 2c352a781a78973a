"""How fast many short chroms are scanned, against as many bases in one long chrom, in one run.

    python tests/benchmarks/contigs.py [--bp 3000000] [--shortest 1000] [--longest 2000] [--apart]

Both genomes are random, and scanned in this process on one thread with the demo's model, one track. `--apart`
scans the short chroms as stores of format 3 have them, too: an array and a block for each.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from tism_scan.scan import Execution, plan_scan, scan_serially
from tism_scan.store.score_store import ScoreStore


def write_genome(path: Path, lengths: list[int]) -> None:
    """Write random chroms of some lengths."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for i, length in enumerate(lengths):
            file.write(
                f">ctg{i}\n{np.array(list('ACGT'))[rng.integers(0, 4, length)].tobytes().decode('utf-32')}\n"
            )


def seconds(genome: Path, weights: Path, out: Path, *, is_apart: bool = False) -> tuple[float, float, int]:
    """Return the time to plan and to make a store, and to scan it, s, and the bases that got a score."""
    began = time.perf_counter()
    planned = plan_scan(genome, weights, tracks="0")
    plan = replace(planned.plan, is_packed=False) if is_apart else planned.plan
    store = ScoreStore.create(out, plan)
    made = time.perf_counter()
    result = scan_serially(store, genome, weights, execution=Execution(device="cpu"))
    return made - began, time.perf_counter() - made, result.n_scored


def main() -> None:
    """Print the rates, and each as a part of the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bp", type=int, default=3_000_000)
    parser.add_argument("--shortest", type=int, default=1000)
    parser.add_argument("--longest", type=int, default=2000)
    parser.add_argument("--apart", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = Path(str(files("tism_scan.demo") / "demo_beluga.pth"))
    mean = (options.shortest + options.longest) / 2
    rng = np.random.default_rng(1)
    lengths = rng.integers(options.shortest, options.longest + 1, int(options.bp / mean)).tolist()
    with tempfile.TemporaryDirectory() as folder:
        long, short = Path(folder) / "long.fa", Path(folder) / "short.fa"
        write_genome(long, [sum(lengths)])
        write_genome(short, lengths)
        cases = [("one chrom", long, False), (f"{len(lengths):,} chroms, packed", short, False)]
        cases += [(f"{len(lengths):,} chroms, an array each", short, True)] if options.apart else []
        rates = {}
        for name, genome, is_apart in cases:
            made_s, scan_s, n_scored = seconds(
                genome, weights, Path(folder) / f"{name}.zarr", is_apart=is_apart
            )
            rates[name] = n_scored / scan_s
            of_long = rates[name] / rates["one chrom"]
            print(f"{name:32} {made_s:6.1f} s to begin, {rates[name]:9,.0f} bases/s, {of_long:.2f}")


if __name__ == "__main__":
    main()
