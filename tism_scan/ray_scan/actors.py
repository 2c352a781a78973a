"""Actors as the driver knows them, and what it hears of the blocks that they were given."""

from dataclasses import dataclass, field
from typing import Any

from tism_scan.errors import TismScanError
from tism_scan.scan.blocks import BlockReport
from tism_scan.scan.work import Unit

MAX_FAILURES_IN_A_ROW = 2  # then the actor itself is doubted: a GPU that failed once may go on failing


@dataclass(eq=False)
class Actor:
    """An actor's handle and name, its blocks in flight, oldest first, and when it was last heard of."""

    handle: Any
    name: str = ""
    in_flight: dict[Any, Unit] = field(default_factory=dict)
    n_failures_in_a_row: int = 0
    heard_at: float = 0.0

    @property
    def is_doubted(self) -> bool:
        """Whether it gets no more blocks."""
        return self.n_failures_in_a_row >= MAX_FAILURES_IN_A_ROW


@dataclass(frozen=True)
class HowFar:
    """The share of a block in flight that is computed, from 0 to 1."""

    block: Unit
    share: float


@dataclass(frozen=True)
class Finished:
    """A block is computed and published."""

    block: Unit
    report: BlockReport
    actor: Actor | None = None


@dataclass(frozen=True)
class Failed:
    """A block ended with an error; its actor lives."""

    block: Unit
    actor: Actor
    error: TismScanError


@dataclass(frozen=True)
class Lost:
    """An actor ended, and the blocks that it had in flight with it.

    Attributes
    ----------
    blocks : tuple of Unit
    reason : str
    is_accident : bool
        The actor's node is gone, or out of memory or reach, which no block is to blame for.
    """

    blocks: tuple[Unit, ...]
    reason: str
    is_accident: bool
