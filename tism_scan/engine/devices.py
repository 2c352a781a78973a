"""The devices that compute: which is there, what it is called, its precision, and when it is done."""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tism_scan.errors import InputError
from tism_scan.models.frozen import BATCH_SIZE
from tism_scan.plan.scoring import Precision

BATCH_ON_GPU = 256


def default_device() -> str:
    """Return ``"cuda"`` where a GPU can be used, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_name(device: str) -> str:
    """Return what a device is called by its maker, for the record of a run."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def default_batch_size(device: str | None = None) -> int:
    """Return how many model inputs go through a device in one pass, where nobody asked for another number."""
    return BATCH_ON_GPU if (device or default_device()).startswith("cuda") else BATCH_SIZE


def default_precision(device: str | None = None) -> Precision:
    """Return the fastest precision of a device whose scores agree with float32, whatever the weights are.

    A rounded forward pass flips units whose input is near 0, and maxima that are nearly shared, and the
    gradient jumps with them; the backward pass forgives rounding. So the forward pass stays in float32, but
    for scans: `tism_scan.scan.precision` measures what their own weights forgive.
    """
    return "mixed" if (device or default_device()).startswith("cuda") else "fp32"


def free_cached_memory() -> None:
    """Give back the memory of GPUs that PyTorch keeps for later; there may be none."""
    torch.cuda.empty_cache()


def now(device: torch.device) -> float:
    """Return the time, s, once a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the time, s, that a call takes on a device."""
    began = now(device)
    work()
    return now(device) - began


def name_of_device(device: object) -> str:
    """Return what computes the scores, for the record: kinds of device round differently."""
    if str(device).startswith("cuda"):
        return device_name(str(device))
    return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})"


def _processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def why_not_usable(device: str | None) -> str | None:
    """Return why a device cannot compute in this process, or None if it can."""
    try:
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def check_device(device: str | None) -> None:
    """Raise unless a device can be used here.

    Raises
    ------
    InputError
    """
    if device is None:
        return
    if why_not_usable(device) is not None:
        seen = "a CUDA device" if torch.cuda.is_available() else "no CUDA device"
        raise InputError(
            f"device {device!r} cannot be used, PyTorch sees {seen} here; expected cpu, cuda or cuda:0; "
            "leave --device out to use what is there"
        )
