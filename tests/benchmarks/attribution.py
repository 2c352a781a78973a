"""How many sequences a second are attributed: the original's way, tangermeme, captum and ours, in one run.

    python tests/benchmarks/attribution.py [--sequences 16] [--rounds 3] [--ism-bp 512] [--json FILE]

Gradients: the original takes one sequence at a time, with gradients of the parameters too, and a backward
pass for each track. tangermeme's `saliency` and captum's `Saliency` take batches, and one track for each
call. Exact ISM: the rival is tangermeme's `saturation_mutagenesis`, which decides by itself whether its quick
way (fastISM) pays; captum has none. All get the same sequences, all parameters but the original's are frozen,
and every result is compared with ours.

Contenders take turns, round by round, and the best round of each counts, so that the noise of a shared
machine falls on all alike. Weights are He-normal noise of full Beluga's shape.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from captum.attr import Saliency
from tangermeme.saliency import saliency
from tangermeme.saturation_mutagenesis import saturation_mutagenesis
from torch import Tensor, nn

from tism_scan.attribution import gradient, ism
from tism_scan.genome.alphabet import one_hot
from tism_scan.models.beluga import random_beluga

FIRST_TRACK = 267
SEQUENCES_OF_THE_ORIGINAL = 2

# A number of sequences, and what turns that many into (n, T, 4, L).
Contender = tuple[int, Callable[[Tensor], Tensor]]


def by_the_original(model: nn.Module, tracks: list[int]) -> Callable[[Tensor], Tensor]:
    """Return the gradient, one sequence at a time, of parameters too, a backward pass for each track."""

    def attribute(X: Tensor) -> Tensor:
        model.requires_grad_(True)
        gradients = []
        for x in X.split(1):
            x = x.clone().requires_grad_()
            outputs = model(x)
            for track in tracks:
                x.grad = None
                outputs[0, track].backward(retain_graph=True)
                gradients.append(x.grad.clone())
        model.zero_grad(set_to_none=True)
        model.requires_grad_(False)
        return torch.stack(gradients, 1).view(len(X), len(tracks), *X.shape[1:])

    return attribute


def by_tangermeme(model: nn.Module, tracks: list[int], batch_size: int) -> Callable[[Tensor], Tensor]:
    """Return tangermeme's gradient, a call for each track."""

    def attribute(X: Tensor) -> Tensor:
        options = {"hypothetical": True, "gradient_correction": False, "batch_size": batch_size}
        return torch.stack(
            [saliency(model, X, target=track, device="cpu", **options) for track in tracks], dim=1
        )

    return attribute


def by_captum(model: nn.Module, tracks: list[int], batch_size: int) -> Callable[[Tensor], Tensor]:
    """Return captum's gradient, a call for each track and batch."""

    def attribute(X: Tensor) -> Tensor:
        explain = Saliency(model).attribute
        each = [
            [explain(x.clone().requires_grad_(), target=track, abs=False) for track in tracks]
            for x in X.split(batch_size)
        ]
        return torch.cat([torch.stack(batch, dim=1) for batch in each])

    return attribute


def timed(contenders: dict[str, Contender], X: Tensor, n_rounds: int) -> tuple[dict, dict]:
    """Return sequences per second of each contender, the best of the rounds, and what each computed."""
    seconds = {name: float("inf") for name in contenders}
    results = {}
    for i_round in range(n_rounds + 1):
        for name, (n, attribute) in contenders.items():
            began = time.perf_counter()
            results[name] = attribute(X[:n])
            if i_round:  # the first round warms up
                seconds[name] = min(seconds[name], (time.perf_counter() - began) / n)
    return {name: 1 / each for name, each in seconds.items()}, results


def report(case: str, limit: float, rates: dict[str, float], results: dict[str, Tensor]) -> dict:
    """Print a table, and return its figures; the difference is from ours, as a part of the largest value."""
    print(f"\n{case}\n{'':14}{'sequences/s':>12}{'ours is faster by':>19}{'difference':>12}")
    ours = results["ours"]
    figures = {}
    for name, rate in rates.items():
        n = len(results[name])
        # The median over bases: at a kink, where rounding decides, both slopes are right.
        off = (results[name] - ours[:n]).abs().median() / ours.abs().max()
        figures[name] = {"sequences_per_s": rate, "ours_is_faster_by": rates["ours"] / rate}
        print(f"{name:14}{rate:12.3g}{rates['ours'] / rate:19.2f}{off:12.1e}", flush=True)
        if not off < limit:
            raise SystemExit(f"{name} computes something else")
    return {"case": case, "contenders": figures}


def gradients(model: nn.Module, X: Tensor, n_tracks: int, n_rounds: int) -> dict:
    """Return the figures of the gradient of some tracks."""
    tracks = list(range(FIRST_TRACK, FIRST_TRACK + n_tracks))
    n = len(X)
    contenders: dict[str, Contender] = {
        "the original": (min(n, SEQUENCES_OF_THE_ORIGINAL), by_the_original(model, tracks)),
        "tangermeme": (n, by_tangermeme(model, tracks, n)),
        "captum": (n, by_captum(model, tracks, n)),
        "ours": (n, lambda X: gradient(model, X, tracks, batch_size=n)),
    }
    return report(f"gradient, {n_tracks} tracks", 1e-5, *timed(contenders, X, n_rounds))


def exact_ism(model: nn.Module, X: Tensor, n_tracks: int, n_bp: int, n_rounds: int) -> dict:
    """Return the figures of exact ISM of some bases in the middle of each sequence."""
    tracks = list(range(FIRST_TRACK, FIRST_TRACK + n_tracks))
    start = X.shape[2] // 2
    end = start + n_bp

    def tangermeme(X: Tensor) -> Tensor:
        raw = saturation_mutagenesis(
            model, X, start=start, end=end, raw_outputs=True, batch_size=32, device="cpu"
        )
        return (raw.y_hat - raw.y0[:, None, None])[..., tracks].permute(0, 3, 1, 2)

    def ours(X: Tensor) -> Tensor:
        return ism(model, X, tracks, start=start, end=end, batch_size=32, progress=False)

    contenders: dict[str, Contender] = {"tangermeme": (1, tangermeme), "ours": (1, ours)}
    # an effect is the small difference of two predictions, so rounding weighs more
    return report(f"exact ISM of {n_bp} bp, {n_tracks} tracks", 1e-4, *timed(contenders, X, n_rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--tracks", default="1,16", help="comma-separated numbers of tracks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ism-bp", type=int, default=512, help="bases of exact ISM; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # tangermeme says when it does not take its quick way, captum that it sets requires_grad
    warnings.filterwarnings("ignore")
    model = random_beluga().requires_grad_(False)
    codes = np.random.default_rng(0).integers(0, 4, (arguments.sequences, model.input_bp)).astype(np.uint8)
    X = torch.from_numpy(one_hot(codes, model.alphabet))
    print(f"full Beluga, {len(X)} sequences, {arguments.threads} threads, best of {arguments.rounds} rounds")
    figures = [
        gradients(model, X, int(n_tracks), arguments.rounds) for n_tracks in arguments.tracks.split(",")
    ]
    if arguments.ism_bp:
        for n_tracks in arguments.tracks.split(","):
            figures.append(exact_ism(model, X, int(n_tracks), arguments.ism_bp, arguments.rounds))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
