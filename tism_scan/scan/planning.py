"""From a genome, a model and what is asked of them to a plan that can be carried out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tism_scan.engine.choice import Sharing, least_shared, sharing_of
from tism_scan.engine.continuing import check_outputs_continue
from tism_scan.engine.devices import default_device
from tism_scan.engine.ensemble_engine import check_has_several
from tism_scan.engine.readout import chosen_tracks
from tism_scan.engine.sizing import fitting_block_bp
from tism_scan.errors import StoreError
from tism_scan.genome.fasta import Genome
from tism_scan.genome.wanted import wanted_spans
from tism_scan.models.contract import Model
from tism_scan.models.frozen import outside_inference_mode
from tism_scan.models.source import AnyModel, Source, model_source
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import ONE_GRADIENT, OutputSpace, Precision, Scoring, Strands, Values
from tism_scan.plan.tiling import DEFAULT_STRIDE, Stitch
from tism_scan.plan.tracks import TrackChoice
from tism_scan.progress import steps
from tism_scan.scan.likeness import probes_of
from tism_scan.scan.precision import PrecisionChoice, cheapest_precision
from tism_scan.storage.places import Place
from tism_scan.store.score_store import ScoreStore

Several = str | Sequence[str]
PRECISION_CHOICE = "precision_choice"  # in a store's record


@dataclass(frozen=True)
class PlannedScan:
    """A scan that can be carried out: its whole identity, and where its genome and model are.

    Attributes
    ----------
    plan : ScanPlan
        Two scans with an equal plan give the same store.
    genome : Path
    model : ModelSource, GivenModel or EnsembleSource
    loaded : Model
        The model, on the CPU.
    sharing : tuple of {"none", "trunk", "stack"}
        What windows share, of each model, from a trial.
    chooses_blocks : bool
        Whether nobody asked for a length of blocks: a store that is there keeps its own.
    chooses_precision : bool
        Whether nobody asked for a precision: a store that is there keeps its own.
    measured : PrecisionChoice or None
        How the precision was chosen, if by trial. A new store records it.
    """

    plan: ScanPlan
    genome: Path
    model: Source
    loaded: Model = field(repr=False, compare=False)
    sharing: tuple[Sharing, ...] = field(compare=False)
    chooses_blocks: bool = field(default=False, compare=False)
    chooses_precision: bool = field(default=False, compare=False)
    measured: PrecisionChoice | None = field(default=None, repr=False, compare=False)

    def create_store(
        self,
        out: str | Place,
        typed: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        break_lock: bool = False,
    ) -> ScoreStore:
        """Return the store of this plan: a new one, or the one that is there if its plan is equal.

        Parameters
        ----------
        out : str, Path or Url
            A folder, or ``s3://bucket/prefix``, ``gs://bucket/prefix``.
        typed : mapping, optional
            What to record, as JSON, beside the versions, such as the command.
        overwrite, break_lock : bool
            As for `ScoreStore.create`.

        Raises
        ------
        LeaseError, StoreError, StorageFullError, AccessError
            As `ScoreStore.create`.
        """
        provenance = dict(typed or {})
        if self.measured is not None:
            provenance[PRECISION_CHOICE] = self.measured.to_json()
        plan = self.plan if overwrite else self._with_choices_of(out)
        return ScoreStore.create(out, plan, provenance, overwrite=overwrite, break_lock=break_lock)

    def _with_choices_of(self, out: str | Place) -> ScanPlan:
        """Return the plan with what nobody asked for as in the store that is there, if there is one."""
        try:
            recorded = ScoreStore.open(out).plan
        except StoreError:
            return self.plan
        plan = self.plan
        if self.chooses_blocks:
            plan = replace(plan, block_bp=recorded.block_bp, is_packed=recorded.is_packed)
        if self.chooses_precision:
            plan = replace(plan, scoring=replace(plan.scoring, precision=recorded.scoring.precision))
        return plan

    def __str__(self) -> str:
        plan, scoring = self.plan, self.plan.scoring
        return (
            f"{len(scoring.tracks):,} tracks of {self.model} on {plan.n_wanted:,} bases of {self.genome}, "
            f"stride {scoring.stride}, {scoring.stitch}, strands {scoring.strands}, {scoring.precision}"
            f"{scoring.path_note}"
        )


@outside_inference_mode
def plan_scan(
    genome: str | Path,
    model: AnyModel,
    *,
    tracks: TrackChoice = None,
    groups: Several = (),
    track_names: str | Path | Sequence[str] | None = None,
    regions: Several = (),
    beds: Several | Path | Sequence[Path] = (),
    chroms: Several = (),
    exclude_chroms: Several = (),
    exclude_beds: Several | Path | Sequence[Path] = (),
    stride: int = DEFAULT_STRIDE,
    stitch: Stitch = "center",
    strands: Strands = "forward",
    output_space: OutputSpace = "logit",
    values: Values = "mean",
    precision: Precision | Literal["auto"] = "auto",
    path: Sequence[float] = ONE_GRADIENT,
    block_bp: int = 0,
    keep_bits: int | None = None,
    on_gpus: bool | None = None,
) -> PlannedScan:
    """Return the plan of a scan. The genome and the weights are read once, for their digests.

    Parameters
    ----------
    genome : str or Path
        FASTA, plain or compressed with bgzip; its index is made if there is none.
    model : str, Path, Url, torch.nn.Module, ModelSource, or sequence of these
        The path or URL of Beluga's weights, ``"package.module:factory"``, a module with `input_bp` and
        `alphabet`, or a `ModelSource`; several of these are an ensemble, of which the mean is scored.
    tracks : str, int, or sequence of these, optional
        Indices, ranges, names and globs of outputs, such as ``"267,300-309,*CTCF*"``, or ``"all"``. Needed
        unless there are groups, or the model has a single output.
    groups : str or sequence of str
        ``"NAME=SPEC"``: one more track, the mean of these outputs.
    track_names : str, Path, Url or sequence of str, optional
        A file with the name of each output, one a line, or the names; the model's own by default.
    regions : str or sequence of str
        ``"chr1:1,000-2,000"``, 1-based, both ends included. With `beds`, only these bases are scored.
    beds, exclude_beds : path or sequence of paths
        BED files of bases to score, and not to score.
    chroms, exclude_chroms : str or sequence of str
        Names or globs of chroms to score, and not to score, such as ``"*_alt,chrUn_*"``.
    stride, stitch, strands, output_space, values, precision, path
        See `tism_scan.Scoring`. Precision ``"auto"`` is that of the store which the scan goes on with. For a
        new one on GPUs it is the cheapest whose scores agree with float32 on a sample of the genome, if the
        model's trunk is a stack of unpadded layers; else ``"fp32"``.
    block_bp : int
        Bases per block, the unit of resume; 0 chooses.
    keep_bits : int, optional
        Mantissa bits that the stored scores keep; all by default.
    on_gpus : bool, optional
        Whether GPUs will compute the scores, as actors of a cluster may; by default, whether this process
        sees one.

    Returns
    -------
    PlannedScan

    Raises
    ------
    GenomeError, RegionError
        If the genome or a BED file cannot be read, a region is not on it, or no base is left.
    ModelError, WeightsError, AccessError
        If the model cannot be loaded, or fails.
    TrackError
        If a selection fits nothing, or none is made.
    PlanError
        If settings contradict each other.
    """
    source = model_source(model)
    steps.info("reading the genome's index")
    with Genome(Path(genome)) as opened:
        lengths = {chrom: length for chrom, length in opened.chroms.items() if length}
        wanted = wanted_spans(
            lengths,
            regions=_several(regions),
            beds=_several(beds),
            include=_several(chroms),
            exclude=_several(exclude_chroms),
            exclude_beds=_several(exclude_beds),
        )
        steps.info("loading the model")
        loaded = source.load()
        on_gpus = default_device() != "cpu" if on_gpus is None else on_gpus
        scoring = Scoring(
            chosen_tracks(loaded, tracks, _several(groups), track_names),
            loaded.input_bp,
            stride=stride,
            stitch=stitch,
            strands=strands,
            output_space=output_space,
            values=values,
            precision="fp32" if precision == "auto" else precision,
            path=tuple(path),
        )
        check_has_several(loaded, scoring)
        check_outputs_continue(loaded, scoring)
        sharing = sharing_of(loaded, scoring)  # here, since nobody sees what actors log
        name, weights_digest = source.identity(loaded)
        steps.info("reading the genome for its digest")
        plan = ScanPlan(
            scoring,
            genome_digest=opened.digest(),
            weights_digest=weights_digest,
            chroms=lengths,
            wanted=wanted,
            block_bp=block_bp,
            model=name,
            keep_bits=keep_bits,
            probes=probes_of(loaded, scoring.tracks),
        )
        measured = None
        if precision == "auto" and on_gpus and least_shared(sharing) == "stack":
            measured = cheapest_precision(loaded, opened, plan, sharing)
            plan = replace(plan, scoring=replace(scoring, precision=measured.precision))
    if not block_bp:
        fitting_bp = fitting_block_bp(loaded, plan, least_shared(sharing), on_gpus=on_gpus)
        plan = replace(plan, block_bp=fitting_bp, is_packed=None)  # more chroms are short beside longer ones
    return PlannedScan(
        plan,
        opened.path,
        source,
        loaded,
        sharing,
        chooses_blocks=not block_bp,
        chooses_precision=precision == "auto",
        measured=measured,
    )


def precision_choice(store: ScoreStore) -> PrecisionChoice | None:
    """Return how a store's precision was chosen, or None if it was named, or is an earlier release's."""
    recorded = store.ledger.provenance().get(PRECISION_CHOICE)
    return PrecisionChoice.from_json(recorded) if recorded else None


def _several(given: Several | Path | Sequence[Path]) -> Sequence[str]:
    """Return one text or path as a sequence of one."""
    return [str(given)] if isinstance(given, str | Path) else [str(each) for each in given]
