"""Whether a model's outputs can be counted once each: those of neighbouring windows continue each other."""

import torch
from torch import Tensor

from tism_scan.engine.sharing import random_sequence
from tism_scan.errors import PlanError
from tism_scan.models.contract import LoadedModel, Model
from tism_scan.models.ensemble import members_of
from tism_scan.models.frozen import frozen
from tism_scan.models.outputs import tensors_of
from tism_scan.plan.scoring import Scoring

ADDING = ("sum", "wlogit")  # reductions that are sums over positions, so that windows' may be added up
# Of a channel's largest output, in float32.
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
        If the output space is none that adds up, a track has no outputs for each position, the model does not
        add them up, or it has others at its windows' ends than the neighbours have there.
    """
    if scoring.stitch != "all":
        return
    for member in members_of(model):
        _check_member(member, scoring)


def _check_member(model: Model, scoring: Scoring) -> None:
    """Raise unless the outputs of one model can be counted once each."""
    if scoring.output_space != "logit":
        raise PlanError(
            "stitch 'all' adds up logits, and the probability of a sum is no sum; expected output space "
            "'logit'; use it, or --stitch mean"
        )
    reduction = getattr(model, "reduction", None)
    if not isinstance(model, LoadedModel) or reduction not in ADDING:
        raise PlanError(
            "stitch 'all' adds up a model's outputs of all positions; expected --reduce sum or wlogit; give "
            "one of them for a model that has outputs for each position, or use --stitch mean"
        )
    parts = _parts(model, random_sequence(scoring.input_bp))
    read = _parts_read(parts, scoring)
    for n_positions in {parts[i].shape[2] for i in read}:
        if n_positions < 2 or scoring.stride % n_positions:
            raise PlanError(_refusal(scoring, n_positions))
        n_later = n_positions // 2
        sequence = random_sequence(scoring.input_bp + n_later * scoring.stride // n_positions)
        here, later = (
            _parts(model, window)
            for window in (sequence[:, :, : scoring.input_bp], sequence[:, :, -scoring.input_bp :])
        )
        for i in read:
            if here[i].shape[2] == n_positions and not _continue(here[i], later[i], n_later):
                raise PlanError(_refusal(scoring, n_positions))


def _parts_read(parts: list[Tensor], scoring: Scoring) -> list[int]:
    """Return which of the tensors that a model returns the tracks read; PlanError if one has no positions."""
    part_of = [i for i, part in enumerate(parts) for _ in range(part.shape[1])]
    read = set()
    for track in scoring.tracks:
        of_track = {part_of[output] for output in track.outputs}
        if any(parts[i].dim() < 3 for i in of_track):
            raise PlanError(
                f"stitch 'all' adds up outputs of all positions, and track {track.name!r} is of a whole "
                "window; expected tracks with positions; scan it by itself with --stitch mean"
            )
        read |= of_track
    return sorted(read)


def _parts(model: LoadedModel, X: Tensor) -> list[Tensor]:
    """Return the tensors that a model returns for a window, (1, C) or (1, C, positions), not yet reduced."""
    with frozen(model), torch.no_grad():
        tensors = tensors_of(model.returned(X.to(next(model.parameters(), X).device)))
    return [(tensor.flatten(2) if tensor.dim() > 2 else tensor.flatten(1)).float() for tensor in tensors]


def _continue(here: Tensor, later: Tensor, n_later: int) -> bool:
    """Return whether outputs, (1, C, positions), are those of a window that begins some positions later."""
    difference = (here[:, :, n_later:] - later[:, :, : here.shape[2] - n_later]).abs().amax((0, 2))
    return bool((difference <= _LARGEST_DIFFERENCE * here.abs().amax((0, 2))).all())


def _refusal(scoring: Scoring, n_positions: int) -> str:
    return (
        f"stitch 'all' counts each output once, and with stride {scoring.stride:,} the {n_positions:,} "
        f"positions of a window do not go on where its neighbour's end; expected the bases that they cover, "
        f"such as --stride {n_positions} for one base each; give it, crop what padding reaches, or use "
        "--stitch mean"
    )
