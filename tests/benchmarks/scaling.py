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
import os
from dataclasses import replace
from pathlib import Path

from figures import shown
from scaling_real import real
from scaling_simulated import simulated

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


def paper(arguments: argparse.Namespace) -> dict:
    """Print what hg38 takes, as a table."""
    from tism_scan.engine.sizing import fitting_block_bp
    from tism_scan.engine.trunk_engine import TrunkEngine
    from tism_scan.models.beluga import random_beluga
    from tism_scan.plan.scan_plan import ScanPlan
    from tism_scan.plan.scoring import Scoring
    from tism_scan.plan.tracks import Track

    model = random_beluga()
    chroms = {str(i): length for i, length in enumerate(HG38)}
    wanted = {chrom: ((0, length),) for chrom, length in chroms.items()}
    rows = []
    for n_tracks in (1, 100, 2002):
        tracks = tuple(Track(str(i), (i,), (1.0,)) for i in range(n_tracks))
        # in a precision whose products are a GPU's: in float32, a CPU takes fewer
        scoring = Scoring(tracks, 2000, strands="both", precision="mixed")
        flop_per_bp = TrunkEngine(model, scoring, device="cpu").flop_per_window() / scoring.stride
        plan = ScanPlan(scoring, "0" * 64, "0" * 64, chroms, wanted)
        plan = replace(plan, block_bp=fitting_block_bp(model, plan, "stack", on_gpus=True))
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
