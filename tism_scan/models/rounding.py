"""How a GPU rounds products: float32 in full or to TF32, whose errors are as large as many effects.

The switches are the process's own. By default, PyTorch rounds convolutions to TF32 and matrix products not,
and lets sums of half-precision matrix products be rounded on the way: too much for those of 67,840 terms.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_REDUCTIONS = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")


@contextmanager
def rounding(device: torch.device, *, to_tf32: bool, only_convolutions: bool = False) -> Iterator[None]:
    """Let a GPU's float32 products be rounded to TF32, or keep them from it; then put the switches back.

    Sums of half-precision matrix products stay in float32.

    Parameters
    ----------
    device : torch.device
        On a CPU nothing is switched.
    to_tf32 : bool
    only_convolutions : bool
        Whether to leave matrix products as the user has set them.
    """
    if device.type != "cuda":
        yield
        return
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    wanted: str | bool
    # PyTorch 2.9 split the switch by operation, and refuses to read the old ones once they differ
    if hasattr(cudnn, "conv"):
        convolutions, name, wanted = cudnn.conv, "fp32_precision", "tf32" if to_tf32 else "ieee"
    else:
        convolutions, name, wanted = cudnn, "allow_tf32", to_tf32
    switches = [(convolutions, name, wanted)]
    if not only_convolutions:
        switches += [(matmul, name, wanted), *((matmul, each, False) for each in _REDUCTIONS)]
    before = [(owner, each, _state(owner, each)) for owner, each, _ in switches]
    try:
        for owner, each, value in switches:
            setattr(owner, each, value)
        yield
    finally:
        for owner, each, former in before:
            setattr(owner, each, former)


def _state(owner: Any, name: str) -> Any:
    """Return a switch's state, as it can be set again: newer PyTorch has two in one."""
    part = f"{name}_split_k"
    return (getattr(owner, name), getattr(owner, part)) if hasattr(owner, part) else getattr(owner, name)
