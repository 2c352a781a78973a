"""Which engine computes a scoring with a model: the fastest that can."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Literal, get_args

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.continuing import check_outputs_continue
from tism_scan.engine.ensemble_engine import EnsembleEngine, check_has_several, scoring_of_member
from tism_scan.engine.limits import Limits
from tism_scan.engine.shared_engine import SharedEngine
from tism_scan.engine.sharing import NotSharedError, n_backward_passes, shared_step, why_no_stack
from tism_scan.engine.trunk_engine import TrunkEngine
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.models.contract import Model
from tism_scan.models.ensemble import Ensemble, members_of
from tism_scan.models.frozen import outside_inference_mode
from tism_scan.plan.scoring import Scoring

Sharing = Literal["none", "trunk", "stack"]
_FROM_SLOWEST: tuple[Sharing, ...] = get_args(Sharing)

log = logging.getLogger(__name__)


@outside_inference_mode
def make_engine(
    model: Model,
    scoring: Scoring,
    *,
    batch_size: int | None = None,
    device: str | None = None,
    memory_gb: float | None = None,
    share: float = 1.0,
    sharing: Sequence[Sharing] | None = None,
) -> Engine:
    """Return the fastest engine that computes a scoring with a model.

    Parameters
    ----------
    model : Model
        As for `WindowEngine`.
    scoring : Scoring
    batch_size, device, memory_gb, share
        See `tism_scan.engine.limits.Limits`.
    sharing : sequence of {"none", "trunk", "stack"}, optional
        What `sharing_of` returned for the same model, perhaps in another process: it is not tried again.

    Raises
    ------
    PlanError
        If the device does not know the scoring's precision, or ``stitch="all"`` does not fit the model.
    """
    check_has_several(model, scoring)
    limits = Limits(batch_size=batch_size, device=device, memory_gb=memory_gb, share=share)
    if isinstance(model, Ensemble):
        own, members = scoring_of_member(scoring), members_of(model)
        of_members = [None] * len(members) if sharing is None else [[each] for each in sharing]
        engines = [
            make_engine(member, own, sharing=each, **limits)
            for member, each in zip(members, of_members, strict=True)
        ]
        return EnsembleEngine(engines, scoring)
    check_outputs_continue(model, scoring)
    known = None if sharing is None else sharing[0]
    if known in (None, "stack"):
        with suppress(NotSharedError):
            return TrunkEngine(model, scoring, is_tried=known is not None, **limits)
    if known != "none":
        try:
            return SharedEngine(model, scoring, is_tried=known is not None, **limits)
        except NotSharedError as refusal:
            _warn_once(str(refusal))
    return WindowEngine(model, scoring, **limits)


def sharing_of(model: Model, scoring: Scoring) -> tuple[Sharing, ...]:
    """Return what windows share, of each model: a stack of unpadded layers, another trunk, or nothing.

    The log says once why they share nothing. It takes a trial, whose result holds for the same model in other
    processes.
    """
    found = tuple(_sharing_of_one(member, scoring) for member in members_of(model))
    n_passes = n_backward_passes(scoring)
    if n_passes > 1 and "trunk" in found:
        log.warning(
            "stitch 'center' takes %d backward passes of the model's trunk for each track; --stitch mean, "
            "another number, takes one",
            n_passes,
        )
    return found


def _sharing_of_one(model: Model, scoring: Scoring) -> Sharing:
    if why_no_stack(model, scoring) is None:
        return "stack"
    try:
        shared_step(model, scoring)
    except NotSharedError as refusal:
        _warn_once(str(refusal))
        return "none"
    return "trunk"


def least_shared(sharing: Sequence[Sharing]) -> Sharing:
    """Return what windows share in the slowest of several models."""
    return min(sharing, key=_FROM_SLOWEST.index)


@cache
def _warn_once(reason: str) -> None:
    log.warning("windows are computed one by one, which is slower: %s", reason)
