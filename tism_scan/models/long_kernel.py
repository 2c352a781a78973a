"""A convolution with a long kernel and few channels out, such as that of BPNet's profile.

On CPUs, PyTorch's convolutions are slow where there are few channels to fill a vector with. One matrix
product has what each place gives through each tap of the kernel, and a place's value is the sum of what it
and the places that follow it give, each through the next tap.
"""

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.nn import functional


def convolved_with_long_kernel(image: Tensor, weight: Tensor) -> Tensor:
    """Return the unpadded convolution of an image; no gradient of the weights is taken.

    Parameters
    ----------
    image : float (N, C, 1, P)
    weight : float (C', C, 1, K)

    Returns
    -------
    float (N, C', 1, P - K + 1)
    """
    convolved: Tensor = _LongKernel.apply(image, weight)  # type: ignore[no-untyped-call]
    return convolved


class _LongKernel(Function):
    generate_vmap_rule = True  # several tracks' gradients may be taken at once

    @staticmethod
    def forward(image: Tensor, weight: Tensor) -> Tensor:
        n, _, _, n_places = image.shape
        n_out, n_in, _, n_taps = weight.shape
        n_left, n_more = n_places - n_taps + 1, n_taps - 1
        taps = weight.squeeze(2).transpose(1, 2).reshape(n_out * n_taps, n_in)
        products = (taps @ image.squeeze(2)).view(n, n_out, n_taps * n_places)
        # In rows one longer than there are places, each tap begins one place later than the tap before.
        slanted = products[..., : n_more * (n_places + 1)].view(n, n_out, n_more, n_places + 1)
        sums: Tensor = slanted[..., :n_left].sum(2) + products[..., -n_left:]
        return sums.unsqueeze(2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        n_out, n_in, _, n_taps = weight.shape
        gradient = functional.pad(gradients[0].squeeze(2), (n_taps - 1, n_taps - 1))
        through = gradient.unfold(2, n_taps, 1).transpose(1, 2)  # (N, P, C', K), the last tap first
        taps = weight.squeeze(2).flip(2).transpose(1, 2).reshape(n_out * n_taps, n_in)
        below = through.reshape(*through.shape[:2], n_out * n_taps) @ taps.to(gradient.dtype)
        return below.transpose(1, 2).unsqueeze(2), None
