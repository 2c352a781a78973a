"""How long `calibrate` takes against `verify --full` and against one reading of the store, in one run.

    python tests/benchmarks/calibrate.py [--bp 100000000] [--keep-bits 10] [--jobs 2] [--json FILE]

A store of all four bases of two tracks is made first, not timed. Wall time is that of a warm page cache, the
faster of two; CPU time is of the process alone, with --jobs 1. Reading is each track's four channels once,
as Zarr decodes them: what any calibration of exact ranks cannot do without.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from annotate import CHROM, reference

from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.scan.verify import verify_store
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants import calibrate

_NOISE_BP = 1 << 20


def make_store(path: Path, n_bp: int, keep_bits: int | None) -> ScoreStore:
    """Return a store of noise of two tracks, 0 at the reference."""
    tracks = tuple(Track(name, (i,), (1.0,)) for i, name in enumerate(("a", "b")))
    scoring = Scoring(tracks, 2048, 256, values="tism")
    wanted = {CHROM: ((0, n_bp),)}
    plan = ScanPlan(scoring, "genome", "weights", {CHROM: n_bp}, wanted, keep_bits=keep_bits)
    store = ScoreStore.create(path, plan)
    noise = (np.random.default_rng(0).standard_t(3, (2, 4, _NOISE_BP + 4096)) * 1e-3).astype(np.float32)
    for block in plan.all_blocks():
        shift = block.i_block % 4096
        scores = noise[..., shift : shift + len(block)].copy()
        scores[:, reference(block.start, block.end), np.arange(len(block))] = 0
        store.publish_block(block, scores)
    return store


def seconds(call: Callable[[], object]) -> dict[str, float]:
    """Return wall and CPU time of the faster of two calls."""
    found = []
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        found.append({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu})
    return min(found, key=lambda each: each["wall"])


def read_all(store: ScoreStore) -> None:
    for block in store.plan.all_blocks():
        for i_track in range(2):
            store.read_channels(block.chrom, block.start, block.end, i_track)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bp", type=int, default=100_000_000)
    parser.add_argument("--keep-bits", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = make_store(Path(name) / "s.zarr", arguments.bp, arguments.keep_bits)
        figures = {
            "verify --full": seconds(lambda: verify_store(store.path, full=True)),
            "reading once": seconds(lambda: read_all(store)),
            "calibrate --jobs 1": seconds(lambda: calibrate(store, jobs=1)),
            f"calibrate --jobs {arguments.jobs}": seconds(lambda: calibrate(store, jobs=arguments.jobs)),
        }
    rival = figures["verify --full"]
    for what, each in figures.items():
        print(f"{what:20} {each['wall']:8.2f} s wall, {each['wall'] / rival['wall']:5.1f} times; ", end="")
        print(f"{each['cpu']:8.2f} s CPU, {each['cpu'] / rival['cpu']:5.1f} times")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
