"""How fast an engine scores on a device, and how much of the device that is."""

import logging
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.choice import make_engine
from tism_scan.engine.devices import device_name, seconds_of
from tism_scan.engine.half import dtype_of_products
from tism_scan.engine.head import Product
from tism_scan.engine.limits import Limits
from tism_scan.engine.trunk_engine import PASSES, TrunkEngine
from tism_scan.genome.alphabet import Codes
from tism_scan.models.contract import Model
from tism_scan.models.rounding import rounding
from tism_scan.plan.scoring import Precision, Scoring
from tism_scan.plan.tiling import Block

_FIRST_CORES = 32
_MOST_CORES = 1 << 14
_LONGEST_WARM_UP_S = 5.0
_REPEATS = 5
_SMALLEST_PRODUCT = 256
_LONGEST_PRODUCT_S = 0.25

Way = Callable[[Tensor, Tensor], Callable[[], Tensor]]


def _plain(left: Tensor, right: Tensor) -> Callable[[], Tensor]:
    return lambda: left @ right


def _packed(left: Tensor, right: Tensor) -> Callable[[], Tensor]:
    packed = Product(right, None, right.dtype)
    return lambda: packed(left)


_WAYS: tuple[Way, ...] = (_plain, _packed)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What a benchmark found.

    Attributes
    ----------
    device, engine, precision : str
    n_threads : int
        CPU threads.
    n_tracks, stride : int
    stitch, strands : str
    path : tuple of float
    n_windows : int
        Windows that were timed, after a warm-up.
    seconds : float
        What they took.
    device_seconds : float
        The device's part of it; the rest is the host's work between two blocks.
    flop_per_window : float
        Arithmetic that the method needs; a multiply-add counts as two.
    product_flop_per_s : float
        The device's rate on large matrix products of the same precision, measured in the same run.
    peak_bytes : int
        The device's memory at its fullest; of a CPU, that of the process.
    """

    device: str
    engine: str
    precision: Precision
    n_threads: int
    n_tracks: int
    stride: int
    stitch: str
    strands: str
    path: tuple[float, ...]
    n_windows: int
    seconds: float
    device_seconds: float
    flop_per_window: float
    product_flop_per_s: float
    peak_bytes: int

    @property
    def windows_per_s(self) -> float:
        """Windows scored each second."""
        return self.n_windows / self.seconds

    @property
    def bases_per_s(self) -> float:
        """Bases scored each second, each for all tracks."""
        return self.windows_per_s * self.stride

    @property
    def flop_per_s(self) -> float:
        """Arithmetic of the method done each second."""
        return self.windows_per_s * self.flop_per_window

    @property
    def share(self) -> float:
        """Part of the device's rate on matrix products that the scores got."""
        return self.flop_per_s / self.product_flop_per_s

    def to_json(self) -> dict[str, Any]:
        """Return all figures by name."""
        derived = ("bases_per_s", "flop_per_s", "share")
        return asdict(self) | {name: getattr(self, name) for name in derived}


def bench(
    model: Model,
    scoring: Scoring,
    *,
    seconds: float = 5.0,
    **limits: Unpack[Limits],
) -> Bench:
    """Return how fast random sequence is scored.

    Parameters
    ----------
    model, scoring, limits
        As for `tism_scan.engine.choice.make_engine`.
    seconds : float
        The least time to score for.

    Raises
    ------
    PlanError
        If the device does not know the scoring's precision.
    ScanError
        If a single window is too much for the device's memory.
    """
    engine = make_engine(model, scoring, **limits)
    place = engine.device
    if scoring.precision == "bf16" and not isinstance(engine, TrunkEngine):  # which imitates it in float32
        slowness = slowness_of_bfloat16(place)
        if slowness > 1:
            log.warning(
                "this device has no fast bfloat16: its products take %.0f times as long as in float32; use "
                "--precision fp32",
                slowness,
            )
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    codes = np.random.default_rng(0).integers(0, 4, 1 << 20).astype(np.uint8)
    timed = time_windows(engine, codes, seconds)
    return Bench(
        device=device_name(str(place)),
        engine=engine.name,
        precision=scoring.precision,
        n_threads=torch.get_num_threads(),
        n_tracks=len(scoring.tracks),
        stride=scoring.stride,
        stitch=scoring.stitch,
        strands=scoring.strands,
        path=scoring.path,
        n_windows=timed.n_windows,
        seconds=timed.seconds,
        device_seconds=timed.device_seconds,
        flop_per_window=engine.flop_per_window(),
        product_flop_per_s=product_rate(place, scoring.precision),
        peak_bytes=_peak_bytes(place),
    )


@dataclass(frozen=True)
class Timed:
    """How many windows were scored, and the time they took: in all, and the device's part of it."""

    n_windows: int
    seconds: float
    device_seconds: float

    @property
    def windows_per_s(self) -> float:
        """Windows scored each second."""
        return self.n_windows / self.seconds


def time_windows(engine: Engine, codes: Codes, seconds: float) -> Timed:
    """Return how many windows of a sequence were scored, and the time they took, after a warm-up.

    Parameters
    ----------
    engine : Engine
    codes : uint8 (L,)
        At least one window long; cut if too long, repeated if too short.
    seconds : float
        Twice as many cores are scored until this is reached; from the size of large blocks on, one block
        after another.
    """
    n_cores = _FIRST_CORES if _timed(engine, codes, 1).seconds <= _LONGEST_WARM_UP_S else 1
    if n_cores > 1:
        _timed(engine, codes, n_cores)
    last = _timed(engine, codes, n_cores)
    while last.seconds < seconds and n_cores < _MOST_CORES:
        n_cores *= 2
        last = _timed(engine, codes, n_cores)
    blocks = [last]
    while sum(block.seconds for block in blocks) < seconds:
        blocks.append(_timed(engine, codes, n_cores))
    return Timed(
        n_windows=sum(block.n_windows for block in blocks),
        seconds=sum(block.seconds for block in blocks),
        device_seconds=sum(block.device_seconds for block in blocks),
    )


def _timed(engine: Engine, codes: Codes, n_cores: int) -> Timed:
    """Return how many windows a block of some cores needs, and the time it takes."""
    lattice = engine.scoring.lattice
    block = Block("sample", 0, 0, n_cores * lattice.stride)
    stretch = lattice.stretch(block, len(block) + lattice.input_bp, engine.scoring.stitch)
    part, wanted = np.resize(codes, stretch.end - stretch.start), np.ones(len(block), dtype=np.bool_)
    began = time.perf_counter()
    queued = engine.queue(part, stretch, wanted)
    queued.scores()
    return Timed(stretch.n_windows, time.perf_counter() - began, queued.seconds())


def product_rate(device: torch.device, precision: Precision) -> float:
    """Return a device's rate, FLOP/s, on large matrix products of a precision's backward pass.

    Products are as large as 2,048 rows (8,192 on a GPU), unless one takes so long that a smaller one must do.
    """
    dtype, n = dtype_of_products(PASSES[precision].backward, device), _SMALLEST_PRODUCT
    largest = 8192 if device.type == "cuda" else 2048
    with rounding(device, to_tf32=precision == "tf32"):
        way = min(_WAYS, key=lambda way: _product_s(way, device, dtype, n, 1))
        while n < largest and 8 * _product_s(way, device, dtype, n, 1) <= _LONGEST_PRODUCT_S:
            n *= 2
        return 2 * n**3 / _product_s(way, device, dtype, n, _REPEATS)


def slowness_of_bfloat16(device: torch.device) -> float:
    """Return how many times as long as in float32 a small product takes in bfloat16.

    Processors without instructions for it imitate it, at a small part of their rate.
    """
    n = _SMALLEST_PRODUCT if device.type == "cpu" else 4096  # a GPU takes as long to begin a small one
    with rounding(device, to_tf32=False):
        imitated, float32 = (
            _product_s(_plain, device, dtype, n, _REPEATS) for dtype in (torch.bfloat16, torch.float32)
        )
    return imitated / float32


def _product_s(way: Way, device: torch.device, dtype: torch.dtype, n: int, repeats: int) -> float:
    """Return the least time that a product of two n x n matrices takes, after a warm-up."""
    left, right = (torch.randn((n, n), device=device).to(dtype) for _ in range(2))
    product = way(left, right)
    with torch.no_grad():
        product()
        return min(seconds_of(product, device) for _ in range(repeats))


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
