"""How long a block may be so that a stop, a failure or a lost actor costs minutes and not hours."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from tism_scan.engine.choice import Sharing
from tism_scan.engine.sharing import n_backward_passes
from tism_scan.models.contract import Model
from tism_scan.models.frozen import frozen
from tism_scan.plan.scoring import Scoring

LONGEST_BLOCK_S = 120.0
SMALLEST_BLOCK_BP = 4096
# What one thread of a CPU, and a GPU, do at least of the arithmetic of usual networks. They are no
# measurements, so that the same command makes the same plan on every machine.
FLOP_PER_S_ON_CPU = 5e10
FLOP_PER_S_ON_GPU = 2e13


def fitting_block_bp(
    model: Model, scoring: Scoring, sharing: Sharing, block_bp: int, *, on_gpus: bool
) -> int:
    """Return a block's length, halved until it takes some two minutes at most.

    Parameters
    ----------
    model : Model
        On the CPU.
    scoring : Scoring
    sharing : {"stack", "trunk", "none"}
        What windows share; blocks of a stack are quick, and keep their length.
    block_bp : int
        The length that suits the store.
    on_gpus : bool
        Whether actors compute on GPUs.

    Returns
    -------
    int
        At least 4,096, or `block_bp` if that is less.
    """
    if sharing == "stack" or block_bp <= SMALLEST_BLOCK_BP:
        return block_bp
    # A backward pass of the frozen network takes as long as the forward pass, for each track.
    n_backward = len(scoring.tracks) * (n_backward_passes(scoring) if sharing == "trunk" else 1)
    per_window = _forward_flop(model) * (1 + n_backward) * scoring.n_gradients
    per_bp = per_window / (scoring.input_bp if sharing == "trunk" else scoring.stride)
    most = LONGEST_BLOCK_S * (FLOP_PER_S_ON_GPU if on_gpus else FLOP_PER_S_ON_CPU)
    while block_bp > SMALLEST_BLOCK_BP and block_bp * per_bp > most:
        block_bp //= 2
    return max(block_bp, SMALLEST_BLOCK_BP)


def _forward_flop(model: Model) -> float:
    """Return the arithmetic, FLOP, of a window's forward pass; a multiply-add counts as two."""
    window = torch.zeros((1, 4, model.input_bp), dtype=torch.float32)
    with frozen(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(window)
    return float(counter.get_total_flops())
