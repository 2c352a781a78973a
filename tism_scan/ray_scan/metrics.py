"""A scan's progress for Prometheus, through Ray's own export: each name gets ``ray_`` in front."""

import time

import ray.util.client
from ray.util.metrics import Counter, Gauge

from tism_scan.scan.result import ScanResult

EVERY_S = 1.0


class ScanMetrics:
    """Reports to Ray how far a scan is.

    A cluster shows it where its nodes have ``ray[default]``; elsewhere, and for a driver outside the
    cluster, at ``ray://``, nothing is reported.
    """

    def __init__(self) -> None:
        self._is_inside = not ray.util.client.ray.is_connected()  # type: ignore[no-untyped-call]
        if self._is_inside:
            self._bases = Counter("tism_scan_bases", "Bases of finished blocks.")
            self._blocks = Counter("tism_scan_blocks", "Finished blocks.")
            self._pending = Gauge("tism_scan_blocks_pending", "Blocks that are still to be computed.")
            self._failed = Gauge("tism_scan_blocks_failed", "Blocks that were given up.")
            self._actors = Gauge("tism_scan_actors", "Actors that are ready.")
            self._speed = Gauge("tism_scan_actor_bases_per_second", "Of its last block.", tag_keys=("actor",))
        self._shown_at = -EVERY_S
        self._n_bp = self._n_blocks = 0
        self._named: set[str] = set()

    def show(self, result: ScanResult, *, at_once: bool = False) -> None:
        """Report how far a scan is, at most once a second unless `at_once` is set."""
        now = time.monotonic()
        if not self._is_inside or (now - self._shown_at < EVERY_S and not at_once):
            return
        self._shown_at = now
        # A counter refuses 0.
        if result.unit == "bases" and result.n_bp > self._n_bp:
            self._bases.inc(result.n_bp - self._n_bp)
            self._n_bp = result.n_bp
        if result.n_blocks > self._n_blocks:
            self._blocks.inc(result.n_blocks - self._n_blocks)
            self._n_blocks = result.n_blocks
        n_failed = len(result.failed)
        self._pending.set(result.n_blocks_left)
        self._failed.set(n_failed)
        self._actors.set(result.n_workers)
        for actor in self._named - result.bp_per_s.keys():
            self._speed.set(0.0, {"actor": actor})
        for actor, bp_per_s in result.bp_per_s.items():
            self._speed.set(bp_per_s, {"actor": actor})
        self._named = set(result.bp_per_s)
