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

import torch
from torch import Tensor
from torch.nn import functional

# With fewer channels, the sums take longer than the products that they save.
_FEWEST_CHANNELS = 128
_N_HALVINGS = 2
# Outputs at places that differ by a multiple of it are rounded in the same way.
PERIOD = 1 << _N_HALVINGS


class HalvedWeights:
    """The weights of an unpadded convolution of stride 1, halved some times.

    Parameters
    ----------
    weight : float32 (C', C, 1, kernel)
        The kernel is a multiple of 2 to the power of `n_halvings`.
    bias : float32 (C',), optional
    n_halvings : int
        At least 1.

    Attributes
    ----------
    share : float
        Products, as a part of the plain convolution's.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, n_halvings: int = _N_HALVINGS) -> None:
        self.share = 0.75**n_halvings
        self._reach, self._multiple = weight.shape[3] - 1, 1 << n_halvings
        even, odd = weight[..., ::2], weight[..., 1::2]
        self._parts = [
            HalvedWeights(half, of_half, n_halvings - 1) if n_halvings > 1 else _Plain(half, of_half)
            for half, of_half in ((even + odd, bias), (even, None), (odd, None))
        ]

    @staticmethod
    def is_faster(weight: Tensor) -> bool:
        """Return whether to convolve with halves of a weight takes less time than with it."""
        is_wide = min(weight.shape[:2]) >= _FEWEST_CHANNELS and weight.shape[3] % PERIOD == 0
        has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return is_wide and weight.device.type == "cpu" and weight.dtype == torch.float32 and has_onednn

    def convolve(self, h: Tensor) -> Tensor:
        """Return the output, (N, P', C'), of (N, P, C)."""
        n = h.shape[1] - self._reach
        h = functional.pad(h, (0, 0, 0, -n % self._multiple))
        odd = h[:, 1::2].contiguous()
        of_sums, of_even, of_odd = self._parts
        middle = of_sums.convolve(odd)
        output = middle.new_empty((*middle.shape[:2], 2, middle.shape[2]))
        torch.add(middle, of_even.convolve(h[:, :-1:2] - odd), out=output[:, :, 0])
        torch.add(middle, of_odd.convolve(h[:, 2::2] - odd), out=output[:, :, 1])
        return output.flatten(1, 2)[:, :n]


class _Plain:
    """Weights that are not halved further."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight.contiguous(memory_format=torch.channels_last), bias

    def convolve(self, h: Tensor) -> Tensor:
        # PyTorch itself takes another kernel for one short image, which rounds in another way
        image = h.unsqueeze(1).permute(0, 3, 1, 2)
        image = torch.mkldnn_convolution(image, self._weight, self._bias, (0, 0), (1, 1), (1, 1), 1)
        return image.permute(0, 2, 3, 1).squeeze(1).contiguous()
