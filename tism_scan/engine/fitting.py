"""Batches that shrink where the device's memory does not hold what is computed of them."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from tism_scan.engine.devices import device_name
from tism_scan.errors import ScanError
from tism_scan.models.failures import is_out_of_memory

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class _Full:
    """The device's memory was too small.

    Attributes
    ----------
    reason : str
        The error's words.
    """

    reason: str


class FittingBatches(ABC):
    """What computes in batches, in smaller ones once the device's memory is full.

    Attributes
    ----------
    device : torch.device
    batch_size : int
    """

    device: torch.device
    batch_size: int

    def _fitted(self, compute: Callable[[], T]) -> T:
        """Return what a computation gives that takes `batch_size` anew each time it is called.

        Raises
        ------
        ScanError
            If a batch of one is too much for the device's memory.
        """
        outcome = _outcome(compute)
        while isinstance(outcome, _Full):
            self._halve_batches(outcome.reason)
            outcome = _outcome(compute)
        return outcome

    def _halve_batches(self, reason: str) -> None:
        if self.batch_size == 1:
            raise ScanError(self._too_large(f"the memory of {device_name(str(self.device))} ({reason})"))
        self.batch_size //= 2
        torch.cuda.empty_cache()
        log.warning("the device is out of memory; going on with batches of %d", self.batch_size)

    @abstractmethod
    def _too_large(self, memory: str) -> str:
        """Return that a batch of one does not fit a memory, and what to do."""


def _outcome(compute: Callable[[], T]) -> T | _Full:
    """Return what a computation gives, or that the memory was full.

    The error itself ends here, and with it the frames that hold tensors.
    """
    try:
        return compute()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return _Full(str(error).partition("\n")[0])
