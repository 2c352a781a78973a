"""How far a long call is: every one of them reports it in this form, and counts in these words."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

steps = logging.getLogger("tism_scan.steps")
"""What is done before anything can be counted: one record, at INFO, as each step begins."""


@dataclass(frozen=True)
class Progress:
    """How far a long call is.

    Attributes
    ----------
    n_done, n_total : int
        What is done, and all there is to do, in units. `n_total` may be 0 if there is nothing to do.
    unit : str
        What is counted, in the plural: ``"bases"``, ``"blocks"``.
    part : str
        The part of the work that these figures are of, such as a file's name; "" if they are of all of it.
    note : str
        What else is worth showing, such as ``"2 actors, 0 failed"``.
    n_before : int
        How much of `n_done` was done before this call, and says nothing about its speed.
    """

    n_done: int
    n_total: int
    unit: str = "bases"
    part: str = ""
    note: str = ""
    n_before: int = 0

    @property
    def fraction(self) -> float:
        """What is done, from 0 to 1; 1 if there is nothing to do."""
        return self.n_done / self.n_total if self.n_total else 1.0


OnProgress = Callable[[Progress], None]


def count_of(n: int, noun: str, several: str = "") -> str:
    """Return a number with its noun: ``1 window``, ``1,200 windows``."""
    return f"1 {noun}" if n == 1 else f"{n:,} {several or noun + 's'}"
