"""How long a block may be so that a stop, a failure or a lost actor costs minutes and not hours."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from tism_scan.engine.choice import Sharing
from tism_scan.engine.sharing import n_backward_passes
from tism_scan.models.contract import Model
from tism_scan.models.frozen import frozen
from tism_scan.plan.scan_plan import BLOCKS_AIMED_AT, ScanPlan

LONGEST_BLOCK_S = 120.0
SMALLEST_BLOCK_BP = 4096
# Where GPUs share a stack between windows, a block of one track and a Mb takes a few hundredths of a second,
# and what the host does once a block tells.
LONGEST_QUICK_BLOCK_BP = 1 << 22
MOST_GRADIENTS_OF_QUICK_BLOCK = 1 << 24  # of 4 tracks in 4 Mb; 64 MB of scores
# What one thread of a CPU, and a GPU, do at least of the arithmetic of usual networks. They are no
# measurements, so that the same command makes the same plan on every machine.
FLOP_PER_S_ON_CPU = 5e10
FLOP_PER_S_ON_GPU = 2e13


def fitting_block_bp(model: Model, plan: ScanPlan, sharing: Sharing, *, on_gpus: bool) -> int:
    """Return the length of a scan's blocks: less where they take over two minutes, more where they are quick.

    Parameters
    ----------
    model : Model
        On the CPU.
    plan : ScanPlan
        Its blocks have the length that suits the store.
    sharing : {"stack", "trunk", "none"}
        What windows share; blocks of a stack are quick.
    on_gpus : bool
        Whether actors compute on GPUs.

    Returns
    -------
    int
        At least 4,096, or the plan's own if that is less.
    """
    scoring, block_bp = plan.scoring, plan.block_bp
    if sharing == "stack":
        return _quick_block_bp(plan) if on_gpus else block_bp
    if block_bp <= SMALLEST_BLOCK_BP:
        return block_bp
    # A backward pass of the frozen network takes as long as the forward pass, for each track.
    n_backward = len(scoring.tracks) * (n_backward_passes(scoring) if sharing == "trunk" else 1)
    per_window = _forward_flop(model) * (1 + n_backward) * scoring.n_gradients
    per_bp = per_window / (scoring.input_bp if sharing == "trunk" else scoring.stride)
    most = LONGEST_BLOCK_S * (FLOP_PER_S_ON_GPU if on_gpus else FLOP_PER_S_ON_CPU)
    while block_bp * per_bp > most:
        block_bp //= 2
    return max(block_bp, SMALLEST_BLOCK_BP)


def _quick_block_bp(plan: ScanPlan) -> int:
    """Return a length of blocks that take a GPU little time even if they are long."""
    scoring, block_bp = plan.scoring, LONGEST_QUICK_BLOCK_BP
    n_gradients = len(scoring.tracks) * scoring.n_channels * scoring.n_gradients
    most = min(MOST_GRADIENTS_OF_QUICK_BLOCK // n_gradients, plan.n_wanted // BLOCKS_AIMED_AT)
    while block_bp > most:
        block_bp //= 2
    return max(block_bp, plan.block_bp)


def _forward_flop(model: Model) -> float:
    """Return the arithmetic, FLOP, of a window's forward pass; a multiply-add counts as two."""
    window = torch.zeros((1, 4, model.input_bp), dtype=torch.float32)
    with frozen(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(window)
    return float(counter.get_total_flops())
