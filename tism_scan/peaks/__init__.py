"""Attribution of a set of peaks: a window around each, by any method, into a store of its own.

It is carried out by the scan's own loop, in one process or on Ray, in parts of consecutive peaks.
"""

from tism_scan.peaks.attributing import attribute_pending
from tism_scan.peaks.engine import PeakEngine
from tism_scan.peaks.planning import PlannedPeaks, plan_peaks
from tism_scan.peaks.worker import PeakWorker

__all__ = ["PeakEngine", "PeakWorker", "PlannedPeaks", "attribute_pending", "plan_peaks"]
