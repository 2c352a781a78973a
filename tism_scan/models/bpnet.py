"""BPNet and ChromBPNet: 2,114 bp in, a profile of 1,000 positions and its total out.

Both are one convolution and a tower of dilated ones, each added to its input, with a profile head and a
counts head on it. Nothing is padded here: networks that were trained with zero padding and then cropped read
no place that it reaches, so that they are the same function. The trunk can be shared between windows.

References
----------
Avsec et al., "Base-resolution models of transcription-factor binding reveal soft motif syntax", Nature
Genetics 53, 354 (2021), doi 10.1038/s41588-021-00782-6. Pampari et al., "ChromBPNet: bias factorized,
base-resolution deep learning models of chromatin accessibility", doi 10.1101/2024.12.25.630221.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.models.contract import Model

INPUT_BP = 2114
OUTPUT_BP = 1000


@dataclass(frozen=True)
class BPNetShape:
    """What distinguishes one network of this kind from another.

    Attributes
    ----------
    n_filters, n_layers : int
        Width of the tower, and how many dilated convolutions it has: of dilation 2, 4, 8 and so on.
    n_strands : int
        Profiles: 1, or one for each strand.
    first_bp, profile_bp : int
        Lengths of the first kernel, and of the profile head's.
    input_bp, output_bp : int
    is_activated_first : bool
        Whether a dilated convolution is taken of ReLU of its input, and not ReLU of its output.
    """

    n_filters: int
    n_layers: int
    n_strands: int = 1
    first_bp: int = 21
    profile_bp: int = 75
    input_bp: int = INPUT_BP
    output_bp: int = OUTPUT_BP
    is_activated_first: bool = False

    @property
    def tower_bp(self) -> int:
        """Places of the tower's output in a window."""
        return self.input_bp - (self.first_bp - 1) - 2 * ((2 << self.n_layers) - 2)

    @property
    def crop_bp(self) -> int:
        """Places of the profile that are dropped on either side; negative if the window is too short."""
        return (self.tower_bp - (self.profile_bp - 1) - self.output_bp) // 2


class BPNet(Model):
    """BPNet's network, without control tracks, and what attribution methods explain of its two heads.

    Its two outputs are ``counts``, the logarithm of the total, and ``profile``: the sum over positions and
    strands of the logit minus the mean logit, weighted by its softmax, which is held fixed in the gradient.
    This is what chrombpnet explains of a profile.

    Parameters
    ----------
    shape : BPNetShape
    """

    alphabet = "ACGT"
    n_outputs = 2
    output_names = ("counts", "profile")

    def __init__(self, shape: BPNetShape) -> None:
        super().__init__()
        self.shape, self.input_bp = shape, shape.input_bp
        self.trunk = Tower(shape)
        self.head = Heads(shape)

    def forward(self, X: Tensor) -> Tensor:
        """Return counts and profile, float (N, 2), of one-hot windows, float (N, 4, input_bp)."""
        outputs: Tensor = self.head(self.trunk(X))
        return outputs


class Tower(nn.Module):
    """The convolutions, unpadded: (N, 4, L) to (N, n_filters, places)."""

    def __init__(self, shape: BPNetShape) -> None:
        super().__init__()
        n, self.dilations = shape.n_filters, [2**i for i in range(1, shape.n_layers + 1)]
        self.is_activated_first = shape.is_activated_first
        self.first = nn.Conv1d(4, n, shape.first_bp)
        self.dilated = nn.ModuleList([nn.Conv1d(n, n, 3, dilation=dilation) for dilation in self.dilations])

    def forward(self, X: Tensor) -> Tensor:
        """Return the features."""
        h: Tensor = self.first(X)
        h = h if self.is_activated_first else h.relu()
        for dilation, convolution in zip(self.dilations, self.dilated, strict=True):
            seen = convolution(h.relu()) if self.is_activated_first else convolution(h).relu()
            h = h[:, :, dilation:-dilation] + seen
        return h.relu() if self.is_activated_first else h


class Heads(nn.Module):
    """Counts and profile, (N, 2), of a window's features, (N, n_filters, places)."""

    def __init__(self, shape: BPNetShape) -> None:
        super().__init__()
        self.crop_bp = shape.crop_bp
        self.counts = nn.Linear(shape.n_filters, 1)
        self.profile = nn.Conv1d(shape.n_filters, shape.n_strands, shape.profile_bp)

    def logits(self, features: Tensor) -> Tensor:
        """Return the profile's logits, (N, n_strands, output_bp)."""
        places: Tensor = self.profile(features)
        return places[:, :, self.crop_bp : places.shape[2] - self.crop_bp]

    def forward(self, features: Tensor) -> Tensor:
        """Return both outputs, (N, 2)."""
        logits = self.logits(features).flatten(1)
        return torch.cat([self.counts(features.mean(2)), weighted_logit(logits)[:, None]], dim=1)


def weighted_logit(logits: Tensor) -> Tensor:
    """Return the sum of logits over their last axis, less their mean, weighted by their fixed softmax.

    References
    ----------
    Section 3.6, "Adjustments for softmax layers", of Shrikumar et al., "Learning important features through
    propagating activation differences", arXiv 1704.02685.
    """
    weights = functional.softmax(logits.detach(), dim=-1)
    return (weights * (logits - logits.mean(-1, keepdim=True))).sum(-1)
