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
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.models.contract import Model
from tism_scan.models.long_kernel import convolved_with_long_kernel
from tism_scan.models.residual import added_to_its_input

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
    def places_bp(self) -> int:
        """Places of the profile in a window, before it is cropped."""
        return self.tower_bp - (self.profile_bp - 1)

    @property
    def crop_bp(self) -> int:
        """Places of the profile that are dropped on either side; negative if the window is too short."""
        return (self.places_bp - self.output_bp) // 2

    @property
    def shifts(self) -> tuple[int, ...]:
        """Where parts of the tower's output begin that are as long as the profile and cover it all."""
        starts = range(0, self.tower_bp, self.places_bp)
        return tuple(min(start, self.tower_bp - self.places_bp) for start in starts)


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
        self.trunk, self.head = Trunk(shape), Head(shape)

    def forward(self, X: Tensor) -> Tensor:
        """Return counts and profile, float (N, 2), of one-hot windows, float (N, 4, input_bp)."""
        outputs: Tensor = self.head(self.trunk(X))
        return outputs

    def profile_logits(self, X: Tensor) -> Tensor:
        """Return the profile's logits, float (N, n_strands, output_bp), of one-hot windows."""
        return self.head.logits(self.trunk(X))


class Trunk(nn.Module):
    """All that is computed of each place by itself: (N, 4, L) to (N, shifts + strands, places).

    The last channels are the profile's logits. The first are the terms of the counts, whose mean is over more
    places than there are logits: the same terms several times, each beginning at another of the shifts.
    """

    def __init__(self, shape: BPNetShape) -> None:
        super().__init__()
        n = shape.n_filters
        self.shifts, self.is_activated_first = shape.shifts, shape.is_activated_first
        self.dilations = [2**i for i in range(1, shape.n_layers + 1)]
        self.first = nn.Conv1d(4, n, shape.first_bp)
        self.dilated = nn.ModuleList([nn.Conv1d(n, n, 3, dilation=dilation) for dilation in self.dilations])
        self.counts = nn.Conv1d(n, 1, 1)
        self.profile = nn.Conv1d(n, shape.n_strands, shape.profile_bp)

    def forward(self, X: Tensor) -> Tensor:
        """Return the terms of the counts, and the logits."""
        # As images of height 1, whose gradients keep the memory format that convolutions are quickest in.
        h = _convolved(_as_image(X), self.first)
        h = h if self.is_activated_first else h.relu()
        layers = cast("list[nn.Conv1d]", list(self.dilated))
        for dilation, layer in zip(self.dilations, layers, strict=True):
            if not self.is_activated_first and not layer.weight.requires_grad:
                h = added_to_its_input(h, _as_image(layer.weight), layer.bias, dilation)
                continue
            seen = _convolved(h.relu(), layer) if self.is_activated_first else _convolved(h, layer).relu()
            h = functional.pad(h, (-dilation, -dilation)) + seen
        h = h.relu() if self.is_activated_first else h
        terms, logits = _convolved(h, self.counts).squeeze(2), self._profile(h).squeeze(2)
        n_places = logits.shape[2]
        return torch.cat([*(terms[:, :, shift : shift + n_places] for shift in self.shifts), logits], dim=1)

    def _profile(self, h: Tensor) -> Tensor:
        """Return the logits, (N, n_strands, 1, places), of the tower's output, (N, C, 1, places)."""
        layer = self.profile
        is_rounded = h.dtype != layer.weight.dtype
        if h.device.type != "cpu" or layer.weight.requires_grad or is_rounded or layer.bias is None:
            return _convolved(h, layer)
        return convolved_with_long_kernel(h, _as_image(layer.weight)) + layer.bias[:, None, None]


class Head(nn.Module):
    """Counts and profile, (N, 2), of what the trunk has of a window, (N, shifts + strands, places)."""

    def __init__(self, shape: BPNetShape) -> None:
        super().__init__()
        self.shifts, self.crop_bp, self.tower_bp = shape.shifts, shape.crop_bp, shape.tower_bp

    def logits(self, places: Tensor) -> Tensor:
        """Return the profile's logits, (N, n_strands, output_bp)."""
        return places[:, len(self.shifts) :, self.crop_bp : places.shape[2] - self.crop_bp]

    def forward(self, places: Tensor) -> Tensor:
        """Return both outputs, (N, 2)."""
        n_places = places.shape[2]
        # of each part, what the parts before it do not hold
        new = [places[:, i, i * n_places - shift :].sum(1) for i, shift in enumerate(self.shifts)]
        counts = torch.stack(new).sum(0) / self.tower_bp
        return torch.stack([counts, weighted_logit(self.logits(places).flatten(1))], dim=1)


def _convolved(image: Tensor, layer: nn.Conv1d) -> Tensor:
    """Return a one-dimensional convolution of an image, (N, C, 1, P)."""
    return functional.conv2d(image, _as_image(layer.weight), layer.bias, dilation=(1, layer.dilation[0]))


def _as_image(x: Tensor) -> Tensor:
    """Return (N, C, P) as (N, C, 1, P), channels side by side in memory."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def weighted_logit(logits: Tensor) -> Tensor:
    """Return the sum of logits over their last axis, less their mean, weighted by their fixed softmax.

    References
    ----------
    Section 3.6, "Adjustments for softmax layers", of Shrikumar et al., "Learning important features through
    propagating activation differences", arXiv 1704.02685.
    """
    weights = functional.softmax(logits.detach(), dim=-1)
    return (weights * (logits - logits.mean(-1, keepdim=True))).sum(-1)
