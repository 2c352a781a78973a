"""The head of a trunk: from features of windows to the gradient of tracks at the top of the trunk."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.engine.cost import module_flop
from tism_scan.engine.layers import Extent, Passes
from tism_scan.engine.readout import track_output
from tism_scan.engine.trunk import first_linear
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track


class TrunkHead:
    """The gradient of tracks at the trunk's positions that feed a window's reach.

    Where the head begins with a linear layer on all positions, as Beluga's does, only the columns of these
    positions are multiplied.

    Parameters
    ----------
    head : torch.nn.Module
        Maps features, float (N, C, positions), to logits, (N, outputs).
    n_positions : int
        Of the trunk, in a window.
    extent : Extent
        Those that feed the reach.
    scoring : Scoring
    passes : Passes
    """

    def __init__(
        self, head: nn.Module, n_positions: int, extent: Extent, scoring: Scoring, passes: Passes
    ) -> None:
        self.extent, self.scoring, self.passes = extent, scoring, passes
        linear, self.rest = first_linear(head)
        self.first: Product | None = None
        if linear is not None:
            # (hidden, positions, C), as windows are in memory.
            weight = linear.weight.view(len(linear.weight), -1, n_positions).transpose(1, 2)
            self.n_channels = weight.shape[2]
            self.first = Product(weight.flatten(1), linear.bias, passes.forward)
            self.to_extent = Product(weight[:, slice(*extent)].flatten(1).t(), None, passes.backward)

    def bytes_per_window(self, n_tracks: int) -> int:
        """Return about how much memory `gradient` holds at once, for each window."""
        if self.first is None:
            return 0
        features = self.first.n_inputs * self.passes.forward.itemsize
        at_extent = self.to_extent.n_outputs * self.passes.backward.itemsize
        return features + n_tracks * (2 * self.to_extent.n_inputs * torch.float32.itemsize + at_extent)

    def flop_per_window(self, windows: Tensor) -> tuple[float, float]:
        """Return the arithmetic of the forward pass, and of the backward pass of each track.

        Parameters
        ----------
        windows : float (1, C, positions)
            Features of any window.
        """
        if self.first is None:
            return module_flop(self.rest, windows)
        forward, backward = module_flop(self.rest, self.first(windows.transpose(1, 2).flatten(1)).float())
        return self.first.flop + forward, self.to_extent.flop + backward

    def gradient(self, windows: Tensor, tracks: Sequence[Track]) -> Tensor:
        """Return the gradient of each track, (N, T, len, C), of windows' features, (N, C, positions)."""
        if self.first is None:
            gradients = self._track_gradients(self.rest, windows.float(), tracks)
            return gradients[..., slice(*self.extent)].transpose(2, 3).to(self.passes.backward)
        hidden = self.first(windows.transpose(1, 2).flatten(1)).float()
        gradients = self._track_gradients(self.rest, hidden, tracks)
        n, n_tracks = gradients.shape[:2]
        at_positions = self.to_extent(gradients.to(self.passes.backward).flatten(0, 1))
        return at_positions.view(n, n_tracks, -1, self.n_channels)

    def _track_gradients(self, module: nn.Module, inputs: Tensor, tracks: Sequence[Track]) -> Tensor:
        """Return the gradient of each track at the inputs of the head, or of the rest of it: (N, T, ...)."""
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():
            outputs = module(inputs)
            if self.scoring.output_space == "probability":
                outputs = outputs.sigmoid()
            gradients = [
                torch.autograd.grad(track_output(outputs, track), inputs, retain_graph=True)[0]
                for track in tracks
            ]
        return torch.stack(gradients, dim=1)


class Product:
    """A linear layer in a dtype, packed for oneDNN where that is used.

    For float32 on CPUs: torch's default, MKL, is half as fast on some makers' CPUs.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.n_outputs, self.n_inputs = weight.shape
        weight = weight.to(dtype).contiguous()
        bias = None if bias is None else bias.to(dtype)
        has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self.is_packed = weight.device.type == "cpu" and dtype == torch.float32 and has_onednn
        self.weight = weight.to_mkldnn() if self.is_packed else weight
        self.bias = bias.to_mkldnn() if self.is_packed and bias is not None else bias

    @property
    def flop(self) -> int:
        """Arithmetic for one row; a multiply-add counts as two."""
        return 2 * self.n_outputs * self.n_inputs

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the product, (N, outputs), of (N, inputs)."""
        if self.is_packed:
            return functional.linear(inputs.to_mkldnn(), self.weight, self.bias).to_dense()
        return functional.linear(inputs, self.weight, self.bias)
