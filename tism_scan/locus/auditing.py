"""How far TISM can be trusted for a model: its correlation with exact ISM, and what it saves.

References
----------
Sasse, Chikina, Mostafavi, "Quick and effective approximation of in silico saturation mutagenesis experiments
with first-order Taylor expansion", iScience 2024, doi 10.1016/j.isci.2024.110807: correlations of about 0.7,
and a speed-up of about three times the window's length, since exact ISM takes three forward passes a base.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.attribution import mean_tism
from tism_scan.attribution.agreement import Agreement, Comparison, compare, pearson
from tism_scan.attribution.mutagenesis import predict_substitutions
from tism_scan.engine.devices import default_device, seconds_of
from tism_scan.genome.alphabet import one_hot
from tism_scan.genome.fasta import Genome
from tism_scan.genome.spans import Spans
from tism_scan.locus.sampling import sample_windows
from tism_scan.models.contract import Model
from tism_scan.models.differentiable import check_differentiable
from tism_scan.models.frozen import BATCH_SIZE, outside_inference_mode
from tism_scan.models.probe import check_windows_apart
from tism_scan.plan.labels import names_apart
from tism_scan.plan.scoring import ONE_GRADIENT, checked_path
from tism_scan.plan.tiling import Lattice
from tism_scan.plan.tracks import Track

PAPER_CORRELATION = 0.7
_REPEATS = 3
# Whole passes are timed on so many windows, and bases of each.
_SAMPLE_WINDOWS = 4
_SAMPLE_BP = 16


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes
    ----------
    agreements : tuple of Agreement
        One for each track, over the substitutions of all windows together.
    window_pearson : tuple of float
        For each track, the median over windows of the correlation within a window.
    n_windows, core_bp, input_bp, seed : int
    windows : tuple of (str, int)
        Chrom and start of each window.
    tism_seconds : float
        One track's TISM of one window: a forward and a backward pass. The best of three.
    all_tracks_seconds : float
        All tracks' TISM of one window: a forward pass, and a backward pass each.
    ism_seconds : float
        Exact ISM of all bases of one window by whole forward passes, for any number of tracks; from the best
        of three samples of the substitutions.
    ism_here_seconds : float
        The same as computed here, where models with a trunk take less: what the cores took, times `input_bp`
        over `core_bp`.
    device : str
    path : tuple of float
        Points where TISM's gradients were taken; see `tism_scan.Scoring`.
    approximate, exact : float32 (T, n)
        TISM and the effect of exact ISM, of each substitution in the cores.
    """

    agreements: tuple[Agreement, ...]
    window_pearson: tuple[float, ...]
    n_windows: int
    core_bp: int
    input_bp: int
    seed: int
    windows: tuple[tuple[str, int], ...]
    tism_seconds: float
    all_tracks_seconds: float
    ism_seconds: float
    ism_here_seconds: float
    device: str
    path: tuple[float, ...]
    approximate: NDArray[np.float32] = field(repr=False, compare=False)
    exact: NDArray[np.float32] = field(repr=False, compare=False)

    @property
    def pearson(self) -> float:
        """The median over tracks of the correlation over single substitutions; NaN if no track has one."""
        return _median(each.tism_pearson for each in self.agreements)

    @property
    def speed_up(self) -> float:
        """How many times faster one track's TISM is than exact ISM of a whole window by whole passes."""
        return self.ism_seconds / self.tism_seconds

    @property
    def speed_up_all_tracks(self) -> float:
        """The same for all tracks, which share exact ISM's passes."""
        return self.ism_seconds / self.all_tracks_seconds

    @property
    def theoretical_speed_up(self) -> int:
        """Forward passes of exact ISM for one gradient: three for each base."""
        return 3 * self.input_bp

    def to_json(self) -> dict[str, Any]:
        """Return everything but the values themselves as plain dicts, lists and numbers; NaN is None."""
        described = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("approximate", "exact"):
            del described[name]
        described["agreements"] = [
            {name: _none_if_nan(value) for name, value in asdict(each).items()} for each in self.agreements
        ]
        described["window_pearson"] = [_none_if_nan(value) for value in self.window_pearson]
        described["windows"] = [list(window) for window in self.windows]
        return described | {
            "speed_up": self.speed_up,
            "speed_up_all_tracks": self.speed_up_all_tracks,
            "theoretical_speed_up": self.theoretical_speed_up,
        }


@outside_inference_mode
def audit(
    model: Model,
    genome: Genome,
    tracks: Sequence[Track],
    *,
    paths: Sequence[Sequence[float]] = (ONE_GRADIENT,),
    n_windows: int = 50,
    core_bp: int = 256,
    seed: int = 0,
    spans: Mapping[str, Spans] | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    progress: bool | None = None,
) -> tuple[Audit, ...]:
    """Return how well TISM agrees with exact ISM on windows of a genome, and how much faster it is.

    Parameters
    ----------
    model : Model
        As `tism_scan.models.source.ModelSource.load` returns it. It is moved to the device and frozen.
    genome : Genome
    tracks : sequence of Track
    paths : sequence of sequences of float
        As for `tism_scan.Scoring`; each is compared with the same exact ISM.
    n_windows, core_bp, seed, spans
        As for `tism_scan.locus.sampling.sample_windows`. Exact ISM takes three forward passes for each base
        of each core.
    batch_size : int, optional
        Model inputs in one pass.
    device : str, optional
        A GPU if there is one.
    progress : bool, optional
        As for `tism_scan.attribution.ism`.

    Returns
    -------
    tuple of Audit
        One for each path, in their order.

    Raises
    ------
    RegionError
        If there are not as many windows without N in the core.
    PlanError
        If the core does not fit the model's window.
    ModelError
        If the model cannot be differentiated.
    """
    batch_size, device = batch_size or BATCH_SIZE, device or default_device()
    check_windows_apart(model, batch_size, device)
    check_differentiable(model, model.input_bp, device)
    input_bp, chosen = model.input_bp, list(tracks)
    lattice = Lattice(input_bp, core_bp)
    windows = sample_windows(genome, lattice, n_windows, seed=seed, spans=spans)
    codes = np.stack([genome.fetch(chrom, start, start + input_bp) for chrom, start in windows])
    X = torch.from_numpy(one_hot(codes, model.alphabet)).to(device)
    model = model.to(torch.device(device)).requires_grad_(False).eval()
    positions = torch.arange(lattice.flank, lattice.flank + core_bp, device=X.device)
    checked = [checked_path(path) for path in paths]
    compared = compare(model, X, chosen, positions, checked, batch_size=batch_size, progress=progress)
    whole_pass_s = _seconds_per_whole_pass(model, X, chosen, positions, batch_size)
    exact = _by_track(compared[0].exact, compared[0].is_substitution)
    audits = []
    for path, found in zip(checked, compared, strict=True):
        one_track = _tism_seconds(model, X, chosen[:1], batch_size, path)
        all_tracks = _tism_seconds(model, X, chosen, batch_size, path) if len(chosen) > 1 else one_track
        each = Audit(
            agreements=found.per_track(names_apart(chosen)),
            window_pearson=_window_pearson(found),
            n_windows=n_windows,
            core_bp=core_bp,
            input_bp=input_bp,
            seed=seed,
            windows=tuple(windows),
            tism_seconds=one_track / n_windows,
            all_tracks_seconds=all_tracks / n_windows,
            ism_seconds=whole_pass_s * 3 * input_bp,
            ism_here_seconds=found.ism_seconds * input_bp / core_bp / n_windows,
            device=device,
            path=path,
            approximate=_by_track(found.approximate, found.is_substitution),
            exact=exact,
        )
        audits.append(each)
    return tuple(audits)


def best_of(audits: Sequence[Audit]) -> Audit:
    """Return the audit whose TISM agrees best with exact ISM; the cheapest of those that agree alike."""
    cheapest_first = sorted(audits, key=lambda each: len(each.path))
    return max(cheapest_first, key=lambda each: np.nan_to_num(round(each.pearson, 3), nan=-2.0))


def _tism_seconds(
    model: Model, X: Tensor, tracks: list[Track], batch_size: int, path: Sequence[float]
) -> float:
    """Return the time that mean TISM of all windows takes."""
    return _best_seconds(lambda: mean_tism(model, X, tracks, batch_size=batch_size, path=path), X.device)


def _seconds_per_whole_pass(
    model: Model, X: Tensor, tracks: list[Track], positions: Tensor, batch_size: int
) -> float:
    """Return the time of one of exact ISM's forward passes, the best of three samples of them."""
    sample, positions = X[:_SAMPLE_WINDOWS], positions[:_SAMPLE_BP]
    seconds = _best_seconds(
        lambda: predict_substitutions(
            model, sample, tracks, positions, in_strips=False, batch_size=batch_size, progress=False
        ),
        X.device,
    )
    return seconds / (len(sample) * (1 + 3 * len(positions)))


def _window_pearson(found: Comparison) -> tuple[float, ...]:
    """Return each track's median correlation within a window."""
    by_track = zip(found.approximate.unbind(1), found.exact.unbind(1), strict=True)
    return tuple(_median_pearson(*effects, found.is_substitution) for effects in by_track)


def _median_pearson(approximate: Tensor, exact: Tensor, is_substitution: Tensor) -> float:
    """Return the median correlation within a window of two (N, 4, P); NaN if no window has one."""
    each = [
        pearson(a[mask].cpu().numpy(), b[mask].cpu().numpy())
        for a, b, mask in zip(approximate, exact, is_substitution, strict=True)
    ]
    return _median(each)


def _median(values: Iterable[float]) -> float:
    """Return the median of those that are no NaN; NaN if all are."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else float("nan")


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the time of a call, the best of three."""
    return min(seconds_of(work, device) for _ in range(_REPEATS))


def _by_track(values: Tensor, is_substitution: Tensor) -> NDArray[np.float32]:
    """Return the substitutions of (N, T, 4, P) as (T, n)."""
    by_track: NDArray[np.float32] = values.transpose(0, 1)[:, is_substitution].cpu().numpy()
    return by_track
