"""How much faster the trunk engine is than its rivals, in one run on the same sequence and weights.

    python tests/benchmarks/engine.py [--bp 100000] [--threads 2] [--json FILE]

Rivals: batched autograd with frozen parameters (the window engine), and the original package, one window
at a time with gradients of the parameters too (sampled). Weights are He-normal noise of full Beluga's shape.
The two quick engines are timed after a warm-up; each case is checked for equal scores.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tism_scan.alphabet import one_hot
from tism_scan.beluga import Beluga
from tism_scan.engine import WindowEngine
from tism_scan.plan import Scoring
from tism_scan.tiling import Block
from tism_scan.tracks import Track
from tism_scan.trunk_engine import TrunkEngine

CASES = (
    # name, tracks, stride, stitch, part of --bp that the slow rival scores
    ("1 track, stride 256, center", 1, 256, "center", 1.0),
    ("1 track, stride 256, mean", 1, 256, "mean", 0.25),
    ("16 tracks, stride 256, center", 16, 256, "center", 0.06),
    ("1 track, stride 64, center", 1, 64, "center", 0.12),
)
ORIGINAL_WINDOWS = 6


def full_beluga(seed: int = 11) -> Beluga:
    """Return full-size Beluga with He-normal noise for weights."""
    torch.manual_seed(seed)
    model = Beluga()
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.05)
    return model.eval()


def seconds_per_window_of_the_original(model: Beluga, codes: np.ndarray, track: int) -> float:
    """Return the time of one window by itself, parameters not frozen."""
    model.requires_grad_(True)
    began = time.perf_counter()
    for i_window in range(ORIGINAL_WINDOWS):
        window = one_hot(codes[i_window * 256 : i_window * 256 + 2000], model.alphabet)
        X = torch.from_numpy(np.ascontiguousarray(window))[None].requires_grad_()
        model.zero_grad(set_to_none=True)
        model(X)[0, track].backward()
    seconds = (time.perf_counter() - began) / ORIGINAL_WINDOWS
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    return seconds


def timed(engine: TrunkEngine | WindowEngine, codes: np.ndarray, n_bp: int) -> tuple[np.ndarray, float]:
    """Return the scores of one block, and seconds per base."""
    scoring = engine.scoring
    block = Block("chr1", 0, 0, n_bp)
    stretch = scoring.lattice.stretch(block, n_bp, scoring.stitch)
    around = np.full(stretch.end - stretch.start, 4, np.uint8)
    around[-stretch.start : n_bp - stretch.start] = codes[:n_bp]
    began = time.perf_counter()
    scores = engine.score(around, stretch, np.ones(n_bp, bool))
    return scores, (time.perf_counter() - began) / n_bp


def compare(model: Beluga, codes: np.ndarray, case: tuple, original_s: float) -> dict:
    """Return the figures of one case."""
    name, n_tracks, stride, stitch, part = case
    tracks = tuple(Track(str(i), (267 + i,), (1.0,)) for i in range(n_tracks))
    scoring = Scoring(tracks, model.input_bp, stride, stitch)
    n_fast = len(codes) // stride * stride
    n_slow = int(len(codes) * part) // stride * stride
    fast, slow = TrunkEngine(model, scoring, device="cpu"), WindowEngine(model, scoring, device="cpu")
    timed(fast, codes, 10 * stride)
    timed(slow, codes, 2 * stride)
    fast_scores, fast_s = timed(fast, codes, n_fast)
    slow_scores, slow_s = timed(slow, codes, n_slow)
    # Bases near the shorter block's end see N where the longer one's see sequence.
    n_same = n_slow - model.input_bp
    difference = np.abs(fast_scores[:, :n_same] - slow_scores[:, :n_same])
    return {
        "case": name,
        "bases_per_s": 1 / fast_s,
        "against_batched_autograd": slow_s / fast_s,
        "against_the_original": original_s * n_tracks / stride / fast_s,
        "largest_difference": float(np.nanmax(difference) / np.nanmax(np.abs(slow_scores))),
        "bases_of_the_slow_rival": n_slow,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bp", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", default="0,1,2,3")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = full_beluga()
    codes = np.random.default_rng(0).integers(0, 4, arguments.bp).astype(np.uint8)
    original_s = seconds_per_window_of_the_original(model, codes, 267)
    print(f"{arguments.threads} threads, {arguments.bp:,} bp; the original: {original_s:.2f} s a window")
    figures = []
    for i_case in map(int, arguments.cases.split(",")):
        figures.append(compare(model, codes, CASES[i_case], original_s))
        print(
            ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{v}" for k, v in figures[-1].items()),
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
