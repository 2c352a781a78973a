"""From a block to its scores."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tism_scan.engine.block_engine import Engine, check_finite
from tism_scan.engine.queue import Queued
from tism_scan.errors import ScanError
from tism_scan.genome.alphabet import N_CODE, Codes, is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.genome.spans import span_mask
from tism_scan.plan.packing import Part
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tiling import Block, Stretch
from tism_scan.scan.work import Plan, Unit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlockReport:
    """What became of one finished block.

    Attributes
    ----------
    block : Unit
    n_scored : int
        Bases that got a score: wanted, and A, C, G or T; of another kind of unit, what of it was computed.
    seconds : float
        Time that the engine took.
    """

    block: Unit
    n_scored: int
    seconds: float


@dataclass(frozen=True)
class BlockInput:
    """What an engine needs of the genome for one block.

    Attributes
    ----------
    stretch : Stretch
        The windows that the block needs.
    codes : uint8 (L,)
        The sequence under these windows, N past the chrom's ends.
    wanted : bool (len(block),)
    parts : sequence of Part
        The chroms under these windows.
    """

    stretch: Stretch
    codes: Codes
    wanted: NDArray[np.bool_]
    parts: Sequence[Part]

    @property
    def block(self) -> Block:
        """The block."""
        return self.stretch.block

    @cached_property
    def is_scored(self) -> NDArray[np.bool_]:
        """Which of the block's bases get a score, bool (len(block),): wanted, and A, C, G or T."""
        first = self.block.start - self.stretch.start
        is_scored: NDArray[np.bool_] = self.wanted & is_acgt(self.codes[first : first + len(self.block)])
        return is_scored


def fetch_block(genome: Genome, plan: ScanPlan, block: Block) -> BlockInput:
    """Return a block's sequence, and which of its bases are wanted."""
    stretch = plan.stretch(block)
    codes = np.full(stretch.end - stretch.start, N_CODE, dtype=np.uint8)
    parts = plan.parts(block.chrom, stretch.start, stretch.end)
    for part in parts:
        at = part.at - stretch.start
        codes[at : at + part.end - part.start] = genome.fetch(part.chrom, part.start, part.end)
    return BlockInput(stretch, codes, span_mask(plan.spans(block.chrom), block.start, block.end), parts)


def queue_block(engine: Engine, block_input: BlockInput) -> Queued:
    """Have an engine's device compute a block."""
    return engine.queue(block_input.codes, block_input.stretch, block_input.wanted)


def score_block(engine: Engine, block_input: BlockInput) -> NDArray[np.float32]:
    """Return the scores of a block.

    Parameters
    ----------
    engine : Engine
        Made for the plan's scoring.
    block_input : BlockInput
        From `fetch_block`.

    Returns
    -------
    float32 (T, len(block)), or (T, 4, len(block)) for ``values="tism"``
        NaN where a base is not wanted or is not A, C, G or T.

    Raises
    ------
    ScanError
        If the model gives NaN or infinity to a base that must have a score.
    """
    scores = queue_block(engine, block_input).scores()
    check_scores(block_input, scores)
    return scores


def check_scores(block_input: BlockInput, scores: NDArray[np.float32]) -> None:
    """Raise ScanError if a base of a block that must have scores has NaN or infinity."""
    block, expected = block_input.block, block_input.is_scored
    remedy = (
        "check the weights, or leave the region out with --exclude-bed; if --precision is fp16, take mixed"
    )
    for part in block_input.parts:
        first, end = max(part.at, block.start), min(part.at + part.end - part.start, block.end)
        here = slice(first - block.start, max(first, end) - block.start)
        start = part.start + first - part.at
        check_finite(scores[..., here], expected[here], part.chrom, start, remedy=remedy)


def check_genome(genome: Genome, plan: Plan) -> None:
    """Raise if a genome's chroms are not those of a plan.

    Raises
    ------
    ScanError
        The file on this machine is another one than the driver's.
    """
    differing = [chrom for chrom, length in plan.chroms.items() if genome.chroms.get(chrom) != length]
    if differing:
        raise ScanError(
            f"{genome.path} does not fit the plan: {differing[0]} has "
            f"{genome.chroms.get(differing[0], 0):,} bp in it, expected {plan.chroms[differing[0]]:,}; put "
            "the same FASTA on every machine"
        )
