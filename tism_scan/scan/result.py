"""What becomes of a scan: one type for every executor, kept up to date while the scan goes on."""

from dataclasses import dataclass, field

from tism_scan.errors import InputChangedError, StorageFullError, TismScanError
from tism_scan.progress import Progress, count_of
from tism_scan.scan.work import U, Unit, Work

MAX_ATTEMPTS = 3
# Errors that no other block would be spared: they end the scan, and are charged to none.
ENDS_THE_SCAN = (InputChangedError, StorageFullError)


@dataclass
class ScanResult:
    """How far a scan is, and in the end what it did; one object, updated as the scan goes on.

    What is said of blocks and bases holds for the units of any other work, and what their sizes count.

    Attributes
    ----------
    n_blocks_total, n_bp_total : int
        Blocks that were pending when this run began, and their length.
    n_blocks, n_bp : int
        Blocks that this run finished, and their length.
    n_scored : int
        Bases in them that got a score.
    n_workers : int
        Workers that are ready: Ray's actors, or 1 for a scan in this process.
    bp_per_s : dict of str to float
        How fast each of them computed its last block, by its name.
    failed : dict of str to str
        The error of each block that failed every attempt, by the block's interval.
    was_stopped : bool
        The run ended before everything was tried.
    n_bp_before : int
        The length of the blocks that were not pending: finished or given up by earlier runs.
    unit : str
        What lengths count, in the plural.
    under_way : dict of Unit to float
        The computed share of each block that a worker is at, below 1, where it is known: of those that take
        long.
    """

    n_blocks_total: int = 0
    n_bp_total: int = 0
    n_blocks: int = 0
    n_bp: int = 0
    n_scored: int = 0
    n_workers: int = 0
    bp_per_s: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    was_stopped: bool = False
    n_bp_before: int = 0
    unit: str = "bases"
    under_way: dict[Unit, float] = field(default_factory=dict)

    @property
    def n_blocks_left(self) -> int:
        """Blocks that are neither finished nor failed."""
        return self.n_blocks_total - self.n_blocks - len(self.failed)

    def hear(self, block: Unit, share: float) -> None:
        """Take note of how far a block is that is computed now."""
        self.under_way[block] = max(share, self.under_way.get(block, 0.0))

    def count(self, block: Unit, n_scored: int) -> None:
        """Count a finished block, and the bases in it that got a score."""
        self.n_blocks += 1
        self.n_bp += block.size
        self.n_scored += n_scored

    def give_up(self, store: Work[U], block: U, reason: str, n_attempts: int) -> None:
        """Record, here and in the store, that a block failed every attempt."""
        store.mark_failed(block, reason, n_attempts)
        self.failed[str(block)] = reason

    def progress(self) -> "ScanProgress":
        """Return how far the scan is, with the shares of blocks that are computed now."""
        n_under_way = int(sum(share * block.size for block, share in self.under_way.items()))
        return ScanProgress(
            self.n_bp_before + self.n_bp + n_under_way,
            self.n_bp_before + self.n_bp_total,
            unit=self.unit,
            note=f"{count_of(self.n_workers, 'worker')}, {len(self.failed):,} failed",
            n_before=self.n_bp_before,
            n_blocks=self.n_blocks,
            n_failed=len(self.failed),
            n_workers=self.n_workers,
        )


@dataclass(frozen=True)
class ScanProgress(Progress):
    """How far a scan is, in bases of all its blocks.

    Attributes
    ----------
    n_blocks, n_failed : int
        Blocks that this run finished, and that failed every attempt.
    n_workers : int
        Workers that are ready.
    """

    n_blocks: int = 0
    n_failed: int = 0
    n_workers: int = 0


def reason_of(error: BaseException) -> str:
    """Return why a block failed, in one line: an error of ours as it is, another with its kind."""
    if isinstance(error, TismScanError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:500]}".rstrip(": ")
