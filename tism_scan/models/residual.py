"""A dilated convolution with ReLU, added to its cropped input: BPNet's layer, of which little has to be kept.

Autograd goes through memory a dozen times between two convolutions: it keeps ReLU's output, copies the
cropped input, and fills a tensor with zeros to put the gradient of the crop in. Here, a layer keeps one byte
a value, and writes into what it has made itself. The values and gradients are the same.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def added_to_its_input(image: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Return the cropped input plus ReLU of its convolution; no gradient of the weights is taken.

    Parameters
    ----------
    image : float (N, C, 1, P)
    weight : float (C, C, 1, 3)
    bias : float (C,) or None
    dilation : int

    Returns
    -------
    float (N, C, 1, P - 2 * dilation)
    """
    sums: Tensor = _Layer.apply(image, weight, bias, dilation)[0]  # type: ignore[no-untyped-call]
    return sums


class _Layer(torch.autograd.Function):
    generate_vmap_rule = True  # several tracks' gradients may be taken at once

    @staticmethod
    def forward(image: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> tuple[Tensor, Tensor]:
        sums = functional.conv2d(image, weight, bias, dilation=(1, dilation))
        is_on = (sums > 0).view(torch.int8)  # of which the backward pass multiplies faster than of bool
        sums.clamp_(min=0).add_(image[..., dilation : image.shape[3] - dilation])
        return sums, is_on

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        _, weight, _, ctx.dilation = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1], weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        gradient, dilation = gradients[0], ctx.dilation
        if gradient is None:
            return None, None, None, None
        is_on, weight = ctx.saved_tensors
        below = functional.conv_transpose2d(
            gradient * is_on, weight.to(gradient.dtype), dilation=(1, dilation)
        )
        below[..., dilation : below.shape[3] - dilation] += gradient
        return below, None, None, None
