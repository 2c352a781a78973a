"""What an actor takes of a node: a GPU or a part of one, or some CPU cores."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tism_scan.ray_scan.cluster import RayOptions
from tism_scan.ray_scan.watch import ClusterWatch

CPUS_PER_ACTOR = 4  # at most, and fewer where that many would leave more idle than this:
USED_CPUS = 0.85

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActorShare:
    """What each actor takes of its node.

    Attributes
    ----------
    resource : {"GPU", "CPU"}
    amount : float
        How many of them, or which part of one.
    """

    resource: str
    amount: float

    @property
    def is_of_gpus(self) -> bool:
        """Whether actors compute on GPUs."""
        return self.resource == "GPU"

    @property
    def device(self) -> str:
        """Where an actor computes."""
        return "cuda" if self.is_of_gpus else "cpu"

    @property
    def part_of_device(self) -> float:
        """The part of its device that an actor may use; CPU cores are its own."""
        return min(1.0, self.amount) if self.is_of_gpus else 1.0

    @property
    def n_threads(self) -> int:
        """Threads that an actor computes with."""
        return 1 if self.is_of_gpus else max(1, int(self.amount))

    def needs(self) -> dict[str, float]:
        """Return what Ray is to keep for an actor, as its options."""
        if self.is_of_gpus:
            return {"num_gpus": self.amount, "num_cpus": 0}
        return {"num_cpus": self.amount}

    def n_fitting(self, amounts: Sequence[float]) -> int:
        """Return how many actors fit on nodes with so much of the resource each."""
        return _n_fitting(amounts, self.amount)

    def __str__(self) -> str:
        return f"{self.amount:g} {self.resource}{'s' * (self.amount > 1)}"


def share_of(options: RayOptions, cluster: ClusterWatch) -> ActorShare:
    """Return what each actor takes: of GPUs if they are asked for or there are any, else of CPU cores."""
    if options.gpus_per_actor or cluster.amounts("GPU"):
        return ActorShare("GPU", options.gpus_per_actor or 1.0)
    cpus = cluster.amounts("CPU")
    share = ActorShare("CPU", cpus_per_actor(cpus, options.n_actors))
    if options.n_actors and share.amount < 1:
        log.warning(
            "%d actors share %g CPUs: each loads the model, and more actors than CPUs are slower",
            options.n_actors,
            sum(cpus),
        )
    return share


def cpus_per_actor(cpus: Sequence[float], n_actors: int | None) -> float:
    """Return how many CPUs of one node an actor takes: whole ones, or a fraction of one.

    Parameters
    ----------
    cpus : sequence of float
        CPUs of each node that has any.
    n_actors : int or None
        How many actors must fit at once; None for as many as get a few CPUs each.
    """
    if not cpus:
        return 1
    if n_actors is None:
        most = min(CPUS_PER_ACTOR, *cpus)
        whole = range(int(most), 0, -1)
        enough = (share for share in whole if share * _n_fitting(cpus, share) >= USED_CPUS * sum(cpus))
        share = next(enough, min(1, most))
    else:
        shares = sorted({n / k for n in cpus for k in range(1, n_actors + 1)}, reverse=True)
        share = next(share for share in shares if _n_fitting(cpus, share) >= n_actors)
    return math.floor(share) if share >= 1 else math.floor(share * 1e4) / 1e4  # Ray counts in 1e-4


def _n_fitting(on_nodes: Sequence[float], share: float) -> int:
    return sum(int(amount / share + 1e-9) for amount in on_nodes)
