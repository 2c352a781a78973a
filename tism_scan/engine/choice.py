"""Which engine computes a scoring with a model: the fastest that can."""

import logging
from functools import cache, partial
from typing import Any, Literal, get_args

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.continuing import check_outputs_continue
from tism_scan.engine.ensemble_engine import EnsembleEngine, check_has_several
from tism_scan.engine.shared_engine import SharedEngine
from tism_scan.engine.sharing import NotSharedError, shared_step, why_no_stack
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.models.contract import Model
from tism_scan.models.ensemble import Ensemble, members_of
from tism_scan.plan.scoring import Scoring

Sharing = Literal["none", "trunk", "stack"]  # from the slowest

log = logging.getLogger(__name__)


def make_engine(
    model: Model,
    scoring: Scoring,
    *,
    batch_size: int | None = None,
    device: str | None = None,
    memory_gb: float | None = None,
    share: float = 1.0,
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

    Raises
    ------
    PlanError
        If the device does not know the scoring's precision, or ``stitch="all"`` does not fit the model.
    """
    check_has_several(model, scoring)
    limits: dict[str, Any] = {"device": device, "memory_gb": memory_gb, "share": share}
    if isinstance(model, Ensemble):
        return EnsembleEngine(model, scoring, partial(make_engine, batch_size=batch_size, **limits))
    check_outputs_continue(model, scoring)
    for engine in (TrunkEngine, SharedEngine):
        try:
            return engine(model, scoring, windows_per_slab=batch_size, **limits)
        except NotSharedError as refusal:
            reason = str(refusal)
    _warn_once(reason)
    return WindowEngine(model, scoring, batch_size=batch_size, **limits)


def sharing_of(model: Model, scoring: Scoring) -> Sharing:
    """Return what windows will share, in each model; if it is nothing, the log says once why."""
    found = {_sharing_of(member, scoring) for member in members_of(model)}
    return next(each for each in get_args(Sharing) if each in found)


def _sharing_of(model: Model, scoring: Scoring) -> Sharing:
    """Return what windows will share in one model."""
    if why_no_stack(model, scoring) is None:
        return "stack"
    try:
        shared_step(model, scoring)
    except NotSharedError as refusal:
        _warn_once(str(refusal))
        return "none"
    return "trunk"


@cache
def _warn_once(reason: str) -> None:
    log.warning("windows are computed one by one, which is slower: %s", reason)
