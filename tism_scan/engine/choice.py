"""Which engine computes a scoring with a model: the fastest that can."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Literal

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.continuing import check_outputs_continue
from tism_scan.engine.ensemble_engine import EnsembleEngine, check_has_several, scoring_of_member
from tism_scan.engine.shared_engine import SharedEngine
from tism_scan.engine.sharing import NotSharedError, n_backward_passes, shared_step, why_no_stack
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.models.contract import Model
from tism_scan.models.ensemble import Ensemble, members_of
from tism_scan.plan.scoring import Scoring

Sharing = Literal["none", "trunk", "stack"]

log = logging.getLogger(__name__)


def make_engine(
    model: Model,
    scoring: Scoring,
    *,
    batch_size: int | None = None,
    device: str | None = None,
    memory_gb: float | None = None,
    share: float = 1.0,
    steps: Sequence[int | None] | None = None,
) -> Engine:
    """Return the fastest engine that computes a scoring with a model.

    Parameters
    ----------
    model : Model
        As for `WindowEngine`.
    scoring : Scoring
    batch_size : int, optional
        Windows that are computed together.
    device : str, optional
        Where to compute; a GPU if there is one.
    memory_gb, share : float, optional
        As for `TrunkEngine`.
    steps : sequence of int or None, optional
        What `shared_steps` returned for the same model in another process: for each model of an ensemble, or
        the only one, the step of its trunk, None where windows do not share it.

    Raises
    ------
    PlanError
        If the device does not know the scoring's precision, or ``stitch="all"`` does not fit the model.
    """
    check_has_several(model, scoring)
    limits: dict[str, Any] = {"device": device, "memory_gb": memory_gb, "share": share}
    if isinstance(model, Ensemble):
        own, members = scoring_of_member(scoring), members_of(model)
        of_members = [[step] for step in steps] if steps is not None else [None] * len(members)
        engines = [
            make_engine(member, own, batch_size=batch_size, steps=step, **limits)
            for member, step in zip(members, of_members, strict=True)
        ]
        return EnsembleEngine(engines, scoring)
    check_outputs_continue(model, scoring)
    limits["windows_per_slab"] = batch_size
    with suppress(NotSharedError):
        return TrunkEngine(model, scoring, **limits)
    step = None if steps is None else steps[0]
    if steps is None or step is not None:
        try:
            return SharedEngine(model, scoring, **limits, step=step)
        except NotSharedError as refusal:
            _warn_once(str(refusal))
    return WindowEngine(
        model, scoring, batch_size=batch_size, device=device, memory_gb=memory_gb, share=share
    )


def shared_steps(model: Model, scoring: Scoring) -> tuple[int | None, ...]:
    """Return how far apart windows are at the top of the trunk that the shared engine shares, of each model.

    None for a model of which windows share nothing, the log says once why, or that goes through the trunk
    engine. It takes a trial in float64, whose result holds for the same model in other processes.
    """
    steps = tuple(_shared_step_of(member, scoring) for member in members_of(model))
    n_passes = n_backward_passes(scoring)
    if n_passes > 1 and any(step is not None for step in steps):
        log.warning(
            "stitch 'center' takes %d backward passes of the model's trunk for each track; --stitch mean, "
            "another number, takes one",
            n_passes,
        )
    return steps


def _shared_step_of(model: Model, scoring: Scoring) -> int | None:
    """Return the step of one model."""
    if why_no_stack(model, scoring) is None:
        return None
    try:
        return shared_step(model, scoring)
    except NotSharedError as refusal:
        _warn_once(str(refusal))
        return None


def sharing_of(model: Model, scoring: Scoring, steps: Sequence[int | None]) -> Sharing:
    """Return what windows will share, in the slowest model of an ensemble.

    Parameters
    ----------
    model, scoring
        As for `make_engine`.
    steps : sequence of int or None
        From `shared_steps`.
    """
    alone = [member for member, step in zip(members_of(model), steps, strict=True) if step is None]
    if any(why_no_stack(member, scoring) is not None for member in alone):
        return "none"
    return "stack" if len(alone) == len(steps) else "trunk"


@cache
def _warn_once(reason: str) -> None:
    log.warning("windows are computed one by one, which is slower: %s", reason)
