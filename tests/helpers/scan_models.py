"""Small models for the engines, and scores of theirs computed the slow, obvious way."""

import numpy as np
import torch
from torch import nn

from tism_scan.genome.alphabet import BASES, N_CODE, is_acgt, one_hot, reverse_complement
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tracks import Track

INPUT_BP = 24
N_OUTPUTS = 3
TRACKS = (Track("a", (0,), (1.0,)), Track("c", (2,), (1.0,)))


class ScanModel(nn.Module):
    """A body with what an engine asks of a model, which counts its windows."""

    def __init__(self, body, *, alphabet="AGCT", input_bp=INPUT_BP, n_outputs=N_OUTPUTS):
        super().__init__()
        self.body = body
        self.alphabet, self.input_bp, self.n_outputs = alphabet, input_bp, n_outputs
        self.n_windows_seen = 0
        self.largest_batch = 0

    def forward(self, X):
        self.n_windows_seen += len(X)
        self.largest_batch = max(self.largest_batch, len(X))
        return self.body(X)


class GOnly(nn.Module):
    """Sums the channel in which Beluga has G; each output gives the positions other weights."""

    def forward(self, X):
        weights = torch.arange(1.0, 1 + X.shape[2] * N_OUTPUTS, device=X.device)
        return X[:, 1] @ weights.view(X.shape[2], N_OUTPUTS)


def smooth_model(alphabet="AGCT", seed=5):
    """Return a network without kinks, so that rounding cannot flip a gradient."""
    generator = torch.Generator().manual_seed(seed)
    body = nn.Sequential(
        nn.Conv1d(4, 6, 5), nn.Tanh(), nn.Flatten(), nn.Linear(6 * (INPUT_BP - 4), N_OUTPUTS)
    )
    for parameter in body.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
    return ScanModel(body, alphabet=alphabet)


def naive_scores(model, scoring, codes):
    """Return TISM of one chrom, float64 (T, 4, L) in A, C, G, T order, from a loop over all its windows."""
    length, stride = len(codes), scoring.stride
    flank = (scoring.input_bp - stride) // 2
    sums = np.zeros((len(scoring.tracks), 4, length))
    n_windows = np.zeros(length)
    for core in range(0, length, stride):
        positions = np.arange(core - flank, core - flank + scoring.input_bp)
        is_inside = (positions >= 0) & (positions < length)
        window = np.where(is_inside, codes[np.clip(positions, 0, length - 1)], N_CODE).astype(np.uint8)
        gradient = naive_gradient(model, scoring, window)
        if scoring.strands == "both":
            other = naive_gradient(model, scoring, np.ascontiguousarray(reverse_complement(window)))
            gradient = (gradient + other[:, ::-1, ::-1]) / 2  # T, G, C, A read backwards is A, C, G, T
        used = is_inside
        if scoring.stitch == "center":
            used = is_inside & (positions >= core) & (positions < core + stride)
        tism = gradient - (gradient * one_hot(window)).sum(1, keepdims=True)
        sums[:, :, positions[used]] += tism[:, :, used]
        n_windows[positions[used]] += 1
    return np.where(is_acgt(codes), sums / n_windows, np.nan)


def naive_gradient(model, scoring, window):
    """Return the gradient of one window, float64 (T, 4, input_bp), channels in A, C, G, T order."""
    sequence = one_hot(window, model.alphabet)
    uniform = np.where(is_acgt(window), 0.25, 0).astype(np.float32)
    points = [s * sequence + (1 - s) * uniform for s in scoring.path]
    return np.mean([_gradient_at(model, scoring, point.astype(np.float32)) for point in points], axis=0)


def _gradient_at(model, scoring, sequence):
    """Return the gradient at an input, float32 (4, input_bp), one-hot or not."""
    rows = []
    for track in scoring.tracks:
        X = torch.tensor(sequence[None], requires_grad=True)
        outputs = model(X)[0]
        values = outputs[list(track.outputs)]
        (slopes,) = torch.autograd.grad(values @ torch.tensor(track.weights), X)
        if scoring.output_space == "probability":
            X = X.detach().requires_grad_()
            slopes = torch.zeros_like(X)
            for output, weight in zip(track.outputs, track.weights, strict=True):
                logit = model(X)[0, output]
                p = torch.sigmoid(logit).item()
                slopes = slopes + weight * p * (1 - p) * torch.autograd.grad(logit, X)[0]
        rows.append(slopes[0].double().numpy()[[model.alphabet.index(base) for base in BASES]])
    return np.stack(rows)


def mean_of(tism):
    """Return mean TISM (T, L) of TISM (T, 4, L)."""
    return -tism.sum(1) / 3


def plan_of(scoring, chroms, *, wanted=None, block_bp=0):
    """Return a plan for chroms given by name and codes."""
    lengths = {name: len(codes) for name, codes in chroms.items()}
    whole = {name: ((0, length),) for name, length in lengths.items() if length}
    return ScanPlan(scoring, "genome", "weights", lengths, wanted or whole, block_bp)


def blocks_scored_by(engine, codes, *, block_bp=0, wanted=None):
    """Return the scores of one chrom, put together from its blocks."""
    plan = plan_of(engine.scoring, {"chr1": codes}, block_bp=block_bp)
    wanted = np.ones(len(codes), bool) if wanted is None else wanted
    parts = []
    for block in plan.blocks("chr1"):
        stretch = plan.stretch(block)
        around = np.full(stretch.end - stretch.start, N_CODE, np.uint8)
        first, last = max(stretch.start, 0), min(stretch.end, len(codes))
        around[first - stretch.start : last - stretch.start] = codes[first:last]
        parts.append(engine.score(around, stretch, wanted[block.start : block.end]))
    return np.concatenate(parts, axis=-1)
