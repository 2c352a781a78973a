"""Products of a forward pass in half precision, and what they cost in accuracy.

"fp16": one product of float16 numbers. Weights are scaled by a power of two, so that small ones do not fall
below what float16 holds. "split": each number is the sum of two bfloat16 ones, high and low, and three of the
four products are added up in one float32 sum; the fourth, low by low, is below float32's own rounding.

On a CPU the same numbers are rounded in the same places and multiplied in float32: the scores can be tried
there, and are no faster. So are those of plain bfloat16 on a CPU that has no instructions for it.
"""

from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Rounding = Literal["fp16", "split"]

# A scaled weight is at most this, so that a sum of many still fits float16.
_LARGEST_WEIGHT = 8.0
_LARGEST_SCALE = 2.0**14


class HalfWeights:
    """The weights of a convolution, or of a linear layer on several positions, in half precision.

    Parameters
    ----------
    weight : float32 (outputs, taps, C)
    bias : float32 (outputs,), optional
    kind : {"fp16", "split"}
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, kind: Rounding) -> None:
        self.kind = kind
        self.n_outputs, self.n_taps, self.n_channels = weight.shape
        self.is_imitated = weight.device.type == "cpu"
        self.bias = weight.new_zeros(self.n_outputs) if bias is None else bias
        if kind == "split":
            self.weight = self._in_parts(weight, for_weights=True)
            return
        scale = torch.exp2(torch.floor(torch.log2(_LARGEST_WEIGHT / weight.abs().amax())))
        scale = scale.clamp(max=_LARGEST_SCALE)
        self.weight, self.inverse = self._held((weight * scale).half()), 1 / scale
        self._rounded_bias, self._rounded_inverse = (
            self._held(each.half()) for each in (self.bias, self.inverse)
        )

    def prepared(self, h: Tensor) -> Tensor:
        """Return features, (..., C), as they are multiplied: (..., C) or, in parts, (..., 3 C).

        A CPU takes (..., 2 C): high and low together, by the weights' high part, are two products in one.
        """
        return self._in_parts(h) if self.kind == "split" else self._held(h.half())

    def product(self, rows: Tensor) -> Tensor:
        """Return the outputs, float32 (N, outputs), of prepared features of as many positions as taps."""
        summed = self._summed(rows, self.weight.flatten(1).t())
        if self.kind == "fp16":
            return torch.addcmul(self.bias, summed, self.inverse)
        return summed.add_(self.bias)

    def convolve(self, h: Tensor) -> Tensor:
        """Return the outputs, (1, P', outputs), of features, (1, P, C), as an unpadded convolution does."""
        n = h.shape[1] - self.n_taps + 1
        if self.kind == "fp16":
            image = self.prepared(h)[0].t()[None, :, None]
            output = functional.conv2d(image, self.weight.permute(0, 2, 1).unsqueeze(2))
            return self._unscaled(output.permute(0, 2, 3, 1)[:, 0])
        # Positions that are as far apart as there are taps do not overlap: so many matrices, without a copy.
        k = self.n_taps
        n_rows = -(-n // k)
        rows = self._in_parts(h[0], n_rows * k + k - 1 - h.shape[1])
        width = rows.shape[1]
        phases = rows.as_strided((k, n_rows, k * width), (width, k * width, 1))
        weights = self.weight.flatten(1).t().expand(k, -1, -1)
        summed = self._summed(phases, weights).transpose(0, 1)
        output = torch.add(summed, self.bias, out=summed.new_empty(summed.shape))  # as positions follow
        return output.flatten(0, 1)[None, :n]

    def _summed(self, left: Tensor, right: Tensor) -> Tensor:
        """Return a product of matrices, or of batches of them, with sums and results in float32."""
        if self.is_imitated:
            return left @ right
        product = torch.mm if left.dim() == 2 else torch.bmm
        return product(left, right, out_dtype=torch.float32)

    def _unscaled(self, output: Tensor) -> Tensor:
        """Return scaled outputs in float16 as they would be without the scale, with the bias."""
        output = self._held(output.half())
        return self._held(torch.addcmul(self._rounded_bias, output, self._rounded_inverse).half())

    def _in_parts(self, numbers: Tensor, n_more: int = 0, *, for_weights: bool = False) -> Tensor:
        """Return float32 numbers, (..., P, C), as the parts that are multiplied, one after the other.

        `n_more` rows of 0 follow.
        """
        if self.is_imitated:
            high = numbers.bfloat16().float()
            low = (numbers - high).bfloat16().float()
            parts = torch.cat((high, low) if for_weights else (high + low, high), dim=-1)
            return functional.pad(parts, (0, 0, 0, n_more))
        # Each part is rounded where it is to be.
        *shape, n, width = numbers.shape
        parts = numbers.new_empty((*shape, n + n_more, 3, width), dtype=torch.bfloat16)
        parts[..., n:, :, :].zero_()
        high, *others = parts[..., :n, :, :].unbind(-2)
        again, low = others if for_weights else reversed(others)
        high.copy_(numbers)
        again.copy_(high)
        torch.sub(numbers, high, out=low)
        return parts.flatten(-2)

    def _held(self, rounded: Tensor) -> Tensor:
        """Return rounded numbers in the dtype that the device multiplies."""
        return rounded.float() if self.is_imitated else rounded


def sums_in_float32() -> bool:
    """Return whether this PyTorch can give a GPU's half-precision products in float32."""
    major, minor = torch.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (2, 8)


def dtype_of_products(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype in which a device multiplies rounded numbers: float32 where it lacks instructions."""
    is_imitated = dtype == torch.bfloat16 and device.type == "cpu" and not _cpu_has_bfloat16()
    return torch.float32 if is_imitated else dtype


@cache
def _cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies in bfloat16 at a good rate; PyTorch has no public word for it."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False
