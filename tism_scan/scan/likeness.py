"""Whether a genome and a model are those that a store was made with.

A model's name and weights do not tell what it computes: its code may be another.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from tism_scan.errors import ModelError, WeightsError
from tism_scan.genome.fasta import check_digest
from tism_scan.models.contract import Model
from tism_scan.models.probe import is_half, probe_outputs
from tism_scan.models.source import Source
from tism_scan.plan.probes import Probes
from tism_scan.plan.tracks import Track
from tism_scan.scan.work import Plan
from tism_scan.storage.digests import short_digest


def probes_of(model: Model, tracks: Sequence[Track], device: str | None = None) -> Probes:
    """Return the values of a model's tracks on the fixed windows, for the plan.

    Parameters
    ----------
    model : Model
    tracks : sequence of Track
    device : str, optional
        Where to compute them; by default where the model is.

    Raises
    ------
    ModelError
        If the model fails.
    """
    return Probes.of(tracks, probe_outputs(model, device), is_half=is_half(model))


def difference_from(plan: Plan, model: Model, device: str | None = None) -> str | None:
    """Return how a model differs from the one that a plan was made with, in words, or None.

    None, too, if the plan's store is of an earlier release, which recorded nothing of it.

    Parameters
    ----------
    plan : Plan
    model : Model
    device : str, optional
        Where to ask first, since it is fast. It may round what the model casts to half precision there; so
        only where the model is, as in the plan, a difference counts.

    Raises
    ------
    ModelError
        If the model fails.
    """
    if plan.probes is None:
        return None
    tracks = plan.scoring.tracks
    if device is not None and device != "cpu":
        with contextlib.suppress(ModelError):  # such as one whose window is too much for the device
            if plan.probes.difference(probes_of(model, tracks, device), tracks) is None:
                return None
    return plan.probes.difference(probes_of(model, tracks), tracks)


def check_repeatable(model: Model, load: Callable[[], Model], tracks: Sequence[Track]) -> None:
    """Raise if a model computes something else at each call, or each time that it is loaded.

    Parameters
    ----------
    model : Model
    load : callable
        Returns the model, loaded again.
    tracks : sequence of Track

    Raises
    ------
    ModelError
    """
    once = probes_of(model, tracks)
    for other, when in ((model, "is called"), (load(), "is loaded")):
        difference = once.difference(probes_of(other, tracks), tracks)
        if difference is not None:
            raise ModelError(
                f"the model gives other outputs each time that it {when}: {difference}; expected outputs "
                "that depend on the window and the weights alone; leave out what it draws at random"
            )


def checked_model(plan: Plan, genome: Path, model: Source) -> Model:
    """Return a model, loaded; raise unless it and a genome are those of a plan.

    Raises
    ------
    GenomeError, WeightsError
        If they are others, or cannot be read.
    ModelError
        If the model computes something else at each call, or each time that it is loaded.
    """
    check_digest(genome, plan.genome_digest)
    name, weights = model.identity()
    if (name, weights) != (plan.model, plan.weights_digest):
        raise WeightsError(
            f"{model} is model {name} with SHA-256 {short_digest(weights)}, expected {plan.model} with "
            f"{short_digest(plan.weights_digest)}; give those that the store was made with"
        )
    loaded = model.load()
    difference = difference_from(plan, loaded)
    if difference is not None:
        check_repeatable(loaded, model.load, plan.scoring.tracks)
        raise WeightsError(
            f"{model} computes something else than the store's: {difference}; give the code that the "
            "store was made with"
        )
    return loaded
