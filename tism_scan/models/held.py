"""What a model's own reduction takes from its input, noted at one input and held at others."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_HELD: ContextVar["HeldWeights | None"] = ContextVar("held weights of positions", default=None)


class HeldWeights:
    """The weights of positions at a window, for the same computations on other inputs in its place.

    Attributes
    ----------
    noted : list of Tensor
        In the order in which they were asked for; empty for models that weight no positions.
    """

    def __init__(self) -> None:
        self.noted: list[Tensor] = []
        self._to_come: Iterator[Tensor] | None = None

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note all weights that are asked for in this context."""
        self.noted, self._to_come = [], None
        with self._active():
            yield

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Answer with the weights that were noted, in the same order."""
        self._to_come = iter(self.noted)
        with self._active():
            yield

    def of(self, positions: Tensor) -> Tensor:
        """Return the weights of logits, (N, C, P), or those that are held in their place."""
        if self._to_come is not None:
            return next(self._to_come)
        self.noted.append(positions.detach().sigmoid())
        return self.noted[-1]

    @contextmanager
    def _active(self) -> Iterator[None]:
        token = _HELD.set(self)
        try:
            yield
        finally:
            _HELD.reset(token)


def weights_of(positions: Tensor) -> Tensor:
    """Return the weights of logits, (N, C, P): their sigmoid, without a gradient, unless others are held."""
    held = _HELD.get()
    return positions.detach().sigmoid() if held is None else held.of(positions)
