"""Exact ISM of chosen bases of a block: all three substitutions, all tracks from the same forward passes.

A base's effects are those in the window whose core holds it, of all lattice windows the one most centred on
it. They are what `tism_scan.attribution.ism` gives for that window.
"""

from abc import abstractmethod
from typing import NamedTuple, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.engine.block_engine import BlockEngine, Engine
from tism_scan.engine.cost import bytes_per_bp, module_flop, most_windows
from tism_scan.engine.ensemble_engine import EnsembleEngine
from tism_scan.engine.layers import Passes
from tism_scan.engine.limits import Limits, budget_of
from tism_scan.engine.queue import Queued, to_device
from tism_scan.engine.readout import values_of_tracks
from tism_scan.engine.sharing import why_no_stack
from tism_scan.engine.slabs import first_slab
from tism_scan.engine.trunk import gapless_layers
from tism_scan.genome.alphabet import Codes, is_acgt
from tism_scan.models.contract import Model
from tism_scan.models.ensemble import Ensemble, members_of
from tism_scan.models.frozen import BATCH_SIZE
from tism_scan.models.outputs import flat_outputs
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tiling import Stretch
from tism_scan.refine.changes import trunk_and_head
from tism_scan.refine.heads import ChangedHead

SLAB_BP_ON_CPU = 53_248
SLAB_BP_ON_GPU = 1 << 17


class Sites(NamedTuple):
    """Bases to be replaced, in windows of a slab.

    Attributes
    ----------
    windows : int64 (P,)
        The window of each, by its position among the slab's windows.
    offsets : int64 (P,)
        Where in that window it is.
    """

    windows: Tensor
    offsets: Tensor


class IsmEngine(BlockEngine):
    """Computes exact ISM where a scan's engine computes TISM: a block's wanted bases, NaN elsewhere.

    Parameters are those of `BlockEngine`; the scoring is for all four bases, each by the window of its core.
    """

    def queue(self, codes: Codes, stretch: Stretch, wanted: NDArray[np.bool_]) -> Queued:
        """Have the device compute the effects of a block's wanted bases, in place of scores.

        They are float32 (T, 4, len(block)) in A, C, G, T order: negative where the substitution lowers the
        output, 0 at the reference base, NaN where a base is not wanted or is not A, C, G or T. Parameters and
        errors are those of `BlockEngine.score`.
        """
        block = slice(stretch.block.start - stretch.start, stretch.block.end - stretch.start)
        is_site = np.zeros(len(codes), dtype=np.bool_)
        is_site[block] = wanted & is_acgt(codes[block])
        self._is_site = is_site
        return super().queue(codes, stretch, wanted)

    def flop_per_window(self) -> float:
        """Return the arithmetic, FLOP, of one window's forward pass, as which each substitution counts."""
        X = self._encode(torch.zeros((1, self.lattice.input_bp), dtype=torch.uint8, device=self.device))
        return (2 if self.scoring.strands == "both" else 1) * module_flop(self.model, X)[0]

    @torch.no_grad()
    def _add_first(self, codes: Tensor, where: NDArray[np.int64], total: Tensor) -> int:
        stride, input_bp, flank = self.lattice.stride, self.lattice.input_bp, self.lattice.flank
        batch = first_slab(where, self.batch_size, stride, input_bp)
        start, end = int(batch[0]) * stride, int(batch[-1]) * stride + input_bp
        cores = np.stack([self._is_site[i * stride + flank : (i + 1) * stride + flank] for i in batch])
        windows, in_core = np.nonzero(cores)
        sites = Sites(*(to_device(each, self.device) for each in (windows, in_core + flank)))
        effects = self._both_strands(self._encode(codes[None, start:end]), batch - batch[0], sites)
        places = start + to_device(batch - batch[0], self.device)[sites.windows] * stride
        total[:, :, places + sites.offsets] += effects[:, self._to_acgt].permute(2, 1, 0)
        return len(batch)

    def _both_strands(self, X: Tensor, windows: NDArray[np.int64], sites: Sites) -> Tensor:
        """Return the effects of sites, (P, 4, T), on the strands that the scoring asks for."""
        effects = self._effects(X, windows, sites)
        if self.scoring.strands == "forward":
            return effects
        mirrored = Sites(len(windows) - 1 - sites.windows, self.lattice.input_bp - 1 - sites.offsets)
        others = (windows[-1] - windows)[::-1].copy()
        other = self._effects(X.flip(2)[:, self._complement], others, mirrored)
        return (effects + other[:, self._complement]) / 2

    @abstractmethod
    def _effects(self, X: Tensor, windows: NDArray[np.int64], sites: Sites) -> Tensor:
        """Return the effects of sites, float32 (P, 4, T), channels in the model's order.

        Parameters
        ----------
        X : float32 (1, 4, L)
            The slab.
        windows : int64 (N,)
            Its windows, by their positions on the lattice.
        sites : Sites
        """

    def _read(self, outputs: Tensor) -> Tensor:
        """Return the tracks, (N, T), of a model's outputs."""
        outputs = flat_outputs(outputs)
        if self.scoring.output_space == "probability":
            outputs = outputs.sigmoid()
        return values_of_tracks(outputs, self.scoring.tracks)


class WindowIsm(IsmEngine):
    """Exact ISM of any model, a whole window for each substitution.

    Parameters
    ----------
    model, scoring, limits
        As for `IsmEngine`.
    """

    def __init__(self, model: Model, scoring: Scoring, **limits: Unpack[Limits]) -> None:
        super().__init__(model, scoring, **limits)
        if limits.get("batch_size") is None:
            self.batch_size = BATCH_SIZE

    def _effects(self, X: Tensor, windows: NDArray[np.int64], sites: Sites) -> Tensor:
        starts = to_device(windows, self.device) * self.lattice.stride
        inputs = X[0].unfold(1, self.lattice.input_bp, self.lattice.stride)[:, windows].transpose(0, 1)
        at_reference = torch.cat([self._predict(batch) for batch in torch.split(inputs, self.batch_size)])
        i_site, channels = substitutions(X, starts[sites.windows] + sites.offsets)
        effects = X.new_zeros((len(sites.windows), 4, at_reference.shape[1]))
        for rows in torch.split(torch.arange(len(i_site), device=self.device), self.batch_size):
            of = i_site[rows]
            mutants = inputs[sites.windows[of]]
            each = torch.arange(len(rows), device=self.device)
            mutants[each, :, sites.offsets[of]] = 0
            mutants[each, channels[rows], sites.offsets[of]] = 1
            effects[of, channels[rows]] = self._predict(mutants) - at_reference[sites.windows[of]]
        return effects

    def _predict(self, X: Tensor) -> Tensor:
        """Return the tracks of inputs; one by itself would be rounded by other kernels than many."""
        batch = X.expand(2, -1, -1) if len(X) == 1 else X
        return self._read(self.model(batch.contiguous()))[: len(X)].float()


class TrunkIsm(IsmEngine):
    """Exact ISM of a model with a trunk, of which a substitution computes what it changes.

    Parameters
    ----------
    model, scoring, limits
        As for `IsmEngine`; the model is one that `TrunkEngine` takes.
    """

    def __init__(self, model: Model, scoring: Scoring, **limits: Unpack[Limits]) -> None:
        super().__init__(model, scoring, **limits)
        self._trunk, head = trunk_and_head(model, scoring.input_bp)
        layers = self._trunk.layers
        is_linear = scoring.output_space == "logit"
        self._head = ChangedHead(head, self._trunk.counts[-1], self._read, is_linear=is_linear)
        steps = [scoring.stride]
        for layer in layers:
            steps.append(steps[-1] // layer.stride)
        self._steps = steps
        budget = budget_of(self.device, limits)
        self._n_at_once = self._trunk.most_at_once(self.device, budget)
        if limits.get("batch_size") is None:
            slab_bp = SLAB_BP_ON_GPU if self.device.type == "cuda" else SLAB_BP_ON_CPU
            slab_bp = min(slab_bp, int(budget / 4 / bytes_per_bp(layers, Passes())))
            self.batch_size = max(1, (slab_bp - scoring.input_bp) // scoring.stride)
        self.batch_size = min(self.batch_size, most_windows(layers, scoring.input_bp, scoring.stride))

    def _halve_batches(self, reason: str) -> None:
        self._n_at_once = max(1, self._n_at_once // 2)
        super()._halve_batches(reason)

    def _effects(self, X: Tensor, windows: NDArray[np.int64], sites: Sites) -> Tensor:
        values = [each[0] for each in self._trunk.values(X)]
        lattice = to_device(windows, self.device)
        inputs = values[-1].unfold(0, self._trunk.counts[-1], self._steps[-1])[lattice]  # (N, C, positions)
        whole = self._head.whole(inputs)
        starts = lattice[sites.windows]
        i_site, channels = substitutions(X, starts * self.lattice.stride + sites.offsets)
        effects = X.new_zeros((len(sites.windows), 4, len(self.scoring.tracks)))
        flank = self.lattice.flank
        cores = flank, flank + self.lattice.stride - 1  # of either strand
        # Neighbours in their windows read the same columns of the head, of which there are many megabytes.
        order = torch.argsort(sites.offsets[i_site], stable=True)
        for rows in torch.split(order, self._n_at_once):
            of = i_site[rows]
            firsts = [starts[of] * step for step in self._steps]
            strips = self._trunk.strips(values, firsts, channels[rows], sites.offsets[of], cores)
            effects[of, channels[rows]] = self._head.effects(inputs, whole, sites.windows[of], strips)
        return effects


def substitutions(X: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the substitutions of some positions of a sequence, (1, 4, L), none of them N.

    Returns
    -------
    int64 (n,), int64 (n,)
        Which of the positions, and the channel that is put in; those of one position are neighbours.
    """
    reference, others = X[0][:, positions].argmax(0), torch.arange(3, device=X.device)
    i_site = torch.arange(len(positions), device=X.device)[:, None].expand(-1, 3)
    return i_site.flatten(), (others + (others >= reference[:, None])).flatten()


def make_ism_engine(model: Model, scoring: Scoring, **limits: Unpack[Limits]) -> Engine:
    """Return the fastest engine that computes exact ISM of a scoring with a model.

    Parameters are those of `tism_scan.engine.choice.make_engine`. Of an ensemble, it is the mean over models.
    """
    if isinstance(model, Ensemble):
        engines = [make_ism_engine(member, scoring, **limits) for member in members_of(model)]
        return EnsembleEngine(engines, scoring)
    if gapless_layers(model) and why_no_stack(model, scoring) is None:
        return TrunkIsm(model, scoring, **limits)
    return WindowIsm(model, scoring, **limits)
