"""What an engine may take of the machine. None of it changes the scores."""

import os
from typing import TypedDict

import torch

SHARE_OF_MEMORY = 0.5


class Limits(TypedDict, total=False):
    """What the makers of engines, and the engines, are told of the machine; each may be left out, or None.

    Attributes
    ----------
    batch_size : int, optional
        Windows that are computed together. It changes memory and time, not the scores. By default as many as
        are quick on the device, and fit the memory.
    device : str, optional
        Where to compute; a GPU if there is one.
    memory_gb : float, optional
        Memory for what is computed at once, beside the model and the block's scores, in GB of 10^9 bytes. By
        default half of what a GPU has free, or of a CPU's share of the machine's. Memory beyond what the
        engine can use is not allocated.
    share : float
        The part of the device that is ours, where others compute on it too: the default takes no more.
    """

    batch_size: int | None
    device: str | None
    memory_gb: float | None
    share: float


def budget_of(device: torch.device, limits: Limits) -> float:
    """Return the bytes that an engine may use: those asked for, in GB, or its part of the default."""
    memory_gb = limits.get("memory_gb")
    return limits.get("share", 1.0) * memory_of(device) if memory_gb is None else memory_gb * 1e9


def memory_of(device: torch.device) -> float:
    """Return the bytes that a slab may take by default."""
    if device.type == "cuda":
        return SHARE_OF_MEMORY * torch.cuda.mem_get_info(device)[0]
    n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return SHARE_OF_MEMORY * n_bytes * min(1.0, torch.get_num_threads() / (os.cpu_count() or 1))
