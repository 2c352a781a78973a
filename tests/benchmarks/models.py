"""How much faster the shared engine is than window-by-window autograd, for networks of other people's kinds.

    python tests/benchmarks/models.py [--threads 1] [--cases spliceai] [--stitch mean] [--json FILE]
    python tests/benchmarks/models.py --all [--n-bp 20000]

The rival is batched autograd with frozen parameters, 4 windows at a time (the window engine), on the same
sequence, weights of noise, stride 256 and ``stitch="mean"``. It gets the network as others write it:
zero-padded and then cropped as in bpnet-lite and SpliceAI, or unpadded as in chrombpnet, layer by layer in
PyTorch's own order of memory. Engines take turns, each with its best time. Scores are compared: they are
equal to a few millionths of the largest, but where rounding flips a unit.

`--all` compares scores instead: ``stitch="all"`` with "center" at stride 1,024, over a stretch as long as a
gene, of SpliceAI's architecture with weights of noise (the published weights are not ours to ship).
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.engine.block_engine import BlockEngine
from tism_scan.engine.shared_engine import SharedEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.models import Cropped
from tism_scan.models.bpnet import BPNet, BPNetShape, weighted_logit
from tism_scan.models.contract import loaded_model
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tiling import Block, Stitch
from tism_scan.plan.tracks import Track

STRIDE = 256


class Residual(nn.Module):
    """SpliceAI's residual block: normalise, ReLU, convolve, twice."""

    def __init__(self, n_channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv1d(n_channels, n_channels, kernel, dilation=dilation, padding="same")
            layers += [nn.BatchNorm1d(n_channels), nn.ReLU(), convolution]
        self.layers = nn.Sequential(*layers)

    def forward(self, X: Tensor) -> Tensor:
        return X + self.layers(X)


class Body(nn.Module):
    """SpliceAI-10k's body, zero-padded: sixteen blocks, with a skip connection after each four."""

    def __init__(self, n_channels: int = 32) -> None:
        super().__init__()
        self.first, self.skip = nn.Conv1d(4, n_channels, 1), nn.Conv1d(n_channels, n_channels, 1)
        self.groups = nn.ModuleList()
        self.skips = nn.ModuleList()
        for kernel, dilation in ((11, 1), (11, 4), (21, 10), (41, 25)):
            self.groups.append(nn.Sequential(*(Residual(n_channels, kernel, dilation) for _ in range(4))))
            self.skips.append(nn.Conv1d(n_channels, n_channels, 1))

    def forward(self, X: Tensor) -> Tensor:
        h = self.first(X)
        total = self.skip(h)
        for group, skip in zip(self.groups, self.skips, strict=True):
            h = group(h)
            total = total + skip(h)
        return total


class Sites(nn.Module):
    """Three classes a position, each read as the weighted logit over positions, or as it is."""

    def __init__(self, n_channels: int = 32, *, is_read: bool = True) -> None:
        super().__init__()
        self.classes, self.is_read = nn.Conv1d(n_channels, 3, 1), is_read

    def forward(self, features: Tensor) -> Tensor:
        logits = self.classes(features)
        return weighted_logit(logits) if self.is_read else logits


class SpliceAI(nn.Module):
    """SpliceAI-10k's network, of noise: 15,000 bp in, of which the middle 5,000 have outputs."""

    input_bp = 15_000
    alphabet = "ACGT"
    n_outputs = 3

    def __init__(self, *, is_read: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.head = Cropped(Body(), 5000, 5000), Sites(is_read=is_read)
        self.eval()

    def forward(self, X: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.trunk(X))
        return outputs


class PlainBPNet(nn.Module):
    """BPNet's network as one writes it: of a head that is not asked for, no gradient is taken."""

    input_bp = 2114
    alphabet = "ACGT"
    n_outputs = 2

    def __init__(self, model: BPNet, output: int, *, is_padded: bool) -> None:
        super().__init__()
        self.layers, self.output, self.is_padded = model.trunk, output, is_padded

    def convolve(self, X: Tensor, layer: nn.Conv1d) -> Tensor:
        padding = "same" if self.is_padded else "valid"
        return functional.conv1d(X, layer.weight, layer.bias, padding=padding, dilation=layer.dilation)

    def forward(self, X: Tensor) -> Tensor:
        layers = self.layers
        h = self.convolve(X, layers.first).relu()
        for layer in layers.dilated:
            seen = self.convolve(h, layer).relu()
            lost = (h.shape[2] - seen.shape[2]) // 2
            h = h[:, :, lost : h.shape[2] - lost] + seen
        logits = self.convolve(h, layers.profile)
        lost = (h.shape[2] - 1074) // 2
        h = h[:, :, lost : h.shape[2] - lost]
        lost = (logits.shape[2] - 1000) // 2
        logits = logits[:, :, lost : logits.shape[2] - lost].flatten(1)
        outputs = [functional.linear(h.mean(2), layers.counts.weight[:, :, 0], layers.counts.bias)[:, 0]]
        outputs.append(weighted_logit(logits))
        outputs[1 - self.output] = outputs[1 - self.output].detach()
        return torch.stack(outputs, 1)


def bpnet(n_filters: int, output: int, *, is_padded: bool) -> tuple[nn.Module, nn.Module]:
    """Return a network of BPNet's kind, of noise, and the same as others write it."""
    torch.manual_seed(0)
    model = BPNet(BPNetShape(n_filters, 8)).eval()
    return model, PlainBPNet(model, output, is_padded=is_padded).eval()


def spliceai() -> tuple[nn.Module, nn.Module]:
    """Return SpliceAI's network, twice."""
    model = SpliceAI()
    return model, model


@dataclass(frozen=True)
class Case:
    """A network, the output that is scored, and how many bases each engine gets in a round."""

    make: Callable[[], tuple[nn.Module, nn.Module]]
    output: int
    n_fast: int
    n_slow: int
    asked: float


CASES = {
    "bpnet counts": Case(lambda: bpnet(64, 0, is_padded=True), 0, 100_000, 4_096, 12),
    "bpnet profile": Case(lambda: bpnet(64, 1, is_padded=True), 1, 100_000, 4_096, 10),
    "chrombpnet counts": Case(lambda: bpnet(512, 0, is_padded=False), 0, 25_000, 1_024, 4),
    "chrombpnet profile": Case(lambda: bpnet(512, 1, is_padded=False), 1, 25_000, 1_024, 4),
    "spliceai": Case(spliceai, 1, 200_000, 256, 30),
}


def compare(case: Case, n_rounds: int, stitch: Stitch) -> dict[str, Any]:
    """Return the figures of one network."""
    model, plain = (network.requires_grad_(False) for network in case.make())
    track = Track("of interest", (case.output,), (1.0,))
    scoring = Scoring((track,), model.input_bp, STRIDE, stitch)
    fast = SharedEngine(model, scoring, device="cpu")
    slow = WindowEngine(plain, scoring, device="cpu", batch_size=4)
    n_bp = case.n_fast + 2 * model.input_bp
    codes = np.random.default_rng(0).integers(0, 4, n_bp).astype(np.uint8)
    fast_s = slow_s = np.inf
    for _ in range(n_rounds):
        theirs, seconds = seconds_per_window(slow, codes, case.n_slow)
        slow_s = min(slow_s, seconds)
        ours, seconds = seconds_per_window(fast, codes, case.n_fast)
        fast_s = min(fast_s, seconds)
    ours = ours[:, : theirs.shape[1]]
    return {
        "bases_per_s": STRIDE / fast_s,
        "against_window_autograd": slow_s / fast_s,
        "asked": case.asked,
        "pearson": float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]),
        "largest_difference": float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
        "windows_per_slab": fast.batch_size,
    }


def all_against_center(n_bp: int) -> dict[str, float]:
    """Return, for each reduction, the correlation of scores that count each output once with the others."""
    codes = np.random.default_rng(0).integers(0, 4, n_bp + 60_000).astype(np.uint8)
    figures = {}
    for reduction in ("sum", "wlogit"):
        model = loaded_model(SpliceAI(is_read=False), "SpliceAI", reduction=reduction)
        found = []
        for stitch, stride in (("all", 5_000), ("center", 1_024)):
            scoring = Scoring((Track("donor", (1,), (1.0,)),), model.input_bp, stride, stitch)
            lattice, start = scoring.lattice, 30_000
            first, end = start // stride * stride, -(-(start + n_bp) // stride) * stride
            block = Block("chr1", 0, first, end)
            stretch = lattice.stretch(block, len(codes), stitch)
            scores = SharedEngine(model, scoring, device="cpu").score(
                codes[stretch.start : stretch.end], stretch, np.ones(len(block), bool)
            )
            found.append(scores[0, start - first :][:n_bp])
        figures[reduction] = float(np.corrcoef(*found)[0, 1])
    return figures


def seconds_per_window(engine: BlockEngine, codes: np.ndarray, n_bp: int) -> tuple[np.ndarray, float]:
    """Return the scores of a block in the middle of a chrom, and the time of each window that reaches it."""
    lattice = engine.scoring.lattice
    stride = lattice.stride
    start = -(-lattice.input_bp // stride) * stride
    block = Block("chr1", 0, start, start + n_bp // stride * stride)
    stretch = lattice.stretch(block, len(codes), engine.scoring.stitch)
    began = time.perf_counter()
    scores = engine.score(codes[stretch.start : stretch.end], stretch, np.ones(len(block), bool))
    return scores, (time.perf_counter() - began) / stretch.n_windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stitch", choices=("mean", "center"), default="mean")
    parser.add_argument("--all", action="store_true", help="compare stitch all with center at stride 1,024")
    parser.add_argument("--n-bp", type=int, default=20_000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.all:
        for reduction, pearson in all_against_center(arguments.n_bp).items():
            print(f"--reduce {reduction}: Pearson {pearson:.4f} over {arguments.n_bp:,} bp")
        return
    print(f"{arguments.threads} threads, stride {STRIDE}, float32, stitch {arguments.stitch}")
    figures = []
    for name in arguments.cases.split(","):
        figures.append({"case": name, **compare(CASES[name], arguments.rounds, arguments.stitch)})
        words = [
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in figures[-1].items()
        ]
        print(", ".join(words), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
