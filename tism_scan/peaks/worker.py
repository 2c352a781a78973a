"""What attributes parts of a set of peaks, in this process or as one of Ray's actors."""

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.alphabet import Codes, is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.genome.peaks import PeakSet
from tism_scan.models.contract import Model
from tism_scan.peaks.engine import PeakEngine, PeakWindows
from tism_scan.plan.parts import Part
from tism_scan.plan.peak_plan import PeakSettings
from tism_scan.scan.part_worker import PartWorker
from tism_scan.scan.work import Plan
from tism_scan.store.peak_store import PeakStore

PeakRows = tuple[NDArray[np.float32], Codes]  # values, (n, *row_shape), and sequence, (n, width)


class PeakWorker(PartWorker[PeakEngine, PeakWindows, PeakRows]):
    """Turns parts of a set of peaks into published rows."""

    store: PeakStore
    store_class = PeakStore

    def engine_of(self, model: Model, plan: Plan) -> PeakEngine:
        """Return what attributes windows with the plan's model."""
        execution = self.setup.execution
        return PeakEngine(model, self.store.settings, execution.batch_size, execution.device)

    def fetch(self, part: Part) -> PeakWindows:
        """Return the windows of a part's peaks."""
        return fetch_windows(self.genome, self.store.settings, self.store.peaks, part.start, part.end)

    def compute(self, fetched: PeakWindows) -> tuple[PeakRows, int]:
        """Return a part's rows, and how many of their bases have values."""
        codes = fetched.codes[:, self.store.settings.row]
        return (self.engine.attribute(fetched), codes), int(is_acgt(codes).sum())

    def publish(self, part: Part, results: PeakRows) -> None:
        """Write the rows of a part into the store."""
        self.store.publish_rows(part, *results, self.device)


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
