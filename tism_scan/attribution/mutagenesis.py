"""Exact in-silico mutagenesis (ISM): every substitution, one forward pass each."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tism_scan.attribution.strips import LEAST_POSITIONS, Nearby, nearby
from tism_scan.attribution.transforms import Array, check_input, check_one_hot, like
from tism_scan.engine.readout import Tracks, track_outputs, values_of_tracks
from tism_scan.models.ensemble import MeanOf, mean_of
from tism_scan.models.frozen import BATCH_SIZE, check_batch_size, dtype_of, frozen
from tism_scan.plan.scoring import minus_mean_effect

Output = Literal["effect", "prediction", "centered", "mean_effect"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
PATIENCE_S = 3.0


def ism(
    model: nn.Module,
    X: Array,
    tracks: Tracks = None,
    *,
    start: int | None = None,
    end: int | None = None,
    output: Output = "effect",
    batch_size: int = BATCH_SIZE,
    device: str | torch.device | None = None,
    progress: bool | None = None,
) -> Array:
    """Return the effect of every substitution on each track, by running the model on each.

    Parameters
    ----------
    model, X, tracks, batch_size, device
        As for `tism_scan.attribution.gradient`; X must be one-hot. All tracks are read off the same pass.
    start, end : int, optional
        Positions to mutate, `[start, end)` in bp of X, counted like a Python slice: negative from the end,
        and by default all of them, the last base included.
    output : {"effect", "prediction", "centered", "mean_effect"}
        With f the track, x the input and x[b, l] the input with base b at position l:
        ``prediction``: f(x[b, l]), and f(x) at the reference base;
        ``effect``: f(x[b, l]) - f(x), 0 at the reference base, comparable to TISM;
        ``centered``: effect less its mean over the four bases, comparable to the corrected gradient;
        ``mean_effect``: minus the mean effect of the three substitutions, comparable to mean TISM.
    progress : bool, optional
        Whether to show a bar on stderr; by default once the work has taken 3 seconds.

    Returns
    -------
    float32 (N, T, 4, end - start), for ``mean_effect`` (N, T, end - start); NumPy or torch like `X`
        In units of the output. ``effect`` is negative where a substitution lowers the output,
        ``mean_effect`` positive where the reference base supports it. NaN at N, but for ``prediction``,
        which puts each base in the N's place.

    Raises
    ------
    ValueError
        If X is not one-hot (N, 4, L), the output is unknown, the range is empty, or the batch size is
        below 1.
    TrackError
        If a track is no output of the model.
    InputError
        If the device is not there.
    """
    x = check_input(X)
    check_one_hot(x)
    if output not in OUTPUTS:
        raise ValueError(f"output {output!r} is unknown; expected one of {', '.join(OUTPUTS)}")
    length = x.shape[2]
    positions = torch.arange(length)[start:end].to(x.device)
    if len(positions) == 0:
        raise ValueError(
            f"start {start} and end {end} leave no base of {length}; expected start < end, as in a slice"
        )
    predictions, at_reference = predict_substitutions(
        model,
        x,
        tracks,
        positions,
        fills_n=output == "prediction",
        batch_size=batch_size,
        device=device,
        progress=progress,
    )
    if output == "prediction":
        return like(predictions, X)
    is_n = (x[:, :, positions] == 0).all(1)[:, None, None, :]  # (N, 1, 1, P)
    effect = (predictions - at_reference[:, :, None, None]).masked_fill(is_n, torch.nan)
    if output == "mean_effect":
        return like(minus_mean_effect(effect), X)
    return like(effect - effect.mean(2, keepdim=True) if output == "centered" else effect, X)


def predict_substitutions(
    model: nn.Module,
    X: Tensor,
    tracks: Tracks,
    positions: Tensor,
    *,
    fills_n: bool = False,
    in_strips: bool = True,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device | None = None,
    progress: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Return each track's value for every base at some positions, and for the inputs as they are.

    Parameters
    ----------
    X : float32 (N, 4, L)
        One-hot, all zeros at N.
    positions : int64 (P,)
        On X's device.
    fills_n : bool
        Whether to put bases in the place of an N too; else its value is that of the input as it is.
    in_strips : bool
        Whether many positions may be computed by strips of the model, where it allows that.

    Returns
    -------
    predictions : float32 (N, T, 4, P)
    at_reference : float32 (N, T)
    """
    if isinstance(model, MeanOf):  # each by itself, since some share what substitutions do not change
        how: dict[str, Any] = {"fills_n": fills_n, "in_strips": in_strips, "batch_size": batch_size}
        of_members = [
            predict_substitutions(member, X, tracks, positions, **how, device=device, progress=progress)
            for member in model.members
        ]
        predicted, references = zip(*of_members, strict=True)
        return mean_of(predicted), mean_of(references)
    check_batch_size(batch_size)
    region = X[:, :, positions]  # (N, 4, P)
    is_variant = region == 0
    if not fills_n:
        is_variant &= region.any(1, keepdim=True)
    variants = is_variant.nonzero()  # (V, 3): sequence, channel, index into positions
    with frozen(model, device) as place, torch.no_grad(), _bar(len(X) + len(variants), progress) as advance:
        passes = _Passes(model, tracks, place, dtype_of(model), advance)
        at_reference = torch.cat([passes.predict(batch) for batch in torch.split(X, batch_size)])
        shape = (len(X), 4, len(positions), at_reference.shape[1])
        predictions = at_reference[:, None, None, :].expand(shape).clone()
        has_many = in_strips and len(positions) >= LEAST_POSITIONS
        strips = passes.strips(X[:1], at_reference[:1]) if has_many else None
        if strips is None:
            for rows in torch.split(variants, batch_size):
                predictions[tuple(rows.T)] = passes.predict(_substituted(X, rows, positions))
        else:
            for rows, effects in passes.by_strips(strips, X, variants, positions, batch_size):
                predictions[tuple(rows.T)] += effects
    return predictions.permute(0, 3, 1, 2).contiguous(), at_reference


@dataclass(frozen=True)
class _Passes:
    """Forward passes of a model, which is frozen where `place` says, counted as they are done."""

    model: nn.Module
    tracks: Tracks
    place: torch.device
    dtype: torch.dtype
    advance: Callable[[int], None]

    def predict(self, X: Tensor) -> Tensor:
        """Return the tracks, float32 (N, T), of inputs (N, 4, L), on their device."""
        n = len(X)
        # a single input would be rounded by other kernels than many, and an effect is the small difference
        # of two predictions
        batch = X.expand(2, -1, -1) if n == 1 else X
        values = track_outputs(self.model, batch.to(self.place, self.dtype), self.tracks)[:n]
        self.advance(n)
        return values.to(X.device, torch.float32)

    def strips(self, x: Tensor, outputs: Tensor) -> Nearby | None:
        """Return what computes only strips of the model, if an input and its tracks show that it may."""
        return nearby(
            self.model,
            x.to(self.place, self.dtype),
            lambda heads: values_of_tracks(heads, self.tracks),
            outputs.to(self.place, self.dtype),
        )

    def by_strips(
        self, strips: Nearby, X: Tensor, variants: Tensor, positions: Tensor, batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield some of the variants, (n, 3), and the effects of each, float32 (n, T), on X's device."""
        for i in torch.unique(variants[:, 0]).tolist():
            rows = variants[variants[:, 0] == i]
            rows = rows[rows[:, 2].argsort(stable=True)]  # neighbours change the same of a head's inputs
            sequence = X[i : i + 1].to(self.place, self.dtype)
            channels, at = rows[:, 1].to(self.place), positions[rows[:, 2]].to(self.place)
            n_done = 0
            for effects in strips.effects(sequence, channels, at, batch_size):
                yield rows[n_done : n_done + len(effects)], effects.to(X.device, torch.float32)
                n_done += len(effects)
                self.advance(len(effects))


def _substituted(X: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Return the sequences of some rows (sequence, channel, index into positions), (n, 4, L), substituted."""
    sequence, channel, i_position = rows.T
    mutants = X[sequence]
    each = torch.arange(len(rows), device=X.device)
    mutants[each, :, positions[i_position]] = 0
    mutants[each, channel, positions[i_position]] = 1
    return mutants


@contextmanager
def _bar(n_passes: int, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """Yield what counts passes on a bar: shown at once, never, or (None) when patience ends."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("ISM, passes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    has_widgets = find_spec("ipywidgets") is not None  # without them rich shows a warning in notebooks
    console = Console(stderr=True, force_jupyter=None if has_widgets else False)
    bar = Progress(*columns, console=console, disable=progress is False)
    task = bar.add_task("ISM", total=n_passes)
    begin = time.monotonic()
    is_shown = bool(progress)
    if is_shown:
        bar.start()

    def advance(n: int) -> None:
        nonlocal is_shown
        if not is_shown and time.monotonic() - begin > PATIENCE_S:
            is_shown = True
            bar.start()
        bar.advance(task, n)

    try:
        yield advance
    finally:
        if is_shown:
            bar.stop()
