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

from tism_scan.engine.half import Rounding, dtype_of_products

# Half-open range of a layer's positions within one window.
Extent = tuple[int, int]


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
            return cut(gradient, above[0], below)
        if isinstance(self.function, nn.ReLU) and factor.dtype != torch.bool:
            passed = torch.ops.aten.threshold_backward(gradient, factor, 0)  # where the factor is over 0
        else:
            passed = gradient * factor
        return cut(passed, above[0], below)

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
    bias : float (C,), optional
        What the layer itself adds, to the maxima.
    lowest : float (C,), optional
        What ReLU of inputs whose bias was left out passes on, and no less: above minus the bias.
    """

    kernel: int
    is_max: bool
    has_relu: bool = False
    bias: Tensor | None = None
    lowest: Tensor | None = None

    def with_bias(self, bias: Tensor) -> "Pooling":
        """Return ReLU of the maxima of inputs to which the layer itself adds a bias, (C,), in their dtype."""
        # the next number above minus the bias: what is no more than that is off, and ReLU of it exactly 0
        above = torch.nextafter(-bias, torch.full_like(bias, torch.inf))
        smallest = torch.finfo(bias.dtype).tiny
        return replace(self, bias=bias, lowest=torch.where(bias.abs() < smallest, smallest, above))

    @property
    def stride(self) -> int:
        """Distance between outputs, in inputs."""
        return self.kernel

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output, and which inputs it passes on, bool; an average needs no factor."""
        if not self.is_max:
            return from_image(functional.avg_pool2d(as_image(h), (1, self.kernel))), None
        n = h.shape[1] // self.kernel
        inputs = h[:, : n * self.kernel].reshape(h.shape[0], n, self.kernel, -1)
        output = inputs.amax(dim=2)
        # Where ReLU passes nothing on, all inputs are below what they are compared with.
        if self.lowest is not None:
            highest = output.clamp(min=self.lowest)
        else:
            highest = functional.threshold(output, 0, torch.inf) if self.has_relu else output
        is_on = inputs == highest.unsqueeze(2)
        # Of equal maxima the first counts, as in PyTorch's own pooling.
        is_taken = None
        for before, place in itertools.pairwise(is_on.unbind(2)):
            is_taken = before if is_taken is None else is_taken | before
            place.gt_(is_taken)
        if self.bias is not None:
            output = output.add_(self.bias)
        if self.has_relu:
            output = functional.relu_(output)
        return output, is_on.flatten(1, 2)[0]

    def backward(self, gradient: Tensor, factor: Tensor | None, above: Extent, below: Extent) -> Tensor:
        """Return each output's gradient at its maximum, or shared among its inputs."""
        if factor is None:
            shares = gradient.new_full((self.kernel, 1), 1 / self.kernel)
        else:
            shares = factor.view(*factor.shape[:2], -1, self.kernel, factor.shape[-1])
        spread = (gradient.unsqueeze(-2) * shares).flatten(-3, -2)
        return cut(spread, above[0] * self.kernel, below)

    def factor_extent(self, above: Extent) -> Extent:
        """Return the inputs of a range of outputs."""
        return above[0] * self.kernel, above[1] * self.kernel


def held(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers rounded to a dtype, as their device multiplies them."""
    return numbers.to(dtype).to(dtype_of_products(dtype, numbers.device))


def does_only_its_own(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module computes what PyTorch's own of its kind does: no subclass's, and no hook's."""
    has_hooks = bool(module._forward_hooks or module._forward_pre_hooks)
    return type(module).forward is kind.forward and not has_hooks


def as_image(h: Tensor) -> Tensor:
    """Return (N, P, C) as the image (N, C, 1, P) that torch calls channels last, without a copy."""
    return h.unsqueeze(1).permute(0, 3, 1, 2)


def from_image(image: Tensor) -> Tensor:
    """Return an image (N, C, 1, P) as (N, P, C)."""
    return image.permute(0, 2, 3, 1).squeeze(1).contiguous()


def cut(spread: Tensor, start: int, wanted: Extent) -> Tensor:
    """Return a range of positions of (..., P, C) that begin at `start`; zeros where they do not reach."""
    end = start + spread.shape[-2]
    missing = max(start - wanted[0], 0), max(wanted[1] - end, 0)
    spread = spread[..., max(wanted[0] - start, 0) : wanted[1] - start, :]
    return functional.pad(spread, (0, 0, *missing)) if any(missing) else spread
