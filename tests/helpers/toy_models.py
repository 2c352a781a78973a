"""Small models whose right answers are known, and inputs for them."""

import numpy as np
import torch
from torch import Tensor, nn

from tism_scan.genome.alphabet import one_hot

LENGTH_BP = 24
N_OUTPUTS = 5


def inputs(n: int = 5, *, has_n: bool = False, seed: int = 3) -> np.ndarray:
    """Return one-hot float32 (n, 4, 24); with has_n, positions 4 to 6 of the first sequence are N."""
    codes = np.random.default_rng(seed).integers(0, 4, (n, LENGTH_BP)).astype(np.uint8)
    if has_n:
        codes[0, 4:7] = 4
    return one_hot(codes)


def linear_model() -> nn.Module:
    """Return a model in which every first-order approximation is exact."""
    return nn.Sequential(nn.Flatten(), _seeded(nn.Linear(4 * LENGTH_BP, N_OUTPUTS)))


def smooth_model() -> nn.Module:
    """Return a convolutional network without kinks, so that rounding cannot flip a gradient."""
    return nn.Sequential(
        _seeded(nn.Conv1d(4, 8, 5)),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Flatten(),
        _seeded(nn.Linear(160, N_OUTPUTS)),
    )


def relu_model() -> nn.Module:
    """Return a network of the layers that DeepLIFT has rules for."""
    return nn.Sequential(
        _seeded(nn.Conv1d(4, 8, 5)),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        _seeded(nn.Linear(80, N_OUTPUTS)),
    )


class TwoHeads(nn.Module):
    """A model that returns its outputs as a list: the first two, and the rest."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, X: Tensor) -> list[Tensor]:
        outputs = self.body(X)
        return [outputs[:, :2], outputs[:, 2:]]


class Square(nn.Module):
    """x squared: not linear, and unknown to DeepLIFT."""

    def forward(self, X: Tensor) -> Tensor:
        return X**2


def _seeded(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(11)
    for parameter in layer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
    return layer
