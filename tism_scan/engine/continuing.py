"""Whether a model's outputs can be counted once each: those of neighbouring windows continue each other."""

import torch
from torch import Tensor

from tism_scan.errors import PlanError
from tism_scan.models.contract import LoadedModel, Model
from tism_scan.models.frozen import frozen
from tism_scan.models.outputs import tensors_of
from tism_scan.plan.scoring import Scoring

ADDING = ("sum", "wlogit")  # reductions that are sums over positions, so that windows' may be added up
# Of the largest output, in float32.
_LARGEST_DIFFERENCE = 1e-3


def check_outputs_continue(model: Model, scoring: Scoring) -> None:
    """Raise unless ``stitch="all"`` counts each output of a model once, where it is asked for.

    The outputs of a window must be those of its neighbour, some positions later, in a random sequence.

    Parameters
    ----------
    model : Model
    scoring : Scoring

    Raises
    ------
    PlanError
        If the model has no outputs for each position, does not add them up, or has others at its windows'
        ends than the neighbours have there.
    """
    if scoring.stitch != "all":
        return
    reduction = getattr(model, "reduction", None)
    if not isinstance(model, LoadedModel) or reduction not in ADDING:
        raise PlanError(
            "stitch 'all' adds up a model's outputs of all positions; expected --reduce sum or wlogit; give "
            "one of them for a model that has outputs for each position, or use --stitch mean"
        )
    home = next(model.parameters(), torch.empty(0))
    for n_positions in {positions.shape[2] for positions in _positions(model, _sequence(scoring.input_bp))}:
        if scoring.stride % n_positions:
            raise PlanError(_refusal(scoring, n_positions))
        n_later = n_positions // 2
        n_bp = n_later * scoring.stride // n_positions
        sequence = _sequence(scoring.input_bp + n_bp).to(home.device)
        here, later = (
            [each for each in _positions(model, window) if each.shape[2] == n_positions]
            for window in (sequence[:, :, : scoring.input_bp], sequence[:, :, n_bp:])
        )
        for one, other in zip(here, later, strict=True):
            difference = (one[:, :, n_later:] - other[:, :, : n_positions - n_later]).abs().amax()
            if not difference <= _LARGEST_DIFFERENCE * one.abs().amax():
                raise PlanError(_refusal(scoring, n_positions))


def _positions(model: LoadedModel, X: Tensor) -> list[Tensor]:
    """Return what a model returns for each position, (1, C, positions), before it is reduced."""
    with frozen(model), torch.no_grad():
        tensors = tensors_of(model.returned(X.to(next(model.parameters(), X))))
    return [tensor.flatten(2).float() for tensor in tensors if tensor.dim() > 2]


def _refusal(scoring: Scoring, n_positions: int) -> str:
    return (
        f"stitch 'all' counts each output once, and with stride {scoring.stride:,} the {n_positions:,} "
        f"positions of a window do not go on where its neighbour's end; expected the bases that they cover, "
        f"such as --stride {n_positions} for one base each; give it, crop what padding reaches, or use "
        "--stitch mean"
    )


def _sequence(n_bp: int) -> Tensor:
    """Return one-hot sequence, float32 (1, 4, n_bp), the same each time."""
    codes = torch.randint(4, (1, n_bp), generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.one_hot(codes, 4).transpose(1, 2).float()
