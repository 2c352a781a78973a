"""What computes a part of the alleles of a file."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tism_scan.effects.engines import AnyEngine, make_effect_engine, outputs_of
from tism_scan.effects.haplotypes import NOT_FINITE, REASONS, Comparison, Resolved, resolved
from tism_scan.effects.reading import items_of_part
from tism_scan.effects.results import UNKNOWN, Results
from tism_scan.models.contract import Model
from tism_scan.plan.parts import Part
from tism_scan.plan.scoring import Scoring
from tism_scan.scan.part_worker import PartWorker
from tism_scan.scan.work import Plan


class EffectWorker(PartWorker[AnyEngine, list[Resolved], Results]):
    """Turns alleles into the model's outputs on both of their windows."""

    def engine_of(self, model: Model, plan: Plan) -> AnyEngine:
        """Return what computes outputs on windows."""
        return make_effect_engine(model, plan.scoring, **self.setup.execution.limits)

    def fetch(self, part: Part) -> list[Resolved]:
        """Return the windows of a part's alleles."""
        options = self.store.plan.options
        return [
            resolved(
                self.genome,
                item.allele,
                self.store.plan.scoring.input_bp,
                on_mismatch=options["on_mismatch"],
                averages_shifts=options["shift_average"],
            )
            for item in items_of_part(self.store, part)
        ]

    def compute(self, fetched: list[Resolved]) -> tuple[Results, int]:
        """Return a part's results, and how many alleles have a score."""
        plan = self.store.plan
        results = computed(self.engine, plan.scoring, fetched, has_log2fc=plan.options["log2fc"])
        return results, results.n_scored

    def publish(self, part: Part, results: Results) -> None:
        """Write the results of a part into the store."""
        self.store.publish(part, results.to_bytes(), self.device)


def computed(
    engine: AnyEngine, scoring: Scoring, alleles: Sequence[Resolved], *, has_log2fc: bool
) -> Results:
    """Return the results of some alleles.

    Parameters
    ----------
    engine : AnyEngine
        Made for the scoring.
    scoring : Scoring
    alleles : sequence of Resolved
    has_log2fc : bool
        Whether outputs are logits of probabilities.
    """
    results = Results.empty(len(alleles), len(scoring.tracks), has_log2fc=has_log2fc)
    for i, allele in enumerate(alleles):
        results.reason[i] = REASONS.index(allele.reason)
        results.ref_match[i] = UNKNOWN if allele.ref_match is None else allele.ref_match
        results.is_swapped[i] = allele.is_swapped
        if not allele.reason:
            results.n_in_window[i] = allele.n_in_window
    (scored,) = np.nonzero(results.reason == 0)
    if not len(scored):
        return results
    reference, change = _means(engine, [alleles[i].comparisons for i in scored.tolist()])
    is_finite = np.isfinite(reference).all(axis=1) & np.isfinite(change).all(axis=1)
    results.reason[scored[~is_finite]] = REASONS.index(NOT_FINITE)
    scored, reference, change = scored[is_finite], reference[is_finite], change[is_finite]
    weights = _weights(scoring)
    results.ref[scored], results.diff[scored] = reference @ weights, change @ weights
    if has_log2fc:
        results.log2fc[scored] = _log2_fold_changes(reference, change, weights)
    return results


def _means(
    engine: AnyEngine, alleles: Sequence[Sequence[Comparison]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return outputs on the reference and their changes, (n, O), means over each allele's placements."""
    i_allele = np.repeat(np.arange(len(alleles)), [len(each) for each in alleles])
    comparisons = [comparison for each in alleles for comparison in each]
    # neighbours share windows, and what a file's order is must not matter
    order = sorted(range(len(comparisons)), key=lambda i: (comparisons[i].chrom, comparisons[i].start))
    found = engine.outputs([comparisons[i] for i in order])
    means = []
    for outputs in found:
        total = np.zeros((len(alleles), outputs.shape[1]))
        np.add.at(total, i_allele[order], outputs)
        means.append(total / np.bincount(i_allele)[:, None])
    return means[0], means[1]


def _weights(scoring: Scoring) -> NDArray[np.float64]:
    """Return the weight of each output in each track, (O, T)."""
    outputs = outputs_of(scoring)
    weights = np.zeros((len(outputs), len(scoring.tracks)))
    for i_track, track in enumerate(scoring.tracks):
        for output, weight in zip(track.outputs, track.weights, strict=True):
            weights[outputs.index(output), i_track] += weight
    return weights


def _log2_fold_changes(
    reference: NDArray[np.float64], change: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log2 of the ratio of each track's probabilities, (n, T); a group's is its outputs' mean."""
    is_single = (weights != 0).sum(0) == 1
    before, after = (
        -np.logaddexp(0, -logits) for logits in (reference, reference + change)
    )  # log of the probabilities, however small
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log(np.exp(after) @ weights) - np.log(np.exp(before) @ weights)
    single = (after - before) @ (weights != 0)
    return np.asarray(np.where(is_single, single, ratio) / np.log(2))
