"""Blocks computed a second time, and compared with what a store holds of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.engine.block_engine import Engine
from tism_scan.genome.fasta import Genome
from tism_scan.plan.tiling import Block
from tism_scan.scan.blocks import fetch_block, score_block
from tism_scan.store.arrays import rounded
from tism_scan.store.score_store import ScoreStore

TOLERANCE = 1e-4
FRACTION_ALLOWED = 1e-4
_ROUNDING = 1e-3  # of the largest score of all tracks, in parts of the tolerance: float32's own


@dataclass(frozen=True)
class Recomputed:
    """How a block's stored scores compare with those computed again.

    Attributes
    ----------
    block : Block
    n_values : int
        Scores that were compared, over all tracks and bases; NaN on both sides is equal.
    n_unequal : int
        Those that are not equal to the bit.
    n_wrong : int
        Those that are further apart than rounding explains: by more than 1e-4 of their own track's largest
        score in the block, and than what ``keep_bits`` drops; or NaN on one side only.
    largest : float
        The largest difference, as a part of its track's largest score in the block.
    device : str
        The kind of device that computed the stored scores; empty if that was not recorded.
    """

    block: Block
    n_values: int
    n_unequal: int
    n_wrong: int
    largest: float
    device: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether every score is equal to the bit."""
        return self.n_unequal == 0

    @property
    def is_sound(self) -> bool:
        """Whether the stored scores may stay.

        Devices, and numbers of threads, round differently, and a maximum that is all but a tie then falls to
        another base: one score in 10,000 may be wrong.
        """
        return self.n_wrong <= FRACTION_ALLOWED * self.n_values


def recompute_block(genome: Genome, engine: Engine, store: ScoreStore, block: Block) -> Recomputed:
    """Compute a finished block again, and return how its stored scores compare.

    Parameters
    ----------
    genome : Genome
    engine : Engine
        Made for the store's plan.
    store : ScoreStore
    block : Block

    Raises
    ------
    ScanError
        If the model gives NaN or infinity.
    StoreError
        If the stored block cannot be read.
    """
    scores = score_block(engine, fetch_block(genome, store.plan, block))
    expected = rounded(scores, store.plan.keep_bits)
    stored = store.read_block(block)
    is_missing = np.isnan(stored)
    apart = np.abs(stored.astype(np.float64) - expected)
    largest = _largest_of_tracks(np.abs(stored))
    allowed = TOLERANCE * (largest + _ROUNDING * largest.max())
    dropped = 0.0 if store.plan.keep_bits is None else 2.0**-store.plan.keep_bits
    is_wrong = is_missing != np.isnan(expected)
    is_wrong |= apart > allowed + dropped * np.abs(stored)
    scale = np.where(largest > 0, largest, max(largest.max(), np.finfo(np.float32).tiny))
    return Recomputed(
        block,
        stored.size,
        int((stored.view(np.uint32) != expected.view(np.uint32)).sum()),
        int(is_wrong.sum()),
        float((_largest_of_tracks(apart) / scale).max()),
        store.device_of(block),
    )


def _largest_of_tracks(numbers: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return each track's largest of numbers (T, ...), none below 0, shaped to be compared with them."""
    axes = tuple(range(1, numbers.ndim))
    return np.asarray(np.fmax.reduce(numbers, axes, np.float64, keepdims=True, initial=0.0))
