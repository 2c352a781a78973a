"""A stack of unpadded layers: forward once over a long stretch, backward for many windows of it.

A trunk maps float (1, 4, L) to (1, C, positions). As nothing is padded, its positions over a stretch hold
the positions of every window in it whose start is a multiple of the trunk's stride. The backward pass goes
down layer by layer by hand; see `tism_scan.engine.layers`.
"""

from dataclasses import replace
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tism_scan.engine.convolution import Convolution
from tism_scan.engine.halving import PERIOD
from tism_scan.engine.layers import Extent, Layer, Passes, Pointwise, Pooling, does_only_its_own
from tism_scan.engine.queue import to_device

_IDLE = (nn.Dropout, nn.Identity)
_POINTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Sigmoid, nn.Tanh)


def declared_parts(model: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Return the trunk and the head that a model says it is made of, or None if it does not."""
    trunk, head = getattr(model, "trunk", None), getattr(model, "head", None)
    return (trunk, head) if isinstance(trunk, nn.Module) and isinstance(head, nn.Module) else None


def gapless_layers(model: nn.Module, passes: Passes | None = None) -> list[Layer]:
    """Return the layers of a model's trunk; none if it is no stack, or a layer skips a part of its input."""
    parts = declared_parts(model)
    layers = (trunk_layers(parts[0], passes) or []) if parts else []
    return [] if any(layer.stride > layer.kernel for layer in layers) else layers


def are_alike(outputs: Tensor, others: Tensor) -> bool:
    """Return whether a model's outputs, (N, n), are those of its parts, to rounding.

    Rounding is that of the largest output: small ones beside it are told apart as far as it allows.
    """
    of_largest = 1e-10 if outputs.dtype == torch.float64 else 1e-5
    return outputs.shape == others.shape and torch.allclose(
        outputs, others, rtol=1e-4, atol=of_largest * float(outputs.abs().max())
    )


def trunk_layers(trunk: nn.Module, passes: Passes | None = None) -> list[Layer] | None:
    """Return the layers of a trunk, or None if it has one that cannot be shared between windows."""
    passes = passes or Passes()
    modules = _flat(trunk)
    if modules is None:
        return None
    layers: list[Layer] = []
    for module in modules:
        # the first layer has little to multiply, and its rounding reaches all others
        layer = _layer_of(module, passes if layers else replace(passes, products=None))
        if layer is None:
            return None
        if not layers and passes.products == "fp16" and isinstance(layer, Convolution):
            layer = replace(layer, dtype=torch.float16)  # as the next layer takes it: less to read and write
        layers.append(layer)
    return _pooled_first(layers)


def _layer_of(module: nn.Module, passes: Passes) -> Layer | None:
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


def _int(value: int | tuple[int, ...]) -> int:
    return value[0] if isinstance(value, tuple) else value


def joined(layers: list[Layer]) -> list[Layer]:
    """Return layers in which a ReLU is part of the layer below, where that saves time, as in max-poolings."""
    layers = list(layers)
    for i in reversed(range(len(layers) - 1)):
        below, relu = layers[i : i + 2]
        if not _is_relu(relu):
            continue
        if isinstance(below, Pooling) and below.is_max:
            pooling = replace(below, has_relu=True)
            layers[i : i + 2] = [pooling]
            before = layers[i - 1] if i else None
            if (
                isinstance(before, Convolution)
                and before.bias is not None
                and before.is_faster_without_bias()
            ):
                layers[i - 1 : i + 1] = [replace(before, bias=None), pooling.with_bias(before.bias)]
        elif isinstance(below, Convolution) and below.is_faster_with_relu():
            layers[i : i + 2] = [below.with_relu(relu)]
    return layers


def halved(layers: list[Layer], stride: int) -> list[Layer]:
    """Return layers with halved convolutions, where that takes less time and changes no bit of a window.

    A window's values are rounded in the same way wherever it begins in a stretch if it begins at a multiple
    of the halves' period there.

    Parameters
    ----------
    layers : list of Layer
    stride : int
        Distance between windows, bp.
    """
    layers = list(layers)
    for i, layer in enumerate(layers):
        if isinstance(layer, Convolution) and stride % PERIOD == 0:
            layers[i] = layer.halved()
        stride //= layer.stride
    return layers


def _is_relu(layer: Layer) -> TypeGuard[Pointwise]:
    return isinstance(layer, Pointwise) and isinstance(layer.function, nn.ReLU)


def _flat(stack: nn.Module) -> list[nn.Module] | None:
    """Return the modules of a stack that do something, in order, or None if it is more than they are."""
    if not isinstance(stack, nn.Sequential) or not does_only_its_own(stack, nn.Sequential):
        return None
    modules: list[nn.Module] = []
    for module in stack:
        inner = _flat(module) if isinstance(module, nn.Sequential) else [module]
        if inner is None:
            return None
        modules += [each for each in inner if not isinstance(each, _IDLE)]
    return modules


def _pooled_first(layers: list[Layer]) -> list[Layer]:
    """Return layers in which no ReLU is right below a max-pooling.

    ReLU never falls, so it may as well be taken of the maximum: the same function and gradient, at a fraction
    of the values.
    """
    layers = list(layers)
    for i in range(len(layers) - 1):
        relu, pooling = layers[i : i + 2]
        if _is_relu(relu) and isinstance(pooling, Pooling) and pooling.is_max:
            layers[i : i + 2] = pooling, relu
    return layers


def first_linear(head: nn.Module) -> tuple[nn.Linear | None, nn.Module]:
    """Return the linear layer on all positions that a head begins with, or None, and the rest of it."""
    modules = _flat(head) or []
    if len(modules) > 1 and isinstance(modules[0], nn.Flatten) and isinstance(modules[1], nn.Linear):
        is_whole = modules[0].start_dim == 1 and modules[0].end_dim in (-1, 2)
        if is_whole and does_only_its_own(modules[1], nn.Linear):
            return modules[1], nn.Sequential(*modules[2:])
    return None, head


def linear_on_relu(rest: nn.Module) -> nn.Linear | None:
    """Return the linear layer of what is ReLU and a linear layer alone, or None for anything else."""
    modules = _flat(rest) or []
    if [type(each) for each in modules] == [nn.ReLU, nn.Linear] and isinstance(modules[1], nn.Linear):
        return modules[1]
    return None


def total_stride(layers: list[Layer]) -> int:
    """Return the distance, in bp, between a trunk's positions."""
    stride = 1
    for layer in layers:
        stride *= layer.stride
    return stride


def n_positions(layers: list[Layer], n: int) -> list[int]:
    """Return the number of positions of the input and of each layer's output."""
    counts = [n]
    for layer in layers:
        counts.append((counts[-1] - layer.kernel) // layer.stride + 1)
    return counts


def cone(layers: list[Layer], n: int, start: int, end: int) -> list[Extent]:
    """Return the range of positions, of the input and of each layer's output, fed by a range of the input.

    Ranges below a pooling are whole ones of its windows, so that its gradients are not cut out of more. What
    feeds nothing, as the last positions below a pooling may, is in none but the input's.

    Parameters
    ----------
    layers : list of Layer
    n : int
        Length of a window.
    start, end : int
        The range of the input.
    """
    extents = [(start, end)]
    for layer, count in zip(layers, n_positions(layers, n)[1:], strict=True):
        first, last = extents[-1][0], extents[-1][1] - 1
        lowest = max(0, -(-(first - layer.kernel + 1) // layer.stride))
        above = lowest, max(lowest, min(count, last // layer.stride + 1))
        if isinstance(layer, Pooling) and len(extents) > 1:
            extents[-1] = layer.factor_extent(above)
        extents.append(above)
    for i in reversed(range(1, len(layers))):
        layer, (start, end), (first, last) = layers[i], extents[i], extents[i + 1]
        if first < last:
            extents[i] = max(start, first * layer.stride), min(end, (last - 1) * layer.stride + layer.kernel)
    return extents


def forward(
    layers: list[Layer], X: Tensor, passes: Passes | None = None
) -> tuple[Tensor, list[Tensor | None]]:
    """Return a trunk's output over a stretch, and each layer's factor.

    Parameters
    ----------
    layers : list of Layer
    X : float (1, 4, L)
    passes : Passes, optional
        Those that the layers were made for.

    Returns
    -------
    features : float (1, positions, C)
    factors : list of float or bool (positions, channels), or None
        As `backward` takes them.
    """
    passes = passes or Passes()
    h, factors = X.to(passes.forward).transpose(1, 2).contiguous(), []
    for layer in layers:
        h, factor = layer.forward(h)
        factors.append(None if factor is None else _multiplied(factor, passes.backward))
    return h, factors


def _multiplied(factor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a layer's factor as its device multiplies gradients by it."""
    if factor.dtype != torch.bool:
        return factor.to(dtype)
    # a GPU multiplies by bool itself, and reads less; a CPU converts it each time, and bytes faster than bool
    return factor if factor.is_cuda else factor.view(torch.uint8).to(dtype)


def backward(
    layers: list[Layer],
    factors: list[Tensor | None],
    gradient: Tensor,
    extents: list[Extent],
    windows: NDArray[np.int64],
    stride: int,
) -> Tensor:
    """Return the gradient at the bottom of a trunk from that at its top, for some windows.

    Parameters
    ----------
    layers, factors
        From `trunk_layers` and `forward`.
    gradient : float (N, T, len, C)
        At the top's range in `extents`, of each window and track.
    extents : list of Extent
        From `cone`.
    windows : int64 (N,)
        Which windows of the stretch, in order.
    stride : int
        Distance between windows, bp.

    Returns
    -------
    float (N, T, 4, len)
        At the input's range in `extents`.
    """
    first, last = int(windows[0]), int(windows[-1])
    has_gaps = last - first >= len(windows)
    steps = [stride]
    for layer in layers:
        steps.append(steps[-1] // layer.stride)
    for i in reversed(range(len(layers))):
        layer, factor = layers[i], factors[i]
        if factor is not None:
            # A pooling's factor is at its inputs, whose step is the layer's below.
            step = steps[i]
            start, end = layer.factor_extent(extents[i + 1])
            part = factor[start + first * step : end + last * step].unfold(0, end - start, step)
            part = part[to_device(windows - first, part.device)] if has_gaps else part
            factor = part.transpose(1, 2).unsqueeze(1)
        gradient = layer.backward(gradient, factor, extents[i + 1], extents[i])
    return gradient.transpose(2, 3)


def put_strips(values: Tensor, strips: Tensor, starts: Tensor) -> None:
    """Write strips (n, w, C) into values (n, P, C), each at a start of its own."""
    index = starts[:, None] + torch.arange(strips.shape[1], device=starts.device)
    values[torch.arange(len(values), device=starts.device)[:, None], index] = strips
