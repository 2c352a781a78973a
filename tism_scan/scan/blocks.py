"""From a block to its scores, and a scan in one process."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tism_scan.engine.block_engine import Engine, check_finite
from tism_scan.errors import ScanError
from tism_scan.genome.alphabet import Codes, is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.genome.spans import span_mask
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tiling import Block
from tism_scan.store.lease import Lease
from tism_scan.store.score_store import ScoreStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlockReport:
    """What became of one finished block.

    Attributes
    ----------
    block : Block
    n_scored : int
        Bases that got a score: wanted, and A, C, G or T.
    seconds : float
        Time that the engine took.
    """

    block: Block
    n_scored: int
    seconds: float


@dataclass(frozen=True)
class BlockInput:
    """What an engine needs of the genome for one block.

    Attributes
    ----------
    block : Block
    codes : uint8 (L,)
        The sequence under the block's windows, N past the chrom's ends.
    wanted : bool (len(block),)
    """

    block: Block
    codes: Codes
    wanted: NDArray[np.bool_]


def fetch_block(genome: Genome, plan: ScanPlan, block: Block) -> BlockInput:
    """Return a block's sequence, and which of its bases are wanted."""
    stretch = plan.stretch(block)
    codes = genome.fetch(block.chrom, stretch.start, stretch.end)
    return BlockInput(block, codes, span_mask(plan.wanted[block.chrom], block.start, block.end))


def score_block(
    engine: Engine, plan: ScanPlan, block_input: BlockInput
) -> tuple[NDArray[np.float32], BlockReport]:
    """Return the scores of a block, and what they took.

    Parameters
    ----------
    engine : Engine
        Made for the plan's scoring.
    plan : ScanPlan
    block_input : BlockInput
        From `fetch_block`.

    Returns
    -------
    scores : float32 (T, len(block)), or (T, 4, len(block)) for ``values="tism"``
        NaN where a base is not wanted or is not A, C, G or T.
    report : BlockReport

    Raises
    ------
    ScanError
        If the model gives NaN or infinity to a base that must have a score.
    """
    block, began = block_input.block, time.monotonic()
    stretch = plan.stretch(block)
    scores = engine.score(block_input.codes, stretch, block_input.wanted)
    own_codes = block_input.codes[block.start - stretch.start : block.end - stretch.start]
    expected = block_input.wanted & is_acgt(own_codes)
    remedy = "check the weights, or leave the region out with --exclude-bed"
    check_finite(scores, expected, block.chrom, block.start, remedy=remedy)
    return scores, BlockReport(block, int(expected.sum()), time.monotonic() - began)


def scan_serially(
    genome: Genome,
    engine: Engine,
    store: ScoreStore,
    *,
    on_block: Callable[[BlockReport], None] | None = None,
) -> int:
    """Compute every pending block of a store in this process, and return how many bases got a score.

    Parameters
    ----------
    genome : Genome
        The genome of the store's plan.
    engine : Engine
        Made for the plan's scoring.
    store : ScoreStore
    on_block : callable, optional
        Called after each block.

    Raises
    ------
    ScanError
        If the genome's chroms are not the plan's, or the model gives NaN; finished blocks are kept.
    LeaseError
        If another process is scanning into the store.
    StorageFullError
        If there is no room left; finished blocks are kept.
    """
    check_genome(genome, store.plan)
    n_scored = 0
    with Lease(store.folder).acquire():
        for block in store.pending(retry_failed=True):
            scores, report = score_block(engine, store.plan, fetch_block(genome, store.plan, block))
            store.publish_block(block, scores)
            store.forget_failure(block)
            n_scored += report.n_scored
            log.info("%s: %d bases in %.1f s", block, report.n_scored, report.seconds)
            if on_block is not None:
                on_block(report)
        finish(store)
    return n_scored


def finish(store: ScoreStore) -> bool:
    """Consolidate a store if nothing is pending in it, and return whether that is so."""
    is_complete = next(store.pending(retry_failed=True), None) is None
    if is_complete:
        store.consolidate()
    return is_complete


def check_genome(genome: Genome, plan: ScanPlan) -> None:
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
