"""From a genome, a model and a file of peaks to work that can be carried out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tism_scan.engine.readout import chosen_tracks
from tism_scan.export.aliases import read_aliases
from tism_scan.genome.fasta import Genome
from tism_scan.genome.peaks import PeakSet, read_peaks
from tism_scan.models.contract import Model
from tism_scan.models.source import AnyModel, Source, model_source
from tism_scan.plan.methods import Method, MethodSettings
from tism_scan.plan.parts import PartsPlan
from tism_scan.plan.peak_plan import DEFAULT_WIDTH, PeakSettings, peak_plan
from tism_scan.plan.scoring import ONE_GRADIENT, OutputSpace, Strands
from tism_scan.plan.tracks import TrackChoice
from tism_scan.progress import steps
from tism_scan.scan.likeness import probes_of
from tism_scan.storage.places import Place
from tism_scan.store.peak_store import PeakStore


@dataclass(frozen=True)
class PlannedPeaks:
    """A set of peaks that can be attributed: its whole identity, and where its genome and model are.

    Attributes
    ----------
    plan : PartsPlan
        Two runs with an equal plan give the same store.
    peaks : PeakSet
    genome : Path
    model : ModelSource, GivenModel or EnsembleSource
    loaded : Model
        The model, on the CPU.
    """

    plan: PartsPlan
    peaks: PeakSet
    genome: Path
    model: Source
    loaded: Model = field(repr=False, compare=False)

    @property
    def settings(self) -> PeakSettings:
        """Which numbers are computed."""
        return PeakSettings.of(self.plan)

    def create_store(
        self,
        out: str | Place,
        typed: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        break_lock: bool = False,
    ) -> PeakStore:
        """Return the store of this plan: a new one, or the one that is there if its plan is equal.

        Parameters
        ----------
        out : str, Path or Url
            A folder, or ``s3://bucket/prefix``, ``gs://bucket/prefix``.
        typed : mapping, optional
            What to record, as JSON, beside the versions, such as the command.
        overwrite, break_lock : bool
            As for `PeakStore.of_peaks`, whose errors this method shares.
        """
        return PeakStore.of_peaks(
            out, self.plan, self.peaks, typed, overwrite=overwrite, break_lock=break_lock
        )


def plan_peaks(
    genome: str | Path,
    model: AnyModel,
    peaks: str | Path,
    *,
    tracks: TrackChoice = None,
    groups: Sequence[str] = (),
    track_names: str | Path | Sequence[str] | None = None,
    method: Method = "tism",
    width: int | None = None,
    strands: Strands = "forward",
    output_space: OutputSpace = "logit",
    path: Sequence[float] = ONE_GRADIENT,
    background: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25),
    seed: int = 0,
    chrom_alias: str | Path | None = None,
    peaks_per_part: int = 0,
) -> PlannedPeaks:
    """Return the plan of the attribution of a set of peaks. The genome and the weights are read for digests.

    Parameters
    ----------
    genome, model, tracks, groups, track_names
        As for `tism_scan.plan_scan`.
    peaks : str or Path
        narrowPeak or BED, plain or gzipped. A window has the summit (column 10), or a peak's middle without
        one, in its middle.
    method, strands, output_space, path, background, seed
        As for `tism_scan.attribute`.
    width : int, optional
        Length of a row in bp, in the middle of the window; even. 400 by default, or the whole window if that
        is shorter.
    chrom_alias : str or Path, optional
        A table of two columns: a chrom's name in the genome, and the peaks'.
    peaks_per_part : int
        Peaks that are computed, written and resumed as one; 0 chooses.

    Raises
    ------
    GenomeError, RegionError
        If the genome or the peaks cannot be read, or a peak is not on the genome.
    ModelError, WeightsError, AccessError
        If the model cannot be loaded, or fails.
    TrackError
        If a selection fits nothing, or none is made.
    PlanError
        If settings contradict each other, or the width is odd or more than the window.
    """
    source = model_source(model)
    steps.info("reading the genome's index")
    with Genome(Path(genome)) as opened:
        names = read_aliases(chrom_alias, opened.chroms)
        steps.info("reading the peaks")
        found = read_peaks(peaks, opened.chroms, names)
        steps.info("loading the model")
        loaded = source.load()
        chosen = MethodSettings(
            chosen_tracks(loaded, tracks, groups, track_names),
            method,
            strands=strands,
            output_space=output_space,
            path=tuple(path),
            background=background,
            seed=seed,
        )
        width = min(DEFAULT_WIDTH, loaded.input_bp // 2 * 2) if width is None else width
        settings = PeakSettings(chosen, loaded.input_bp, width)
        name, weights_digest = source.identity(loaded)
        steps.info("reading the genome for its digest")
        plan = peak_plan(
            settings,
            found,
            chroms=opened.chroms,
            genome_digest=opened.digest(),
            model=name,
            weights_digest=weights_digest,
            peaks_per_part=peaks_per_part,
            probes=probes_of(loaded, chosen.tracks),
        )
    return PlannedPeaks(plan, found, opened.path, source, loaded)
