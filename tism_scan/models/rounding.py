"""How a GPU rounds float32 products: in full, or to TF32, whose errors are as large as many effects.

The switches are the process's own. By default, PyTorch rounds convolutions to TF32 and matrix products not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def rounding(device: torch.device, *, to_tf32: bool, only_convolutions: bool = False) -> Iterator[None]:
    """Let a GPU's float32 products be rounded to TF32, or keep them from it; then put the switches back.

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
    owners = [convolutions] if only_convolutions else [matmul, convolutions]
    before = [getattr(owner, name) for owner in owners]
    try:
        for owner in owners:
            setattr(owner, name, wanted)
        yield
    finally:
        for owner, former in zip(owners, before, strict=True):
            setattr(owner, name, former)
