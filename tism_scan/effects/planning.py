"""From a file of variants, a genome and a model to a plan that can be carried out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tism_scan.effects.haplotypes import MOST_PLACEMENTS, OnMismatch
from tism_scan.effects.reading import Survey, inputs_of, survey
from tism_scan.engine.readout import chosen_tracks
from tism_scan.errors import InputError
from tism_scan.export.aliases import read_aliases
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import Beluga
from tism_scan.models.contract import Model
from tism_scan.models.ensemble import members_of
from tism_scan.models.source import AnyModel, Source, model_source
from tism_scan.plan.parts import PartsPlan
from tism_scan.plan.scoring import Scoring, Strands
from tism_scan.plan.tracks import TrackChoice
from tism_scan.progress import steps
from tism_scan.scan.likeness import probes_of
from tism_scan.storage.atomic import file_digest
from tism_scan.storage.places import Place
from tism_scan.store.parts import PartStore
from tism_scan.variants.files import opened
from tism_scan.variants.places import Contigs

_MOST_ALLELES = 2000  # of a part
_MOST_BASES = 8 << 20  # of the reference windows of a part
_MOST_SHIFTED_BASES = 64 << 20  # of those, if every allele stood in a repeat as long as is averaged over
_MOST_NUMBERS = 4 << 20  # in the results of a part


@dataclass(frozen=True)
class PlannedEffects:
    """Exact scores of variants that can be computed.

    Attributes
    ----------
    plan : PartsPlan
    variants, genome : Path
    model : ModelSource, GivenModel or EnsembleSource
    names : dict of str to str
        The file's name of each chrom.
    survey : Survey
    """

    plan: PartsPlan
    variants: Path
    genome: Path
    model: Source
    names: Mapping[str, str]
    survey: Survey

    def contigs(self) -> Contigs:
        """Return which chrom of the genome a contig of the file is."""
        return Contigs(self.plan.chroms, self.names, "the genome")

    def inputs(self) -> Iterator[tuple[str, bytes]]:
        """Yield what the workers read, by name."""
        with opened(self.variants) as file:
            yield from inputs_of(file, self.contigs(), self.plan.items_per_part)
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise unless the file of variants is still the planned one.

        Raises
        ------
        InputError
        """
        if not self.variants.is_file() or file_digest(self.variants) != self.plan.options["variants"]:
            raise InputError(
                f"{str(self.variants)!r} was changed while it was scored, or is gone; expected the "
                "file as it was; restore it, or run again with --overwrite"
            )

    def create_store(
        self,
        parts: str | Place,
        typed: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        break_lock: bool = False,
    ) -> PartStore:
        """Return the store of this plan: a new one, or the one that is there if its plan is equal.

        Parameters
        ----------
        parts : str, Path or Url
        typed : mapping, optional
            What to record, as JSON, beside the versions, such as the command.
        overwrite, break_lock : bool
            As for `PartStore.create`, whose errors this method shares.
        """
        return PartStore.create(
            parts, self.plan, self.inputs(), typed, overwrite=overwrite, break_lock=break_lock
        )


def plan_effects(
    genome: str | Path,
    model: AnyModel,
    variants: str | Path,
    *,
    tracks: TrackChoice = None,
    groups: Sequence[str] = (),
    track_names: str | Path | Sequence[str] | None = None,
    strands: Strands = "forward",
    on_mismatch: OnMismatch = "flag",
    shift_average: bool = False,
    log2fc: bool | None = None,
    chrom_alias: str | Path | None = None,
) -> PlannedEffects:
    """Return the plan of the exact scores of variants. The three files are read once, for their digests.

    Parameters
    ----------
    genome, model, tracks, groups, track_names
        As for `tism_scan.plan_scan`.
    variants : str or Path
        A VCF, plain or gzipped, a BCF, or a table with columns CHROM, POS, REF and ALT, and perhaps ID.
        Sorted ones are computed faster.
    strands : {"forward", "both"}
        With "both", outputs are the mean over a window and its reverse complement.
    on_mismatch : {"flag", "skip", "swap", "fail"}
        Where REF is not the genome's: "flag" compares ALT with REF all the same, both in the genome's place;
        "skip" gives no score; "swap" exchanges REF and ALT if ALT is the genome's, and gives no score else;
        "fail" raises.
    shift_average : bool
        Take the mean over all places of an insertion or deletion in a repeat, not the leftmost alone.
    log2fc : bool, optional
        Whether outputs are logits, so that the ratio of probabilities has a meaning; by default, whether the
        model is Beluga.
    chrom_alias : str or Path, optional
        A table of two columns: a chrom's name in the genome, and the file's.

    Raises
    ------
    InputError
        If the file cannot be read, holds no variant, or is of another genome.
    ExportError
        If the table of names cannot be used.
    GenomeError, ModelError, WeightsError, TrackError, AccessError
        As `tism_scan.plan_scan`.
    """
    variants, source = Path(variants).absolute(), model_source(model)
    with Genome(Path(genome)) as open_genome:
        chroms = {chrom: length for chrom, length in open_genome.chroms.items() if length}
        names = read_aliases(chrom_alias, chroms)
        contigs = Contigs(chroms, names, "the genome")
        steps.info("reading the variants")
        with opened(variants) as file:
            digest = file_digest(variants)
            contigs.check_lengths(file)
            found = survey(file, contigs, open_genome, on_mismatch)
        steps.info("loading the model")
        loaded = source.load()
        scoring = Scoring(
            chosen_tracks(loaded, tracks, groups, track_names),
            loaded.input_bp,
            stride=loaded.input_bp,  # windows are where the variants are
            strands=strands,
        )
        name, weights_digest = source.identity(loaded)
        steps.info("reading the genome for its digest")
        plan = PartsPlan(
            "variants",
            found.n_items,
            _items_per_part(scoring, shift_average=shift_average),
            scoring,
            genome_digest=open_genome.digest(),
            weights_digest=weights_digest,
            model=name,
            chroms=chroms,
            options={
                "variants": digest,
                "names": sorted([chrom, name] for chrom, name in names.items() if name != chrom),
                "on_mismatch": on_mismatch,
                "shift_average": shift_average,
                "log2fc": _has_logits(loaded) if log2fc is None else log2fc,
            },
            probes=probes_of(loaded, scoring.tracks),
        )
    return PlannedEffects(plan, variants, open_genome.path, source, names, found)


def _items_per_part(scoring: Scoring, *, shift_average: bool) -> int:
    n_windows = _MOST_BASES // scoring.input_bp
    if shift_average:
        n_windows = min(n_windows, _MOST_SHIFTED_BASES // (MOST_PLACEMENTS * scoring.input_bp))
    return max(1, min(_MOST_ALLELES, n_windows, _MOST_NUMBERS // len(scoring.tracks)))


def _has_logits(model: Model) -> bool:
    """Return whether a model's outputs are known to be logits of probabilities."""
    return all(isinstance(getattr(member, "body", member), Beluga) for member in members_of(model))
