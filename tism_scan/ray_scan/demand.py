"""What a scan asks of a cluster that grows and shrinks by itself."""

import logging
import math

import ray.autoscaler.sdk

log = logging.getLogger(__name__)


class Demand:
    """Keeps Ray's autoscaler informed of how many actors a scan can use.

    On a cluster that does not scale, asking does nothing.

    Parameters
    ----------
    resource : str
        ``"GPU"`` or ``"CPU"``.
    share : float
        How much of it an actor takes.
    """

    def __init__(self, resource: str, share: float) -> None:
        self.resource, self.share = resource, share
        self._n_asked = 0

    def ask(self, n_actors: int) -> None:
        """Ask for room for so many actors at once; what was asked before is replaced."""
        if n_actors == self._n_asked:
            return
        log.info("asking the cluster for room for %d actors", n_actors)
        self._n_asked = n_actors
        ray.autoscaler.sdk.request_resources(bundles=bundles(self.resource, self.share, n_actors))

    def close(self) -> None:
        """Ask for nothing any more: a request outlives the process that made it."""
        self.ask(0)


def bundles(resource: str, share: float, n_actors: int) -> list[dict[str, float]]:
    """Return what so many actors need, in amounts of which each must fit one node.

    Parts of a GPU, or of a CPU, are put together to whole ones.
    """
    if share >= 1:
        return [{resource: share}] * n_actors
    n_per_whole = int(1 / share + 1e-9)
    return [{resource: 1.0}] * math.ceil(n_actors / n_per_whole)
