"""The layers of a trunk: what each does forward over a long stretch, and backward for windows of it.

Nothing is padded. A layer keeps of its forward pass only a factor that does not depend on window or track:
the derivative of a pointwise function, or the places of pooling's maxima. No graph is kept.

Everything in here is (..., positions, channels) in memory, "channels last": so a window is a slice
without a copy, and convolutions are fastest both on CPUs and on GPUs.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tism_scan.engine.half import HalfWeights, Rounding, dtype_of_products
from tism_scan.engine.halving import HalvedWeights

# Half-open range of a layer's positions within one window.
Extent = tuple[int, int]

# Tensor cores take positions that begin at multiples of so many bytes; those of 4 bases in bfloat16 do not.
BYTES_OF_POSITION = {"cuda": 16}

# Where bias and ReLU are passes of their own over a convolution's outputs; a product of matrices saves both.
PASSES_APART = {"cuda"}

_POINTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.Tanh)


@dataclass(frozen=True)
class Passes:
    """What the forward and the backward pass are computed in.

    Attributes
    ----------
    forward, backward : torch.dtype
    products : {"fp16", "split"}, optional
        How the forward pass multiplies above its first layer, if not in its dtype.
    """

    forward: torch.dtype = torch.float32
    backward: torch.dtype = torch.float32
    products: Rounding | None = None


class Layer(Protocol):
    """One layer of a trunk: output position i sees input positions ``[i * stride, i * stride + kernel)``."""

    @property
    def kernel(self) -> int:
        """Inputs that an output sees."""
        ...

    @property
    def stride(self) -> int:
        """Distance between outputs, in inputs."""
        ...

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output, (1, P', C'), of (1, P, C), and the factor that `backward` needs.

        The factor is (positions, C), or None: a derivative, a bool that says where gradients pass, or numbers
        that are over 0 there. The input may be overwritten.
        """
        ...

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Extent, below: Extent) -> Tensor:
        """Return the gradient at a range of inputs from that at the outputs which these feed.

        Parameters
        ----------
        gradient : float (N, T, above, C')
            Of N windows and T tracks.
        factor : float or bool (N, 1, len, C), optional
            Each window's part of the layer's factor.
        above, below : Extent
            Ranges of the outputs given and the inputs asked for.

        Returns
        -------
        float (N, T, below, C)
            Need not be contiguous in memory.
        """
        ...

    def factor_extent(self, above: Extent) -> Extent:
        """Return the range of the factor that goes with a range of outputs."""
        ...


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
    relu: "Pointwise | None" = None

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

    def with_relu(self, relu: "Pointwise") -> "Convolution":
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
        image = functional.conv2d(_as_image(h), self.weight, self.bias, (1, self.stride))
        return _from_image(image).to(self.dtype), None

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
            pairs = _cut(pairs, above[0], (wanted[0] + n_zeros, wanted[1] - n_zeros))
            if self.backward_by is not None:
                spread = self.backward_by.convolve(pairs)
            else:
                image = functional.conv2d(_as_image(pairs), self.transposed, padding=(0, n_zeros))
                spread = _from_image(image)
            start = wanted[0] + self.kernel - 1
        else:
            image = functional.conv_transpose2d(_as_image(pairs), self.transposed, stride=(1, self.stride))
            spread, start = _from_image(image), above[0] * self.stride
        spread = _cut(spread[..., : self.n_channels], start, below)
        return spread.view(n, n_tracks, *spread.shape[1:]).to(gradient.dtype)

    def factor_extent(self, above: Extent) -> Extent:
        """Return the range itself."""
        return above


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A function of each value by itself.

    Attributes
    ----------
    function : torch.nn.Module
    dtype : torch.dtype
        Of the gradients.
    """

    function: nn.Module
    dtype: torch.dtype = torch.float32
    kernel: int = 1
    stride: int = 1

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output and the derivative at the input."""
        if isinstance(self.function, nn.ReLU):
            output = functional.relu_(h)
            return output, self.factor_of(output)
        with torch.enable_grad():
            h = h.detach().requires_grad_()
            output = self.function(h.clone())  # which may work in place
            (derivative,) = torch.autograd.grad(output.sum(), h)
        return output.detach(), derivative[0]

    def factor_of(self, output: Tensor) -> Tensor:
        """Return ReLU's factor: its output where the dtype serves."""
        return output[0] if output.dtype == self.dtype else output[0] > 0

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Extent, below: Extent) -> Tensor:
        """Return the gradient times the derivative."""
        if factor is None:
            return _cut(gradient, above[0], below)
        if isinstance(self.function, nn.ReLU) and factor.dtype != torch.bool:
            passed = torch.ops.aten.threshold_backward(gradient, factor, 0)  # where the factor is over 0
        else:
            passed = gradient * factor
        return _cut(passed, above[0], below)

    def factor_extent(self, above: Extent) -> Extent:
        """Return the range itself."""
        return above


@dataclass(frozen=True, eq=False)
class Pooling:
    """Max- or average-pooling whose stride is its kernel.

    Attributes
    ----------
    kernel : int
    is_max : bool
    has_relu : bool
        Whether the layer is ReLU of the maxima.
    lowest : float (C,), optional
        What ReLU of inputs whose bias was left out passes on, and no less: above minus the bias.
    """

    kernel: int
    is_max: bool
    has_relu: bool = False
    lowest: Tensor | None = None

    def with_bias(self, bias: Tensor) -> "Pooling":
        """Return ReLU of the maxima of inputs to which the layer itself adds a bias, (C,), in their dtype."""
        # the next number above minus the bias: what is no more than that is off, and ReLU of it exactly 0
        above, smallest = (
            torch.nextafter(-bias, torch.full_like(bias, torch.inf)),
            torch.finfo(bias.dtype).tiny,
        )
        return replace(self, lowest=torch.where(bias.abs() < smallest, smallest, above))

    @property
    def stride(self) -> int:
        """Distance between outputs, in inputs."""
        return self.kernel

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output, and which inputs it passes on, bool; an average needs no factor."""
        if not self.is_max:
            return _from_image(functional.avg_pool2d(_as_image(h), (1, self.kernel))), None
        n = h.shape[1] // self.kernel
        inputs = h[:, : n * self.kernel].reshape(h.shape[0], n, self.kernel, -1)
        output = inputs.amax(dim=2)
        # Where ReLU passes nothing on, all inputs are below what they are compared with.
        if self.lowest is not None:
            highest = output.clamp_(min=self.lowest)
        else:
            highest = functional.threshold(output, 0, torch.inf) if self.has_relu else output
        is_on = inputs == highest.unsqueeze(2)
        # Of equal maxima the first counts, as in PyTorch's own pooling.
        is_taken = None
        for before, place in itertools.pairwise(is_on.unbind(2)):
            is_taken = before if is_taken is None else is_taken | before
            place.gt_(is_taken)
        if self.lowest is not None:
            output = highest.sub_(self.lowest)
        elif self.has_relu:
            output = functional.relu_(output)
        return output, is_on.flatten(1, 2)[0]

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Extent, below: Extent) -> Tensor:
        """Return each output's gradient at its maximum, or shared among its inputs."""
        if factor is None:
            shares = gradient.new_full((self.kernel, 1), 1 / self.kernel)
        else:
            shares = factor.view(*factor.shape[:2], -1, self.kernel, factor.shape[-1])
        spread = (gradient.unsqueeze(-2) * shares).flatten(-3, -2)
        return _cut(spread, above[0] * self.kernel, below)

    def factor_extent(self, above: Extent) -> Extent:
        """Return the inputs of a range of outputs."""
        return above[0] * self.kernel, above[1] * self.kernel


def _filled(weight: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Return a weight, with channels of no weight after a dimension's own where its device wants that."""
    multiple = BYTES_OF_POSITION.get(weight.device.type, 1) // dtype.itemsize or 1
    n_more = -weight.shape[dim] % multiple
    more = [0] * (2 * (weight.dim() - 1 - dim)) + [0, n_more]
    return functional.pad(weight, more) if n_more else weight


def held(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers rounded to a dtype, as their device multiplies them."""
    return numbers.to(dtype).to(dtype_of_products(dtype, numbers.device))


def does_only_its_own(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module computes what PyTorch's own of its kind does: no subclass's, and no hook's."""
    has_hooks = bool(module._forward_hooks or module._forward_pre_hooks)
    return type(module).forward is kind.forward and not has_hooks


def layer_of(module: nn.Module, passes: Passes) -> Layer | None:
    """Return a module as a layer, or None if windows cannot share it."""
    kinds = (nn.Conv1d, *_POINTWISE, nn.MaxPool1d, nn.AvgPool1d)
    kind = next((each for each in kinds if isinstance(module, each)), None)
    if kind is None or not does_only_its_own(module, kind):
        return None
    if isinstance(module, nn.Conv1d):
        is_plain = module.padding in (0, (0,), "valid") and module.dilation == (1,) and module.groups == 1
        return Convolution.of(module, passes) if is_plain else None
    if isinstance(module, _POINTWISE):
        return Pointwise(module, passes.backward)
    if isinstance(module, nn.MaxPool1d | nn.AvgPool1d):
        kernel, stride = _int(module.kernel_size), _int(module.stride)
        is_plain = kernel == stride and _int(module.padding) == 0 and not module.ceil_mode
        is_max = isinstance(module, nn.MaxPool1d)
        if is_max and module.dilation not in (1, (1,)):
            return None
        return Pooling(kernel, is_max) if is_plain else None
    return None


def _as_image(h: Tensor) -> Tensor:
    """Return (N, P, C) as the image (N, C, 1, P) that torch calls channels last, without a copy."""
    return h.unsqueeze(1).permute(0, 3, 1, 2)


def _from_image(image: Tensor) -> Tensor:
    """Return an image (N, C, 1, P) as (N, P, C)."""
    return image.permute(0, 2, 3, 1).squeeze(1).contiguous()


def _cut(spread: Tensor, start: int, wanted: Extent) -> Tensor:
    """Return a range of positions of (..., P, C) that begin at `start`; zeros where they do not reach."""
    end = start + spread.shape[-2]
    missing = max(start - wanted[0], 0), max(wanted[1] - end, 0)
    spread = spread[..., max(wanted[0] - start, 0) : wanted[1] - start, :]
    return functional.pad(spread, (0, 0, *missing)) if any(missing) else spread


def _int(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value
