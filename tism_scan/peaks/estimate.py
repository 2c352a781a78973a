"""What the attribution of a set of peaks takes, from a few peaks that are attributed here."""

import logging
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tism_scan.engine.devices import device_name
from tism_scan.genome.alphabet import is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.peaks.engine import PeakEngine, PeakWindows
from tism_scan.peaks.planning import PlannedPeaks
from tism_scan.peaks.worker import fetch_windows
from tism_scan.plan.methods import ISM_METHODS
from tism_scan.scan.execution import Execution
from tism_scan.scan.result import reason_of

_ISM_BP_TIMED = 64
_MOST_TIMED = 64
_LONG_ENOUGH_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PeakEstimate:
    """What was measured.

    Attributes
    ----------
    peaks_per_s : float
        Of one device, such as was used here.
    device : str
        Its name.
    """

    peaks_per_s: float
    device: str


def estimate_peaks(planned: PlannedPeaks, execution: Execution | None = None) -> PeakEstimate | None:
    """Return how fast peaks are attributed on a device of this machine; None if the timed ones cannot be.

    Of ISM, fewer bases are substituted than will be. A model that fails here fails again in its part, where
    that is recorded.

    Parameters
    ----------
    planned : PlannedPeaks
    execution : Execution, optional
        The device, and the size of a batch.
    """
    execution = execution or Execution()
    settings, scale = planned.settings, 1.0
    if settings.method.method in ISM_METHODS and settings.width > _ISM_BP_TIMED:
        timed = replace(settings, width=_ISM_BP_TIMED)
        settings, scale = timed, timed.passes_per_peak / settings.passes_per_peak
    n_peaks = len(planned.peaks)
    with Genome(planned.genome) as genome:
        n_timed = min(_MOST_TIMED, planned.plan.items_per_part)  # a part is computed by itself
        first, last = n_peaks // 2, min(n_peaks, n_peaks // 2 + n_timed)
        windows = fetch_windows(genome, settings, planned.peaks, first, last)
    chosen = np.flatnonzero(is_acgt(windows.codes[:, settings.row]).any(axis=1))
    if not len(chosen):
        return None
    engine = PeakEngine(planned.loaded, settings, execution.batch_size, execution.device)
    n = 1
    try:
        _seconds(engine, windows, chosen[:1])  # to warm up
        while (seconds := _seconds(engine, windows, chosen[:n])) < _LONG_ENOUGH_S and n < len(chosen):
            n = min(len(chosen), 4 * n)
    except Exception as error:  # a user's model may fail in any way
        log.warning("the peaks that were to be timed failed: %s", reason_of(error))
        return None
    finally:
        planned.loaded.to("cpu")
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()  # actors may need it
    return PeakEstimate(scale * n / seconds, device_name(str(engine.device)))


def _seconds(engine: PeakEngine, windows: PeakWindows, chosen: NDArray[np.int64]) -> float:
    """Return how long some windows take."""
    own = PeakWindows(
        windows.codes[chosen],
        [windows.chroms[i] for i in chosen.tolist()],
        [windows.starts[i] for i in chosen.tolist()],
    )
    began = time.perf_counter()
    engine.attribute(own)
    return time.perf_counter() - began
