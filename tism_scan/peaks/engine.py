"""From the windows of some peaks to their rows of values."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from tism_scan.engine.block_engine import check_finite
from tism_scan.engine.devices import default_batch_size, default_device
from tism_scan.engine.fitting import FittingBatches
from tism_scan.genome.alphabet import Codes, is_acgt
from tism_scan.locus.values import attribute_codes, cannot_be_shuffled
from tism_scan.models.contract import Model
from tism_scan.models.differentiable import check_differentiable
from tism_scan.plan.methods import ISM_METHODS, N_REFERENCES
from tism_scan.plan.peak_plan import PeakSettings

_BYTES_AT_ONCE = 256 << 20  # of what a method returns


@dataclass(frozen=True)
class PeakWindows:
    """The windows of some peaks.

    Attributes
    ----------
    codes : uint8 (n, input_bp)
        `N_CODE` past the chroms' ends.
    chroms : list of str
    starts : list of int
        Where each window starts on its chrom, 0-based.
    """

    codes: Codes
    chroms: list[str]
    starts: list[int]


class PeakEngine(FittingBatches):
    """A model on its device, and what is asked of it for each peak.

    Parameters
    ----------
    model : Model
        It is moved to the device and frozen.
    settings : PeakSettings
    batch_size : int, optional
        Model inputs in one pass, halved where the memory is full. It changes the time, not the values, but
        for their last bits.
    device : str, optional
        Where to compute; a GPU if there is one.

    Raises
    ------
    ModelError
        If the model cannot be differentiated, and the method needs it.
    """

    def __init__(
        self, model: Model, settings: PeakSettings, batch_size: int | None = None, device: str | None = None
    ) -> None:
        self.device = torch.device(device or default_device())
        self.model = model.to(self.device).requires_grad_(False).eval()
        self.settings, self.batch_size = settings, batch_size or default_batch_size(device)
        if settings.method.method not in ISM_METHODS:
            check_differentiable(self.model, model.input_bp)

    @property
    def windows_at_once(self) -> int:
        """How many windows are attributed by one call."""
        method, n_tracks = self.settings.method, len(self.settings.method.tracks)
        n_bp = self.settings.width if method.method in ISM_METHODS else self.settings.input_bp
        if method.method == "deepliftshap":
            n_bp *= N_REFERENCES
        fitting = max(1, _BYTES_AT_ONCE // (16 * n_bp * n_tracks))
        wanted = self.batch_size // N_REFERENCES if method.method == "deepliftshap" else self.batch_size
        return max(1, min(wanted, fitting))

    def attribute(self, windows: PeakWindows) -> NDArray[np.float32]:
        """Return the rows of some peaks.

        Returns
        -------
        float32 (n, T, 4, width) in A, C, G, T order, or (n, T, width) for methods with one value a base
            0 at bases that are not A, C, G or T, and all over a row whose window cannot be shuffled, if the
            method is ``deepliftshap``.

        Raises
        ------
        ScanError
            If the model gives NaN or infinity, or one window is too much for the device's memory.
        """
        row = self.settings.row
        is_base = is_acgt(windows.codes[:, row])
        rows = np.zeros((len(windows.codes), *self.settings.row_shape), dtype=np.float32)
        attributed = np.flatnonzero(is_base.any(axis=1))
        while len(attributed):
            values = self._fitted(partial(self._first_values, windows.codes, attributed))
            here, attributed = attributed[: len(values)], attributed[len(values) :]
            rows[here] = values
        rows[~np.broadcast_to(np.expand_dims(is_base, tuple(range(1, rows.ndim - 1))), rows.shape)] = 0
        for i in np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)).tolist():
            remedy = "expected finite numbers; check the weights"
            check_finite(rows[i], is_base[i], windows.chroms[i], windows.starts[i] + row.start, remedy=remedy)
        return rows

    def _too_large(self, memory: str) -> str:
        return f"a window does not fit {memory}; use a larger device"

    def _first_values(self, codes: Codes, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows of the first of the chosen windows, as many as are attributed by one call."""
        return self._values(codes[chosen[: self.windows_at_once]])

    def _values(self, codes: Codes) -> NDArray[np.float32]:
        """Return the rows of windows, float32 (n, *row_shape); 0 of those that cannot be shuffled."""
        row, method = self.settings.row, self.settings.method
        try:
            return attribute_codes(self.model, codes, method, row.start, row.stop, batch_size=self.batch_size)
        except ValueError as error:
            if not cannot_be_shuffled(error):
                raise
        if len(codes) == 1:
            return np.zeros((1, *self.settings.row_shape), dtype=np.float32)
        return np.concatenate([self._values(one[None]) for one in codes])
