"""Convolutions as layers of a trunk, in every precision; see `tism_scan.engine.layers`."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.engine.half import HalfWeights
from tism_scan.engine.halving import HalvedWeights
from tism_scan.engine.layers import Extent, Passes, Pointwise, as_image, cut, from_image, held

# Tensor cores take positions that begin at multiples of so many bytes; those of 4 bases in bfloat16 do not.
BYTES_OF_POSITION = {"cuda": 16}

# Where bias and ReLU are passes of their own over a convolution's outputs; a product of matrices saves both.
PASSES_APART = {"cuda"}


@dataclass(frozen=True, eq=False)
class Convolution:
    """An unpadded convolution.

    Attributes
    ----------
    weight : float (C', C, 1, kernel)
        A GPU's may have more input channels, of no weight.
    transposed : float (C, C', 1, kernel)
        The weight as the backward pass convolves with it: back to front, from outputs to inputs. The weight
        as it is, where the stride is over 1. It may have more of C, too.
    n_channels : int
        C.
    bias : float (C',), optional
    stride : int
    dtype : torch.dtype
        Of the outputs.
    forward_by : HalfWeights or HalvedWeights, optional
        What the forward pass multiplies with instead.
    backward_by : HalvedWeights, optional
        What the backward pass multiplies with instead.
    relu : Pointwise, optional
        The ReLU above, which is then part of the layer.
    """

    weight: Tensor
    transposed: Tensor
    n_channels: int
    bias: Tensor | None
    stride: int
    dtype: torch.dtype = torch.float32
    forward_by: HalfWeights | HalvedWeights | None = None
    backward_by: HalvedWeights | None = None
    relu: Pointwise | None = None

    @classmethod
    def of(cls, module: nn.Conv1d, passes: Passes) -> "Convolution":
        """Return a module's convolution."""
        weight = module.weight.detach().unsqueeze(2)
        n_channels, is_strided = weight.shape[1], module.stride[0] > 1
        transposed = weight if is_strided else weight.flip(3).transpose(0, 1).contiguous()
        forward_by = None
        if passes.products is not None and not is_strided:
            taps = weight[:, :, 0].transpose(1, 2).contiguous()
            forward_by = HalfWeights(taps, module.bias, passes.products)
        weight = _filled(weight, 1, passes.forward)
        transposed = _filled(transposed, 1 if is_strided else 0, passes.backward)
        # as inputs are in memory, or cuDNN would turn the weight round in each call
        weight, transposed = (
            each.contiguous(memory_format=torch.channels_last) for each in (weight, transposed)
        )
        bias = None if module.bias is None else module.bias.detach()
        weight, transposed = held(weight, passes.forward), held(transposed, passes.backward)
        bias = None if bias is None else held(bias, passes.forward)
        return cls(weight, transposed, n_channels, bias, module.stride[0], passes.forward, forward_by)

    def halved(self, *, is_backward_wanted: bool = True) -> "Convolution":
        """Return the convolution with halved weights, where that takes less time."""
        if self.stride > 1 or self.forward_by is not None or not HalvedWeights.is_faster(self.weight):
            return self
        backward_by = HalvedWeights(self.transposed) if is_backward_wanted else None
        return replace(self, forward_by=HalvedWeights(self.weight, self.bias), backward_by=backward_by)

    def is_faster_with_relu(self) -> bool:
        """Return whether to take ReLU in a product of matrices takes less time than after a convolution."""
        is_narrow = self.kernel * self.weight.shape[1] <= len(self.weight)  # its terms are copied
        is_plain = self.stride == 1 and self.forward_by is None
        return is_narrow and is_plain and self.weight.device.type in PASSES_APART

    def is_faster_without_bias(self) -> bool:
        """Return whether to add the bias to maxima takes less time than to add it to the outputs."""
        is_plain = self.forward_by is None and self.dtype == self.weight.dtype
        return is_plain and self.weight.device.type in PASSES_APART

    def with_relu(self, relu: Pointwise) -> "Convolution":
        """Return the convolution with the ReLU above it."""
        weight = self.weight
        bias = weight.new_zeros(len(weight)) if self.bias is None else self.bias
        if self.kernel * self.n_channels * weight.itemsize % BYTES_OF_POSITION["cuda"] == 0:
            weight = weight[:, : self.n_channels].contiguous(memory_format=torch.channels_last)
        return replace(self, weight=weight, bias=bias, relu=relu)

    @property
    def kernel(self) -> int:
        """Length of the kernel."""
        return self.weight.shape[3]

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output, and ReLU's factor if it is part of the layer: a convolution is linear."""
        if self.forward_by is not None:
            return self.forward_by.convolve(h), None
        h = h.to(self.weight.dtype)  # from a layer that left it in half precision
        if h.shape[2] < self.weight.shape[1]:
            h = functional.pad(h, (0, self.weight.shape[1] - h.shape[2]))
        if self.relu is not None:
            rows = h[0].unfold(0, self.kernel, 1).transpose(1, 2).flatten(1).contiguous()
            weight = self.weight.permute(0, 2, 3, 1).flatten(1)
            output = torch.ops.aten._addmm_activation(self.bias, rows, weight.t())[None].to(self.dtype)
            return output, self.relu.factor_of(output)
        image = functional.conv2d(as_image(h), self.weight, self.bias, (1, self.stride))
        return from_image(image).to(self.dtype), None

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Extent, below: Extent) -> Tensor:
        """Return the gradient at the inputs."""
        if self.relu is not None:
            gradient = self.relu.backward(gradient, factor, above, above)
        n, n_tracks = gradient.shape[:2]
        pairs = gradient.flatten(0, 1).to(self.transposed.dtype)
        if self.stride == 1:
            # More outputs than feed the inputs are multiplied, too: without them, the image would be a copy.
            reach = self.kernel - 1
            fed = max(above[0], below[0]), min(above[1] + reach, below[1])
            wanted = min(above[0], fed[0] - reach), max(above[1], fed[1])
            # as many zeros at both ends are padding; one end's own would make the image a copy
            n_zeros = min(above[0] - wanted[0], wanted[1] - above[1]) if self.backward_by is None else 0
            pairs = cut(pairs, above[0], (wanted[0] + n_zeros, wanted[1] - n_zeros))
            if self.backward_by is not None:
                spread = self.backward_by.convolve(pairs)
            else:
                image = functional.conv2d(as_image(pairs), self.transposed, padding=(0, n_zeros))
                spread = from_image(image)
            start = wanted[0] + self.kernel - 1
        else:
            image = functional.conv_transpose2d(as_image(pairs), self.transposed, stride=(1, self.stride))
            spread, start = from_image(image), above[0] * self.stride
        spread = cut(spread[..., : self.n_channels], start, below)
        return spread.view(n, n_tracks, *spread.shape[1:]).to(gradient.dtype)

    def factor_extent(self, above: Extent) -> Extent:
        """Return the range itself."""
        return above


def _filled(weight: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Return a weight, with channels of no weight after a dimension's own where its device wants that."""
    multiple = BYTES_OF_POSITION.get(weight.device.type, 1) // dtype.itemsize or 1
    n_more = -weight.shape[dim] % multiple
    more = [0] * (2 * (weight.dim() - 1 - dim)) + [0, n_more]
    return functional.pad(weight, more) if n_more else weight
