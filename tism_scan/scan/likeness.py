"""Whether a model computes what a store was made with; its name and its weights do not tell."""

from collections.abc import Sequence

from tism_scan.models.contract import Model
from tism_scan.models.probe import is_half, probe_outputs
from tism_scan.plan.probes import Probes
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.tracks import Track


def probes_of(model: Model, tracks: Sequence[Track]) -> Probes:
    """Return the values of a model's tracks on the fixed windows, for the plan.

    Raises
    ------
    ModelError
        If the model fails.
    """
    return Probes.of(tracks, probe_outputs(model), is_half=is_half(model))


def difference_from(plan: ScanPlan, model: Model) -> str | None:
    """Return how a model differs from the one that a plan was made with, in words, or None.

    None, too, if the plan's store is of an earlier release, which recorded nothing of it.
    """
    if plan.probes is None:
        return None
    tracks = plan.scoring.tracks
    return plan.probes.difference(probes_of(model, tracks), tracks)
