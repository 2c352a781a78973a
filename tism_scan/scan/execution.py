"""How a scan is carried out. None of it changes the scores; what does is the plan's."""

from dataclasses import dataclass

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.choice import Sharing, make_engine
from tism_scan.engine.limits import Limits
from tism_scan.models.contract import Model
from tism_scan.plan.scoring import Scoring


@dataclass(frozen=True)
class Execution:
    """How a scan is carried out, on Ray or in one process.

    Attributes
    ----------
    batch_size : int or None
        Windows that go through the model together; chosen by the device if None.
    memory_gb : float or None
        Memory, in GB of 10^9 bytes, for what is computed at once; a share of the device's if None.
    device : str or None
        Where to compute, such as ``"cpu"`` or ``"cuda:1"``; a GPU if there is one. Ray's actors get their
        own: ``"cuda"`` with a GPU or a share of one, else ``"cpu"``.
    share : float
        The part of the device that is ours, where others compute on it too; of its free memory, as much.
    retry_failed : bool
        Compute blocks again that failed every attempt of an earlier run.
    break_lock : bool
        Take the store even if another process seems to write it.
    sharing : tuple of {"none", "trunk", "stack"}, or None
        What `PlannedScan.sharing` says of the model, so that workers need not try it again.
    """

    batch_size: int | None = None
    memory_gb: float | None = None
    device: str | None = None
    share: float = 1.0
    retry_failed: bool = False
    break_lock: bool = False
    sharing: tuple[Sharing, ...] | None = None

    def engine(self, model: Model, scoring: Scoring) -> Engine:
        """Return the engine that computes a scoring with a model, within these limits.

        Parameters
        ----------
        model, scoring
            As for `make_engine`.

        Raises
        ------
        PlanError
            If the device does not know the scoring's precision.
        """
        return make_engine(model, scoring, sharing=self.sharing, **self.limits)

    @property
    def limits(self) -> Limits:
        """What the makers of engines are told of it."""
        return Limits(
            batch_size=self.batch_size, device=self.device, memory_gb=self.memory_gb, share=self.share
        )
