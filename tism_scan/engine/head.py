"""The head of a trunk: from features of windows to the gradient of tracks at the top of the trunk."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.engine.cost import module_flop
from tism_scan.engine.half import HalfWeights
from tism_scan.engine.layers import Extent, Passes, held
from tism_scan.engine.readout import TrackReader
from tism_scan.engine.trunk import first_linear, linear_on_relu
from tism_scan.models.outputs import flat_outputs
from tism_scan.plan.scoring import Scoring

# Tensor cores take rows that begin at multiples of 16 bytes; those of Beluga's 2,003 hidden units do not.
MULTIPLE_OF_HIDDEN = {"cuda": 64}


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
    device : torch.device
        Where the head is.
    """

    def __init__(
        self,
        head: nn.Module,
        n_positions: int,
        extent: Extent,
        scoring: Scoring,
        passes: Passes,
        device: torch.device,
    ) -> None:
        self.extent, self.scoring, self.passes = extent, scoring, passes
        linear, self.rest = first_linear(head)
        self._reader = TrackReader(scoring.tracks, device)
        self.first: Product | HalfWeights | None = None
        self.readout: GatedReadout | None = None
        if linear is not None:
            last = linear_on_relu(self.rest)
            self.n_hidden, n_more = len(linear.weight), 0
            if last is not None:
                n_more = -self.n_hidden % MULTIPLE_OF_HIDDEN.get(linear.weight.device.type, 1)
                self.readout = GatedReadout(last, n_more, scoring, passes.backward)
            # (hidden, positions, C), as windows are in memory.
            weight = linear.weight.detach().view(self.n_hidden, -1, n_positions).transpose(1, 2)
            if n_more:  # else it would be a copy
                weight = functional.pad(weight, (0, 0, 0, 0, 0, n_more))
            bias = None if linear.bias is None else functional.pad(linear.bias.detach(), (0, n_more))
            self.n_features, self.n_channels = weight.shape[1] * weight.shape[2], weight.shape[2]
            self.first = (
                Product(weight.flatten(1), bias, passes.forward)
                if passes.products is None
                else HalfWeights(weight, bias, passes.products)
            )
            self.to_extent = Product(weight[:, slice(*extent)].flatten(1).t(), None, passes.backward)

    def bytes_per_window(self, n_tracks: int) -> int:
        """Return about how much memory `gradient` holds at once, for each window."""
        if self.first is None:
            return 0
        features = self.n_features * self.passes.forward.itemsize * (2 if self.passes.products else 1)
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
        first = 2 * self.n_hidden * self.n_features
        to_extent = 2 * self.n_hidden * self.to_extent.n_outputs
        if self.readout is not None:
            forward, backward = self.readout.flop(self.n_hidden)
        else:
            hidden = self._hidden(self.first, windows).float()
            forward, backward = module_flop(self.rest, hidden)
        return first + forward, to_extent + backward

    def prepared(self, features: Tensor) -> Tensor:
        """Return the trunk's features, (1, positions, C), as `gradient` wants windows of them."""
        return self.first.prepared(features) if isinstance(self.first, HalfWeights) else features

    def gradient(self, windows: Tensor, tracks: range) -> Tensor:
        """Return the gradient of some tracks, (N, T, len, C), at windows' features, (N, C, positions).

        Parameters
        ----------
        windows : float (N, C, positions)
        tracks : range
            Which of the scoring's tracks.
        """
        if self.first is None:
            gradients = self._track_gradients(self.rest, windows.float(), tracks)
            if self.passes.products is not None:
                gradients = _lost(gradients, windows.flatten(1))
            return gradients[..., slice(*self.extent)].transpose(2, 3).to(self.passes.backward)
        hidden = self._hidden(self.first, windows)
        if self.readout is not None:
            gradients = self.readout.gradient(hidden, tracks)
        else:
            gradients = self._track_gradients(self.rest, hidden.float(), tracks).to(self.passes.backward)
        gradients = _lost(gradients, hidden)
        n, n_tracks = gradients.shape[:2]
        return self.to_extent(gradients.flatten(0, 1)).view(n, n_tracks, -1, self.n_channels)

    @staticmethod
    def _hidden(first: "Product | HalfWeights", windows: Tensor) -> Tensor:
        """Return the hidden units, (N, hidden), of windows, (N, C, positions)."""
        rows = windows.transpose(1, 2).flatten(1)
        return first.product(rows) if isinstance(first, HalfWeights) else first(rows)

    def _track_gradients(self, module: nn.Module, inputs: Tensor, tracks: range) -> Tensor:
        """Return the gradient of each track at the inputs of the head, or of the rest of it: (N, T, ...)."""
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():
            outputs = flat_outputs(module(inputs.clone()))  # which may work in place
            if self.scoring.output_space == "probability":
                outputs = outputs.sigmoid()
            gradients = [
                torch.autograd.grad(self._reader.value(outputs, i), inputs, retain_graph=True)[0]
                for i in tracks
            ]
        return torch.stack(gradients, dim=1)


def _lost(gradients: Tensor, units: Tensor) -> Tensor:
    """Return gradients, (N, T, ...), NaN in windows of which some unit, (N, n), is NaN or infinite.

    Where the forward pass overflows, its signs mean nothing: NaN reaches the scores, which are checked.
    """
    is_lost = ~units.sum(1, dtype=torch.float32).isfinite()
    return gradients.masked_fill(is_lost.view(-1, *[1] * (gradients.dim() - 1)), torch.nan)


class GatedReadout:
    """Tracks of a linear layer on ReLU's hidden units: their gradient without a graph, all at once.

    Parameters
    ----------
    linear : torch.nn.Linear
    n_more : int
        Hidden units of no weight, which come after those of the layer.
    scoring : Scoring
    dtype : torch.dtype
        Of the gradient.
    """

    def __init__(self, linear: nn.Linear, n_more: int, scoring: Scoring, dtype: torch.dtype) -> None:
        device, tracks = linear.weight.device, scoring.tracks
        used = sorted({output for track in tracks for output in track.outputs})
        column_of = {output: i for i, output in enumerate(used)}
        self.weight = functional.pad(linear.weight.detach()[used], (0, n_more))
        self.bias = None if linear.bias is None else linear.bias.detach()[used]
        self.dtype = dtype
        self.is_logit = scoring.output_space == "logit"
        self.columns = [
            torch.tensor([column_of[output] for output in track.outputs], device=device) for track in tracks
        ]
        self.factors = [torch.tensor(track.weights, dtype=torch.float32, device=device) for track in tracks]
        if self.is_logit:  # the same row for every window
            rows = [
                factors @ self.weight[columns]
                for columns, factors in zip(self.columns, self.factors, strict=True)
            ]
            self.rows = torch.stack(rows).to(dtype)

    def flop(self, n_hidden: int) -> tuple[float, float]:
        """Return the arithmetic of a window's forward pass, and of the backward pass of a mean track."""
        if self.is_logit:
            return 0.0, 0.0
        mean_size = sum(map(len, self.columns)) / len(self.columns)
        return 2.0 * n_hidden * len(self.weight), 2.0 * n_hidden * mean_size

    def gradient(self, hidden: Tensor, tracks: range) -> Tensor:
        """Return the gradient of some tracks, (N, T, hidden), at the inputs of ReLU, (N, hidden)."""
        is_on = (hidden > 0).unsqueeze(1)
        if self.is_logit:
            return self.rows[tracks.start : tracks.stop] * is_on
        p = functional.linear(functional.relu(hidden.float()), self.weight, self.bias).sigmoid()
        slopes = p * (1 - p)
        gradients = [
            (slopes[:, self.columns[i]] * self.factors[i]) @ self.weight[self.columns[i]] for i in tracks
        ]
        return torch.stack(gradients, dim=1).to(self.dtype) * is_on


class Product:
    """A linear layer in a dtype, packed for oneDNN where that is used.

    For float32 on CPUs: torch's default, MKL, is half as fast on some makers' CPUs.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.n_outputs, self.n_inputs = weight.shape
        self.dtype = dtype
        weight = held(weight, dtype).contiguous()
        bias = None if bias is None else held(bias, dtype)
        has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self.is_packed = weight.device.type == "cpu" and weight.dtype == torch.float32 and has_onednn
        self.weight = weight.to_mkldnn() if self.is_packed else weight
        self.bias = bias.to_mkldnn() if self.is_packed and bias is not None else bias

    @property
    def flop(self) -> int:
        """Arithmetic for one row; a multiply-add counts as two."""
        return 2 * self.n_outputs * self.n_inputs

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the product, (N, outputs), of (N, inputs)."""
        if self.is_packed:
            product = functional.linear(inputs.float().to_mkldnn(), self.weight, self.bias).to_dense()
            return product.to(self.dtype)
        return functional.linear(inputs.to(self.weight.dtype), self.weight, self.bias).to(self.dtype)
