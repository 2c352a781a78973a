"""A model's outputs on the reference and the alternative windows of many alleles."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.effects.haplotypes import Comparison
from tism_scan.effects.packing import Packed
from tism_scan.effects.sharing import shared_values
from tism_scan.engine.cost import bytes_per_bp
from tism_scan.engine.devices import default_batch_size, default_device
from tism_scan.engine.fitting import FittingBatches
from tism_scan.engine.layers import Passes
from tism_scan.engine.limits import Limits, budget_of
from tism_scan.engine.queue import to_device
from tism_scan.engine.sharing import why_no_stack
from tism_scan.engine.trunk import gapless_layers, total_stride
from tism_scan.genome.alphabet import channel_of_base, complement_channels, one_hot_table
from tism_scan.models.contract import Model
from tism_scan.models.ensemble import members_of
from tism_scan.models.frozen import check_batch_size, frozen
from tism_scan.models.outputs import flat_outputs
from tism_scan.models.rounding import rounding
from tism_scan.plan.scoring import Scoring
from tism_scan.refine.changes import trunk_and_head
from tism_scan.refine.heads import ChangedHead

_MOST_ON_CPU = 64  # alleles together; more of them share hardly more, and take memory
_MOST_ON_GPU = 512

Outputs = NDArray[np.float32]


def outputs_of(scoring: Scoring) -> list[int]:
    """Return the outputs that any track is made of, sorted."""
    return sorted({output for track in scoring.tracks for output in track.outputs})


class EffectEngine(FittingBatches):
    """Computes outputs on pairs of windows. Only the outputs that any track is made of are returned.

    Parameters
    ----------
    model : Model
        It is moved to the device and frozen.
    scoring : Scoring
        Its tracks, window and strands; with both, outputs are the mean of the window's and of its reverse
        complement's.
    limits
        See `tism_scan.engine.limits.Limits`; a batch is of alleles.
    """

    def __init__(self, model: Model, scoring: Scoring, **limits: Unpack[Limits]) -> None:
        device = limits.get("device")
        batch_size = limits.get("batch_size") or default_batch_size(device)
        check_batch_size(batch_size)
        self.device = torch.device(device or default_device())
        self.model = model.to(self.device).requires_grad_(False).eval()
        self.batch_size, self._scoring = batch_size, scoring
        self._outputs = torch.tensor(outputs_of(scoring), device=self.device)
        alphabet = model.alphabet
        self._one_hot = torch.from_numpy(one_hot_table(alphabet)).to(self.device)
        self._channel_of_base = torch.from_numpy(channel_of_base(alphabet)).to(self.device)
        self._complement = torch.from_numpy(complement_channels(alphabet)).to(self.device)

    def outputs(self, comparisons: Sequence[Comparison]) -> tuple[Outputs, Outputs]:
        """Return the outputs on reference windows, and their changes in the alternative ones.

        Parameters
        ----------
        comparisons : sequence of Comparison
            Neighbours are best together.

        Returns
        -------
        reference, change : float32 (n, O)
            In the model's own units; a change is negative where the alternative lowers the output.

        Raises
        ------
        ScanError
            If a single pair is too much for the device's memory.
        """
        found: list[tuple[Outputs, Outputs]] = []
        n_done = 0
        with frozen(self.model), rounding(self.device, to_tf32=False), torch.no_grad():
            while n_done < len(comparisons):
                found.append(self._fitted(partial(self._outputs_from, comparisons, n_done)))
                n_done += len(found[-1][0])
        empty = np.empty((0, len(self._outputs)), dtype=np.float32)
        reference, change = zip(*found, strict=True) if found else ([empty], [empty])
        return np.concatenate(reference), np.concatenate(change)

    def _outputs_from(self, comparisons: Sequence[Comparison], first: int) -> tuple[Outputs, Outputs]:
        """Return the outputs of a batch of pairs, and their changes, on the host."""
        reference, change = self._both_strands(comparisons[first : first + self.batch_size])
        return reference.float().cpu().numpy(), change.float().cpu().numpy()

    def _too_large(self, memory: str) -> str:
        return f"two windows do not fit {memory}; use a larger device"

    def _both_strands(self, batch: Sequence[Comparison]) -> tuple[Tensor, Tensor]:
        packed = Packed(batch)
        reference, change = self._strand(packed, is_reverse=False)
        if self._scoring.strands == "both":
            others = self._strand(packed, is_reverse=True)
            reference, change = (reference + others[0]) / 2, (change + others[1]) / 2
        return reference, change

    @abstractmethod
    def _strand(self, packed: Packed, *, is_reverse: bool) -> tuple[Tensor, Tensor]:
        """Return outputs on reference windows and their changes, (n, O), of one strand."""

    def _encoded(self, codes: NDArray[np.uint8], *, is_reverse: bool) -> Tensor:
        """Return codes (N, L) as the model reads them, float32 (N, 4, L), or their reverse complement."""
        X = self._one_hot[to_device(codes, self.device).long()].transpose(1, 2)
        return (X.flip(2)[:, self._complement] if is_reverse else X).contiguous()

    def _chosen(self, outputs: Tensor) -> Tensor:
        """Return the outputs that are asked for, (N, O)."""
        return flat_outputs(outputs)[:, self._outputs]


class WindowEffects(EffectEngine):
    """Outputs of any model, whole windows of it; alleles of one place share their reference window."""

    def _strand(self, packed: Packed, *, is_reverse: bool) -> tuple[Tensor, Tensor]:
        windows = packed.windows()
        outputs = self._predicted(windows, is_reverse=is_reverse)
        reference = outputs[packed.references]
        alternative = outputs[packed.alternatives]
        (snvs,) = np.nonzero(packed.bases >= 0)
        if len(snvs):
            substituted = windows[packed.references[snvs]]
            substituted[:, packed.input_bp // 2] = packed.bases[snvs]
            alternative[snvs] = self._predicted(substituted, is_reverse=is_reverse)
        return reference, alternative - reference

    def _predicted(self, codes: NDArray[np.uint8], *, is_reverse: bool) -> Tensor:
        """Return outputs, (N, O), of windows; one alone would be rounded by other kernels than many."""
        found = []
        for first in range(0, len(codes), self.batch_size):
            batch = codes[first : first + self.batch_size]
            X = self._encoded(np.repeat(batch, 2, 0) if len(batch) == 1 else batch, is_reverse=is_reverse)
            found.append(self._chosen(self.model(X))[: len(batch)].float())
        return torch.cat(found)


class TrunkEffects(EffectEngine):
    """Outputs of a model with a trunk: overlapping windows share it, and a substitution computes its change.

    Parameters
    ----------
    model, scoring, limits
        As for `EffectEngine`.
    """

    def __init__(self, model: Model, scoring: Scoring, **limits: Unpack[Limits]) -> None:
        super().__init__(model, scoring, **limits)
        self._trunk, head = trunk_and_head(model, scoring.input_bp)
        self._head = ChangedHead(head, self._trunk.counts[-1], self._chosen, is_linear=True)
        budget = budget_of(self.device, limits)
        self._n_at_once = self._trunk.most_at_once(self.device, budget)
        if limits.get("batch_size") is None:
            window_bytes = bytes_per_bp(self._trunk.layers, Passes()) * scoring.input_bp
            most = _MOST_ON_GPU if self.device.type == "cuda" else _MOST_ON_CPU
            self.batch_size = max(1, min(most, int(budget / 4 / window_bytes)))

    def _halve_batches(self, reason: str) -> None:
        self._n_at_once = max(1, self._n_at_once // 2)
        super()._halve_batches(reason)

    def _strand(self, packed: Packed, *, is_reverse: bool) -> tuple[Tensor, Tensor]:
        firsts, input_bp = packed.firsts, packed.input_bp
        if is_reverse:
            firsts = len(packed.codes) - input_bp - firsts
        X = self._encoded(packed.codes[None], is_reverse=is_reverse)
        values, begins = shared_values(self._trunk, X, firsts)
        places = [to_device(each, self.device) for each in begins]
        top = places[-1][:, None] + torch.arange(self._trunk.counts[-1], device=self.device)
        inputs = values[-1][top].transpose(1, 2)  # (W, C, positions)
        whole = self._head.whole(inputs)
        references, alternatives, bases, snvs = (
            to_device(each, self.device)
            for each in (
                packed.references,
                packed.alternatives,
                packed.bases,
                np.flatnonzero(packed.bases >= 0),
            )
        )
        reference = whole[1][references]
        change = whole[1][alternatives] - reference
        center = input_bp - 1 - input_bp // 2 if is_reverse else input_bp // 2
        for rows in torch.split(snvs, self._n_at_once) if len(snvs) else ():
            of = references[rows]
            channels = self._of_strand(self._channel_of_base[bases[rows]], is_reverse=is_reverse)
            at = torch.full_like(of, center)
            begun = [each[of] for each in places]
            strips = self._trunk.strips(values, begun, channels, at, (center, center))
            change[rows] = self._head.effects(inputs, whole, of, strips)
        return reference, change

    def _of_strand(self, channels: Tensor, *, is_reverse: bool) -> Tensor:
        """Return the channels of some bases, or of their complements."""
        return self._complement[channels] if is_reverse else channels


class MeanEffects:
    """The mean of what several engines compute, one for each model of an ensemble.

    Parameters
    ----------
    engines : sequence of EffectEngine
    """

    def __init__(self, engines: Sequence[EffectEngine]) -> None:
        self._engines, self.device = engines, engines[0].device

    def outputs(self, comparisons: Sequence[Comparison]) -> tuple[Outputs, Outputs]:
        """Return the outputs on reference windows, and their changes; see `EffectEngine.outputs`."""
        found = [engine.outputs(comparisons) for engine in self._engines]
        reference, change = (np.stack(each).astype(np.float64) for each in zip(*found, strict=True))
        return reference.mean(0).astype(np.float32), change.mean(0).astype(np.float32)


AnyEngine = EffectEngine | MeanEffects


def make_effect_engine(model: Model, scoring: Scoring, **limits: Unpack[Limits]) -> AnyEngine:
    """Return the fastest engine for a model; parameters are those of `make_engine` of scans."""
    engines = [
        (TrunkEffects if _has_stack(each, scoring) else WindowEffects)(each, scoring, **limits)
        for each in members_of(model)
    ]
    return engines[0] if len(engines) == 1 else MeanEffects(engines)


def _has_stack(model: Model, scoring: Scoring) -> bool:
    """Return whether a model is a head on a stack of unpadded layers, each of which sees all of its input."""
    layers = gapless_layers(model)
    if not layers:
        return False
    # what is asked about the distance of windows does not matter here, and has to fit
    step = total_stride(layers)
    fitting = [n for n in (step, 2 * step) if n <= scoring.input_bp and (scoring.input_bp - n) % 2 == 0]
    return bool(fitting) and why_no_stack(model, replace(scoring, stride=fitting[0])) is None
