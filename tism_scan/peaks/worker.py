"""What attributes parts of a set of peaks, in this process or as one of Ray's actors."""

import time
from functools import partial

import numpy as np

from tism_scan.genome.alphabet import is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.genome.peaks import PeakSet
from tism_scan.models.contract import Model
from tism_scan.peaks.engine import PeakEngine, PeakWindows
from tism_scan.plan.parts import Part
from tism_scan.plan.peak_plan import PeakSettings
from tism_scan.scan.blocks import BlockReport
from tism_scan.scan.work import Plan
from tism_scan.scan.worker import Worker
from tism_scan.store.peak_store import PeakStore


class PeakWorker(Worker[Part, PeakEngine]):
    """Turns parts of a set of peaks into published rows."""

    store: PeakStore

    def open_store(self) -> PeakStore:
        """Return the driver's store."""
        self.store = PeakStore.open(self.setup.store, self.setup.tenure)
        return self.store

    def engine_of(self, model: Model, plan: Plan) -> PeakEngine:
        """Return what attributes windows with the plan's model."""
        execution = self.setup.execution
        return PeakEngine(model, self.store.settings, execution.batch_size, execution.device)

    def process(self, part: Part) -> BlockReport:
        """Attribute a part and publish it, unless `abandon` was called for it.

        Raises
        ------
        LeaseError
            If the store is not the driver's any more; nothing is published then.
        """
        store, began = self.store, time.monotonic()
        windows = fetch_windows(self.genome, store.settings, store.peaks, part.start, part.end)
        scores = self._computed(part, partial(self.engine.attribute, windows))
        codes = windows.codes[:, store.settings.row]
        report = BlockReport(part, int(is_acgt(codes).sum()), time.monotonic() - began)
        self._publish(part, partial(store.publish_rows, part, scores, codes, self.device))
        return report


def fetch_windows(
    genome: Genome, settings: PeakSettings, peaks: PeakSet, start: int, end: int
) -> PeakWindows:
    """Return the windows of the peaks [start, end)."""
    chroms = [peaks.chroms[i] for i in peaks.i_chrom[start:end].tolist()]
    starts = [settings.window_start(center) for center in peaks.centers[start:end].tolist()]
    codes = np.stack(
        [
            genome.fetch(chrom, first, first + settings.input_bp)
            for chrom, first in zip(chroms, starts, strict=True)
        ]
    )
    return PeakWindows(codes, chroms, starts)
