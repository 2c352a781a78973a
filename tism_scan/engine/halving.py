"""A convolution of a long stretch with fewer products: each halving leaves three quarters of them.

The outputs at even places, and those at odd ones, are two convolutions each, of the inputs at even and at odd
places with every other tap of the kernel: four of half the length and half the taps. Three are enough if
neighbouring inputs are subtracted first, and neighbouring taps added. Each sum has fewer terms than the plain
convolution's, so that rounding is no larger.

References
----------
Parker, Parhi, "Low-area/power parallel FIR digital filter implementations", Journal of VLSI Signal Processing
17, 75 (1997).
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from tism_scan.engine.layers import Convolution

# With fewer channels, the sums take longer than the products that they save.
_FEWEST_CHANNELS = 128
_N_HALVINGS = 2


class HalvedConvolution:
    """An unpadded convolution of stride 1, halved some times.

    Parameters
    ----------
    layer : Convolution
        Its kernel is a multiple of 2 to the power of `n_halvings`.
    n_halvings : int
        At least 1.
    """

    def __init__(self, layer: Convolution, n_halvings: int = _N_HALVINGS) -> None:
        self._reach, self._multiple = layer.kernel - 1, 1 << n_halvings
        even, odd = layer.weight[..., ::2], layer.weight[..., 1::2]
        halves = [
            replace(layer, weight=weight.contiguous(memory_format=torch.channels_last), bias=bias)
            for weight, bias in ((even + odd, layer.bias), (even, None), (odd, None))
        ]
        self._parts = [HalvedConvolution(half, n_halvings - 1) if n_halvings > 1 else half for half in halves]

    @staticmethod
    def is_faster(layer: Convolution) -> bool:
        """Return whether it takes less time than the plain convolution."""
        weight = layer.weight
        is_wide = min(weight.shape[:2]) >= _FEWEST_CHANNELS and layer.kernel % (1 << _N_HALVINGS) == 0
        return is_wide and layer.stride == 1 and weight.device.type == "cpu"

    def forward(self, h: Tensor) -> tuple[Tensor, None]:
        """Return the output, (N, P', C'), of (N, P, C), as `Convolution.forward` does."""
        n = h.shape[1] - self._reach
        h = functional.pad(h, (0, 0, 0, -n % self._multiple))
        odd = h[:, 1::2].contiguous()
        middle, before, after = (
            part.forward(inputs)[0]
            for part, inputs in zip(self._parts, (odd, h[:, :-1:2] - odd, h[:, 2::2] - odd), strict=True)
        )
        output = middle.new_empty((*middle.shape[:2], 2, middle.shape[2]))
        torch.add(middle, before, out=output[:, :, 0])
        torch.add(middle, after, out=output[:, :, 1])
        return output.flatten(1, 2)[:, :n], None
