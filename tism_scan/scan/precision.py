"""Which precision suits a scan on GPUs: the cheapest whose scores agree with float32, by trial.

Weights decide what a rounded forward pass costs, so it is measured with the scan's own, on windows of its own
genome. A CPU imitates the rounding of a GPU, so that the choice does not depend on where it is made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tism_scan.engine.block_engine import Engine
from tism_scan.engine.choice import Sharing, make_engine
from tism_scan.engine.devices import default_device, device_name, free_cached_memory, why_not_usable
from tism_scan.engine.half import sums_in_float32
from tism_scan.genome.fasta import Genome
from tism_scan.genome.spans import Spans
from tism_scan.models.contract import Model
from tism_scan.models.frozen import frozen
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Precision
from tism_scan.plan.tiling import Block
from tism_scan.plan.tracks import Track
from tism_scan.progress import steps
from tism_scan.scan.blocks import BlockInput, fetch_block

# From the cheapest up; float32 is the last resort. TF32 is left out: with two products each way it costs as
# much as "split" with three and one, and rounds more.
CANDIDATES: tuple[Precision, ...] = ("bf16", "fp16", "split", "mixed")
LEAST_PEARSON = 0.9999
SEED = 0
MOST_TRACKS = 16
MOST_WINDOWS, FEWEST_WINDOWS = 256, 32
FEWEST_BASES = 1_000  # on fewer, a correlation says little, and float32 costs little
CORES_AT_A_PLACE = 16  # neighbours, since they share a trunk
# In one precision, about ten seconds of two CPU cores. It is no measurement, so that the choice is the same
# on every machine.
MOST_FLOP = 1e12


@dataclass(frozen=True)
class Agreement:
    """How well the scores of one precision agree with those of float32.

    Attributes
    ----------
    precision : str
    pearson : float
        Pearson's correlation of mean TISM in the track where it is lowest; 0 where it is not defined.
    track : str
        That track.
    """

    precision: Precision
    pearson: float
    track: str

    def __str__(self) -> str:
        digits = np.floor(self.pearson * 1e6) / 1e6  # rounded down, never up to what it does not reach
        return f"{self.precision} {digits:.6f} ({self.track})"


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision that was chosen, and the figures that decided.

    Attributes
    ----------
    precision : str
    agreements : tuple of Agreement
        Of the precisions that were tried, from the cheapest up to the first that is good enough.
    n_windows, n_bases, n_tracks : int
        Windows whose cores were compared, their bases that have a score, and tracks.
    seed : int
        Of the choice of windows and tracks.
    device : str
        What computed the scores.
    """

    precision: Precision
    agreements: tuple[Agreement, ...]
    n_windows: int
    n_bases: int
    n_tracks: int
    seed: int
    device: str

    def __str__(self) -> str:
        if self.n_bases < FEWEST_BASES:
            return f"precision {self.precision}: {self.n_bases:,} bases are too few to compare others on"
        tried = ", ".join(map(str, self.agreements))
        return (
            f"precision {self.precision}, the cheapest with a Pearson of {LEAST_PEARSON} to float32 in "
            f"each track (tracks compared: {self.n_tracks:,}, windows: {self.n_windows:,}); the worst track: "
            f"{tried or 'none'}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the choice as plain lists, dicts, strings and numbers."""
        return asdict(self) | {"agreements": [asdict(each) for each in self.agreements]}

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "PrecisionChoice":
        """Return the choice that `to_json` described."""
        tried = tuple(Agreement(**each) for each in described["agreements"])
        return cls(**{**described, "agreements": tried})


def cheapest_precision(
    model: Model, genome: Genome, plan: ScanPlan, sharing: Sequence[Sharing]
) -> PrecisionChoice:
    """Return the cheapest precision whose mean TISM agrees with float32 in every track of a plan.

    It is computed on a GPU where there is one; a CPU imitates the rounding.

    Parameters
    ----------
    model : Model
        Of the plan, on the CPU, and such that the trunk engine takes it. It is put back as it was.
    genome : Genome
    plan : ScanPlan
        Its precision does not matter.
    sharing : sequence of "stack"
        From `tism_scan.engine.choice.sharing_of`.

    Raises
    ------
    ScanError
        If a single window is too much for the device's memory.
    """
    has_gpu = default_device() == "cuda" and why_not_usable("cuda") is None
    device = "cuda" if has_gpu else "cpu"
    scoring = replace(plan.scoring, tracks=_some(plan.scoring.tracks), values="mean", precision="fp32")
    with frozen(model, device):
        steps.info("scoring a sample of the genome in float32, to choose the precision")
        engine = make_engine(model, scoring, device=device, sharing=sharing)
        n_windows = max(FEWEST_WINDOWS, min(MOST_WINDOWS, int(MOST_FLOP / engine.flop_per_window())))
        sample = sampled_blocks(genome, plan, n_windows)
        exact = _scores(engine, sample)
        del engine  # and its copies of the weights, before those of the next
        n_windows = sum(_n_cores(each, scoring.stride) for each in sample)

        def agreement_of(precision: Precision) -> Agreement:
            steps.info("comparing precision %s with float32", precision)
            of_precision = replace(scoring, precision=precision)
            rounded = make_engine(model, of_precision, device=device, sharing=sharing)
            pearson = pearson_of_tracks(exact, _scores(rounded, sample))
            worst = int(np.argmin(pearson))
            return Agreement(precision, float(pearson[worst]), _label(scoring.tracks[worst]))

        precision: Precision = "fp32"
        agreements: tuple[Agreement, ...] = ()
        if exact.shape[1] >= FEWEST_BASES:
            precision, agreements = first_that_agrees(agreement_of)
    free_cached_memory()  # which actors on this machine want
    return PrecisionChoice(
        precision,
        agreements,
        n_windows=n_windows,
        n_bases=exact.shape[1],
        n_tracks=len(scoring.tracks),
        seed=SEED,
        device=device_name(device),
    )


def first_that_agrees(
    agreement_of: Callable[[Precision], Agreement],
) -> tuple[Precision, tuple[Agreement, ...]]:
    """Return the cheapest precision that agrees with float32, else float32 itself, and what was tried."""
    tried: list[Agreement] = []
    for precision in CANDIDATES:
        if precision in ("split", "fp16") and not sums_in_float32():
            continue  # a GPU cannot compute it with this PyTorch
        tried.append(agreement_of(precision))
        if tried[-1].pearson >= LEAST_PEARSON:
            return precision, tuple(tried)
    return "fp32", tuple(tried)


def pearson_of_tracks(exact: NDArray[np.float32], rounded: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return Pearson's correlation of two precisions' scores, (T, n), for each track, float64 (T,).

    Equal scores have 1, though all be the same. Else it is 0 where it is not defined: where scores of a track
    are all the same, or NaN or infinite.
    """
    if not exact.size:
        return np.ones(len(exact))
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (_centred(each.astype(np.float64)) for each in (exact, rounded))
        correlation: NDArray[np.float64] = (x * y).sum(axis=1) / np.sqrt(
            (x * x).sum(axis=1) * (y * y).sum(axis=1)
        )
    correlation[~np.isfinite(correlation)] = 0.0
    correlation[(exact == rounded).all(axis=1)] = 1.0
    return correlation


def sampled_blocks(genome: Genome, plan: ScanPlan, n_windows: int) -> list[BlockInput]:
    """Return short blocks of a plan, drawn by their wanted bases, whose cores have about so many windows.

    There are fewer if the plan has, and none without a base to score.

    Parameters
    ----------
    genome : Genome
    plan : ScanPlan
    n_windows : int
    """
    stride, arrays = plan.scoring.stride, list(plan.arrays)
    length_bp = CORES_AT_A_PLACE * stride
    ends = np.cumsum([plan.spans(array).n_bases for array in arrays])
    # RandomState, since its numbers stay the same in every release of NumPy.
    drawn = np.random.RandomState(SEED).randint(plan.n_wanted, size=n_windows, dtype=np.int64)
    found: dict[tuple[str, int], BlockInput] = {}
    n_found = 0
    for i_base in drawn.tolist():
        i_array = int(np.searchsorted(ends, i_base, side="right"))
        array, n_before = arrays[i_array], int(ends[i_array - 1]) if i_array else 0
        start = position_of(plan.spans(array), i_base - n_before) // length_bp * length_bp
        if n_found >= n_windows or (array, start) in found:
            continue
        end = min(start + length_bp, plan.arrays[array])
        block = fetch_block(genome, plan, Block(array, 0, start, end))
        n_cores = _n_cores(block, stride)
        if n_cores:
            found[array, start], n_found = block, n_found + n_cores
    return list(found.values())


def position_of(spans: Spans, i_base: int) -> int:
    """Return the position of one of the bases in spans, which are counted from 0."""
    n_until = np.cumsum(spans.ends - spans.starts)
    i_span = int(np.searchsorted(n_until, i_base, side="right"))
    return int(spans.ends[i_span] - (n_until[i_span] - i_base))


def _n_cores(block: BlockInput, stride: int) -> int:
    """Return how many cores of a block have a base to score."""
    return len(np.unique(np.flatnonzero(block.is_scored) // stride))


def _some(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """Return the tracks to compare: all, or a seeded sample of many."""
    if len(tracks) <= MOST_TRACKS:
        return tuple(tracks)
    drawn = np.random.RandomState(SEED).permutation(len(tracks))[:MOST_TRACKS]
    return tuple(tracks[i] for i in sorted(drawn.tolist()))


def _label(track: Track) -> str:
    """Return a track's name, with its output's index if that is not the name."""
    return track.name if track.key == track.name else f"{track.key} {track.name}"


def _scores(engine: Engine, sample: Sequence[BlockInput]) -> NDArray[np.float32]:
    """Return the scores of a sample's bases, float32 (T, n)."""
    none = np.zeros((len(engine.scoring.tracks), 0), dtype=np.float32)
    parts = [engine.score(each.codes, each.stretch, each.wanted)[:, each.is_scored] for each in sample]
    return np.concatenate([none, *parts], axis=1)


def _centred(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores, (T, n), less their mean, of 1 at most, so that squares neither vanish nor overflow."""
    scores = scores - scores.mean(axis=1, keepdims=True)
    scaled: NDArray[np.float64] = scores / np.abs(scores).max(axis=1, keepdims=True)
    return scaled
