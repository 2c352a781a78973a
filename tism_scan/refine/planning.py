"""From a finished scan to the plan of its refinement: exact ISM at the bases that it found."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tism_scan.errors import PlanError, StoreError
from tism_scan.genome.spans import Spans
from tism_scan.models.source import AnyModel, Source, model_source
from tism_scan.plan.scan_plan import SHARD_BYTES, SMALLEST_BLOCK_BP_FOR_FEW_BASES, ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.selection import Selection
from tism_scan.progress import OnProgress, steps
from tism_scan.refine.selecting import (
    DEFAULT_QUANTILE,
    MOST_OF_THE_BASES,
    select_highest,
    select_listed,
)
from tism_scan.scan.likeness import checked_model
from tism_scan.storage.read_only import check_may_write
from tism_scan.store.refined import open_refinement, refinement_place
from tism_scan.store.score_store import ScoreStore

_BLOCK_BYTES = 4 * SHARD_BYTES  # of a block's effects in memory, most of them NaN


@dataclass(frozen=True)
class PlannedRefinement:
    """A refinement that can be carried out.

    Attributes
    ----------
    scan : ScoreStore
        The finished scan.
    plan : ScanPlan
        Its `wanted` are the chosen bases, and its `selection` says how they were.
    genome : Path
    model : ModelSource, GivenModel or EnsembleSource
    """

    scan: ScoreStore
    plan: ScanPlan
    genome: Path
    model: Source

    def create_store(
        self, typed: Mapping[str, Any] | None = None, *, overwrite: bool = False, break_lock: bool = False
    ) -> ScoreStore:
        """Return the store of the refinement: a new one, or the one that is there if its plan is equal.

        Parameters
        ----------
        typed : mapping, optional
            What to record, as JSON, beside the versions, such as the command.
        overwrite, break_lock : bool
            As for `ScoreStore.create`, whose errors this method shares.
        """
        place = refinement_place(self.scan)
        return ScoreStore.create(place, self.plan, typed, overwrite=overwrite, break_lock=break_lock)


def plan_refinement(
    scan: ScoreStore,
    genome: str | Path,
    model: AnyModel,
    *,
    quantile: float | None = None,
    bed: str | Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> PlannedRefinement:
    """Return the plan of a scan's refinement.

    Parameters
    ----------
    scan : ScoreStore
        Complete.
    genome : str or Path
        The FASTA that was scanned.
    model : str, Path, Url, torch.nn.Module, ModelSource, or sequence of these
        The model that it was scanned with.
    quantile : float, optional
        Of each track, the bases with |score| above this quantile are refined: 0.997 by default.
    bed : str or Path, optional
        A BED file of the bases to refine instead, such as one of seqlets.
    overwrite : bool
        Whether an earlier refinement will be deleted; without, its bases are kept if the same is asked for.
    on_progress : callable, optional
        Called with the bases that are read to choose some of them.

    Raises
    ------
    StoreError
        If the scan is not complete, was refined by another rule, or the quantile chooses no base or more than
        half of them.
    GenomeError, WeightsError
        If the genome or the model are not those of the scan.
    ReadOnlyError
        If there is no refinement yet, and the store can only be read.
    PlanError
        If the quantile is none, or chooses more than half, or a BED file is given, too.
    RegionError
        If the BED file cannot be used, or none of its bases was scanned.
    """
    genome, source = Path(genome), model_source(model)
    _check(scan, quantile, bed)
    steps.info("comparing the genome and the model with those of the scan")
    checked_model(scan.plan, genome, source)
    spans: Mapping[str, Spans] = {}
    thresholds: tuple[float, ...] = ()
    if bed is None:
        quantile = DEFAULT_QUANTILE if quantile is None else quantile
        rule = f"quantile {quantile!r}"
    else:
        spans, digest = select_listed(scan, bed)
        rule = f"bed {digest}"
    found = None if overwrite else open_refinement(scan)
    if found is not None and found.plan.selection is not None:
        if found.plan.selection.rule != rule:
            raise StoreError(
                f"{scan.path} was refined at the bases of {found.plan.selection.rule}, not {rule}; use the "
                "same, or --overwrite"
            )
        return PlannedRefinement(scan, found.plan, genome, source)
    check_may_write("exact ISM", scan.path, "refine a copy of it")  # before all scores are read
    if quantile is not None:
        steps.info("choosing the bases")
        spans, thresholds = select_highest(scan, quantile, on_progress)
    selection = Selection(scan.plan.digest(), rule, thresholds)
    return PlannedRefinement(scan, refinement_plan(scan.plan, spans, selection), genome, source)


def refinement_plan(scan: ScanPlan, wanted: Mapping[str, Spans], selection: Selection) -> ScanPlan:
    """Return the plan of exact ISM at some bases of a scan: its tracks, windows and strands, in float32."""
    before = scan.scoring
    scoring = Scoring(
        before.tracks,
        before.input_bp,
        stride=before.stride,
        strands=before.strands,
        output_space=before.output_space,
        values="tism",
    )
    block_bp = scan.block_bp
    while block_bp > SMALLEST_BLOCK_BP_FOR_FEW_BASES and block_bp * 16 * len(before.tracks) > _BLOCK_BYTES:
        block_bp //= 2
    return ScanPlan(
        scoring,
        genome_digest=scan.genome_digest,
        weights_digest=scan.weights_digest,
        chroms=scan.chroms,
        wanted=wanted,
        block_bp=block_bp,
        model=scan.model,
        keep_bits=scan.keep_bits,
        selection=selection,
        probes=scan.probes,
    )


def _check(scan: ScoreStore, quantile: float | None, bed: str | Path | None) -> None:
    """Raise unless a scan can be refined, and what is asked for makes sense."""
    if quantile is not None and not 0 <= quantile <= 1:
        raise PlanError(f"quantile {quantile:g} is no part of all bases; expected 0 to 1, such as 0.997")
    if quantile is not None and quantile < 1 - MOST_OF_THE_BASES:
        raise PlanError(
            f"quantile {quantile:g} chooses more than half of each track's bases; expected at most half; "
            "give a higher --quantile, such as 0.997"
        )
    if quantile is not None and bed is not None:
        raise PlanError("a quantile and a BED file were given; expected one of them; leave the other out")
    if scan.plan.scoring.stitch == "all":
        raise PlanError(
            f"{scan.path} holds effects on all outputs (stitch 'all'), and exact ISM is of one window's; "
            "expected a scan with stitch 'center' or 'mean'; make one, at another --out"
        )
    refinement_place(scan)
    n_pending = sum(1 for _ in scan.pending(retry_failed=True))
    if n_pending:
        raise StoreError(
            f"{scan.path} is not complete: {n_pending:,} block{'s are' if n_pending > 1 else ' is'} still to "
            "be computed; expected a finished scan; run the same `tism-scan run` again, then refine it"
        )
