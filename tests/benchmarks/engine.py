"""How much faster the trunk engine is than its rivals, in one run on the same sequence and weights.

    python tests/benchmarks/engine.py [--bp 100000] [--threads 2] [--cases 0,1,2] [--json FILE]
    python tests/benchmarks/engine.py --device cuda [--seconds 10] [--json FILE]

Rivals: batched autograd with frozen parameters (the window engine, in float32), and the original package, one
window at a time with gradients of the parameters too (sampled). Weights are He-normal noise of full Beluga's
shape. Engines take turns, each with its best time, so that a busy machine is fair to both; float32 scores are
checked to be equal, and those of other precisions compared.

On a GPU, the trunk engine is timed with 1 and 16 tracks in every precision. The figures are the share of the
device's rate on large bfloat16 products that the method's own arithmetic gets, and the time that hg38 would
take. It needs torch and numpy alone, and some five minutes.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from tism_scan.engine.bench import bench, product_rate
from tism_scan.engine.block_engine import BlockEngine
from tism_scan.engine.devices import device_name
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.genome.alphabet import one_hot
from tism_scan.models.beluga import Beluga, random_beluga
from tism_scan.plan.scoring import Precision, Scoring
from tism_scan.plan.tiling import Block, Stretch
from tism_scan.plan.tracks import Track

HG38_BP = 3_088_286_401
ORIGINAL_WINDOWS = 6
ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """What is timed; the slow rival scores a part of the sequence in each round."""

    n_tracks: int
    stride: int = 256
    stitch: str = "center"
    precision: str = "fp32"
    part: float = 0.35

    def __str__(self) -> str:
        return f"{self.n_tracks} tracks, stride {self.stride}, {self.stitch}, {self.precision}"

    def scoring(self, *, is_rival: bool = False) -> Scoring:
        tracks = tuple(Track(str(i), (267 + i,), (1.0,)) for i in range(self.n_tracks))
        precision = "fp32" if is_rival else self.precision
        return Scoring(tracks, 2000, self.stride, self.stitch, precision=precision)


CASES = (
    Case(1),
    Case(1, stitch="mean"),
    Case(1, precision="bf16"),
    Case(1, precision="mixed"),
    Case(16, part=0.03),
    Case(1, stride=64, part=0.06),
)


def seconds_per_window_of_the_original(model: Beluga, codes: np.ndarray, track: int) -> float:
    """Return the time of one window by itself, parameters not frozen: the best of a few."""
    model.requires_grad_(True)
    times = []
    for i_window in range(ORIGINAL_WINDOWS):
        began = time.perf_counter()
        window = one_hot(codes[i_window * 256 : i_window * 256 + 2000], model.alphabet)
        X = torch.from_numpy(np.ascontiguousarray(window))[None].requires_grad_()
        model.zero_grad(set_to_none=True)
        model(X)[0, track].backward()
        times.append(time.perf_counter() - began)
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    return min(times)


def block_of(scoring: Scoring, codes: np.ndarray, n_bp: int) -> tuple[np.ndarray, Stretch, np.ndarray]:
    """Return the only block of a chrom, as engines take it."""
    block = Block("chr1", 0, 0, n_bp)
    stretch = scoring.lattice.stretch(block, n_bp, scoring.stitch)
    around = np.full(stretch.end - stretch.start, 4, np.uint8)
    around[-stretch.start : n_bp - stretch.start] = codes[:n_bp]
    return around, stretch, np.ones(n_bp, bool)


def timed(engine: BlockEngine, codes: np.ndarray, n_bp: int) -> tuple[np.ndarray, float]:
    """Return the scores of one block, and seconds per base."""
    block = block_of(engine.scoring, codes, n_bp)
    began = time.perf_counter()
    scores = engine.score(*block)
    return scores, (time.perf_counter() - began) / n_bp


def compare(model: Beluga, codes: np.ndarray, case: Case, original_s: float) -> dict[str, Any]:
    """Return the figures of one case."""
    fast = TrunkEngine(model, case.scoring(), device="cpu")
    slow = WindowEngine(model, case.scoring(is_rival=True), device="cpu")
    n_fast = len(codes) // case.stride * case.stride
    n_slow = int(len(codes) * case.part) // case.stride * case.stride
    timed(fast, codes, 10 * case.stride)
    timed(slow, codes, 2 * case.stride)
    fast_s = slow_s = np.inf
    for _ in range(ROUNDS):
        slow_scores, seconds = timed(slow, codes, n_slow)
        slow_s = min(slow_s, seconds)
        fast_scores, seconds = timed(fast, codes, n_fast)
        fast_s = min(fast_s, seconds)
    # Bases near the shorter block's end see N where the longer one's see sequence.
    n_same = n_slow - model.input_bp
    ours, theirs = fast_scores[:, :n_same], slow_scores[:, :n_same]
    return {
        "case": str(case),
        "bases_per_s": 1 / fast_s,
        "against_batched_autograd": slow_s / fast_s,
        "against_the_original": original_s * case.n_tracks / case.stride / fast_s,
        "pearson": float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]),
        "largest_difference": float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
        "bp_of_the_fast": n_fast,
        "bp_of_the_slow": n_slow,
    }


def on_gpu(model: Beluga, device: str, seconds: float) -> list[dict[str, Any]]:
    """Return the figures of every precision and number of tracks on a GPU."""
    dense = product_rate(torch.device(device), "bf16")
    print(f"{device_name(device)}: {dense / 1e12:.0f} TFLOP/s on large bfloat16 products")
    figures = []
    for n_tracks in (1, 16):
        for precision in precisions(device):
            case = Case(n_tracks, precision=precision)
            found = bench(model, case.scoring(), seconds=seconds, device=device)
            figures.append(
                {
                    "case": str(case),
                    "bases_per_s": found.bases_per_s,
                    "tflop_per_s": found.flop_per_s / 1e12,
                    "share_of_dense_bf16": found.flop_per_s / dense,
                    "hg38_minutes": HG38_BP / found.bases_per_s / 60,
                    "peak_gib": found.peak_bytes / 2**30,
                }
            )
            show(figures[-1])
    return figures + agreements(model, device)


def precisions(device: str) -> tuple[str, ...]:
    """Return the precisions that a device knows, so that the figures can be tried on ``cpu:0``."""
    return tuple(name for name in get_args(Precision) if name != "tf32" or device.startswith("cuda"))


def agreements(model: Beluga, device: str) -> list[dict[str, Any]]:
    """Return how well each precision's scores agree with those of the window engine in float32."""
    codes = np.random.default_rng(1).integers(0, 4, 256 * 256).astype(np.uint8)
    exact, _ = timed(WindowEngine(model, Case(2).scoring(), device=device), codes, len(codes))
    figures = []
    for precision in precisions(device):
        case = Case(2, precision=precision)
        scores, _ = timed(TrunkEngine(model, case.scoring(), device=device), codes, len(codes))
        agreement = {
            "pearson": float(np.corrcoef(scores.ravel(), exact.ravel())[0, 1]),
            "largest_difference": float(np.abs(scores - exact).max() / np.abs(exact).max()),
        }
        figures.append({"case": f"agreement of {precision}", **agreement})
        show(figures[-1])
    return figures


def show(figures: dict[str, Any]) -> None:
    words = [
        f"{name} {value:.4g}" if isinstance(value, float) else str(value) for name, value in figures.items()
    ]
    print(", ".join(words), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bp", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", default=",".join(map(str, range(len(CASES)))))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="the least time of each case on a GPU")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = random_beluga(11)
    if arguments.device != "cpu":
        figures = on_gpu(model, arguments.device, arguments.seconds)
    else:
        codes = np.random.default_rng(0).integers(0, 4, arguments.bp).astype(np.uint8)
        original_s = seconds_per_window_of_the_original(model, codes, 267)
        print(f"{arguments.threads} threads, {arguments.bp:,} bp; the original: {original_s:.3f} s a window")
        figures = []
        for i_case in map(int, arguments.cases.split(",")):
            figures.append(compare(model, codes, CASES[i_case], original_s))
            show(figures[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
