"""What sharing a trunk costs: memory, and arithmetic.

A multiply-add is two floating-point operations (FLOP). Only products are counted: all else is a few
operations for each value.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tism_scan.engine.convolution import Convolution
from tism_scan.engine.halving import HalvedWeights
from tism_scan.engine.layers import Extent, Layer, Passes
from tism_scan.models.failures import is_out_of_memory

_MOST_ELEMENTS = 2**31 - 1
# What a convolution with halved weights holds more than a plain one, in outputs of its own.
_COPIES_OF_HALVES = 4


def forward_flop_per_bp(layers: list[Layer]) -> float:
    """Return the arithmetic of a forward pass for each bp of a long stretch."""
    flop, stride = 0.0, 1
    for layer in layers:
        stride *= layer.stride
        flop += _flop_per_output(layer) / stride
    return flop


def backward_flop(layers: list[Layer], extents: list[Extent]) -> float:
    """Return the arithmetic of a backward pass through a cone, for one pair of window and track."""
    flop = 0.0
    for layer, (start, end) in zip(layers, extents, strict=False):
        # Each input that is asked for takes part in kernel / stride outputs.
        flop += _flop_per_output(layer) / layer.stride * (end - start)
    return flop


def bytes_per_bp(layers: list[Layer], passes: Passes) -> float:
    """Return about how much memory a forward pass holds at once, for each bp of a stretch."""
    stride, held, most = 1, 4.0 * passes.forward.itemsize, 0.0
    for layer, channels in _with_channels(layers):
        has_factor = not isinstance(layer, Convolution) or layer.relu is not None
        size_of_factor = channels / stride * passes.backward.itemsize if has_factor else 0
        stride *= layer.stride
        most = max(most, channels / stride)
        held += size_of_factor + channels / stride * passes.forward.itemsize
    if passes.products == "split":  # three bfloat16 numbers for one, and sums that are put in order
        held += most * (3 * torch.bfloat16.itemsize + torch.float32.itemsize)
    if _has_halves(layers):
        held += most * _COPIES_OF_HALVES * torch.float32.itemsize
    return held


def most_windows(layers: list[Layer], input_bp: int, window_stride: int, passes: Passes | None = None) -> int:
    """Return the windows of the longest stretch whose tensors 32-bit indexing takes, as kernels do."""
    stride, widest = 1, 4.0
    for layer, channels in _with_channels(layers):
        stride *= layer.stride
        widest = max(widest, channels / stride)
    if passes is not None and passes.products == "split":
        widest *= 3
    return max(1, int((_MOST_ELEMENTS / widest - input_bp) // window_stride) + 1)


def bytes_per_pair(layers: list[Layer], extents: list[Extent], passes: Passes) -> int:
    """Return about how much memory a backward pass holds at once, for each pair of window and track."""
    sizes = [
        channels * (end - start)
        for (_, channels), (start, end) in zip(_with_channels(layers), extents[1:], strict=True)
    ]
    # A layer's gradient, the one below, and what a convolution makes of them on the way.
    n_copies = 3 + _COPIES_OF_HALVES if _has_halves(layers) else 3
    return n_copies * max(sizes) * passes.backward.itemsize


def _has_halves(layers: list[Layer]) -> bool:
    return any(
        isinstance(layer, Convolution) and isinstance(layer.forward_by, HalvedWeights) for layer in layers
    )


def _flop_per_output(layer: Layer) -> float:
    """Return the arithmetic of one position of a layer's output, all channels."""
    if not isinstance(layer, Convolution):
        return 0
    share = layer.forward_by.share if isinstance(layer.forward_by, HalvedWeights) else 1
    return 2 * layer.weight[:, : layer.n_channels].numel() * share


def _with_channels(layers: list[Layer]) -> Iterator[tuple[Layer, int]]:
    """Yield layers, and how many channels each gives."""
    channels = 4
    for layer in layers:
        if isinstance(layer, Convolution):
            channels = layer.weight.shape[0]
        yield layer, channels


def module_flop(module: nn.Module, inputs: Tensor) -> tuple[float, float]:
    """Return the arithmetic, FLOP, of a module's forward pass, and of one output's backward pass.

    Only products are counted; a multiply-add counts as two.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        module(inputs)
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():
        outputs = module(inputs.clone())
        with FlopCounterMode(display=False) as backward:
            torch.autograd.grad(outputs[0].flatten()[0], inputs)
    return float(forward.get_total_flops()), float(backward.get_total_flops())


def saved_bytes(module: nn.Module, inputs: Tensor) -> float:
    """Return how much memory a module keeps for its backward pass, its parameters not counted.

    It is infinite where the device does not hold that much; scoring then says so.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    inputs = inputs.detach().requires_grad_()
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    try:
        with torch.enable_grad(), hooks:
            # the input's copy, since a module may work in place
            _outputs = module(
                inputs.clone()
            )  # held, and with it all that is kept, so that no memory counts twice
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return math.inf
    return sum(kept.values())
