"""The queue of a device: what it is given, it does in that order, while the host goes on.

To give a GPU the work of a block takes a millisecond or two, and as long to copy, check and take away the
result. It idles then, unless the next block is in its queue already. So a block is queued first, and its
scores are taken later, by another thread. A CPU does at once what it is given.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Finish = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Mark:
    """A place in a device's queue, behind all that this thread has given it so far."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            # Who waits for a blocking event sleeps; for another, it keeps a core busy.
            self._event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))
        self._time = time.perf_counter()

    def wait(self) -> None:
        """Return once the device has come here."""
        if self._event is not None:
            self._event.synchronize()

    def seconds_since(self, earlier: "Mark") -> float:
        """Return the time, s, that the device took from an earlier mark to this one, which it has reached."""
        if self._event is not None and earlier._event is not None:
            return float(earlier._event.elapsed_time(self._event)) / 1000
        return self._time - earlier._time


@dataclass(frozen=True)
class Queued:
    """Scores that a device computes, or has computed.

    Attributes
    ----------
    on_host : float32 Tensor
        Holds the device's values once it has come to `end`.
    spans : tuple of (Mark, Mark)
        From where to where in its queue the device works for them, one after the other.
    finish : callable
        Makes the scores of the values, on the host.
    """

    on_host: Tensor
    spans: tuple[tuple[Mark, Mark], ...]
    finish: Finish

    @property
    def end(self) -> Mark:
        """Where in its queue the device has computed them."""
        return self.spans[-1][1]

    def scores(self) -> NDArray[np.float32]:
        """Return the scores, once the device has computed them."""
        self.end.wait()
        return self.finish(self.on_host.numpy())

    def seconds(self) -> float:
        """Return the time, s, that the device took, without what was in its queue before or in between."""
        self.end.wait()
        return sum(end.seconds_since(began) for began, end in self.spans)


def to_device(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return an array on a device, which copies it when it comes to it.

    From ordinary memory, a GPU copies only once it has done all that it was given before, and the host waits.
    """
    tensor = torch.from_numpy(np.require(values, requirements="W"))  # as torch wants it
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Tensor:
    """Return a copy on the host, which holds the values once the device has come to a mark behind it."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
