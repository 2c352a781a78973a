"""Files of seqlets: parts of each track and group of chroms, merged, sorted, and published whole."""

import heapq
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tism_scan.bgzip import BED, check_pysam, compress_file, publish_indexed
from tism_scan.errors import ExportError
from tism_scan.export import seqlet_names
from tism_scan.export.seqlet_names import Held, Naming
from tism_scan.export.seqlets import SeqletRule
from tism_scan.plan.labels import one_line
from tism_scan.plan.tracks import Track
from tism_scan.storage.atomic import check_folder, replaced_file
from tism_scan.store.score_store import ScoreStore

COLUMNS = ("chrom", "start", "end", "name", "score", "strand", "sum", "max")
_LONGEST_NAME = 200
_FILES_AT_ONCE = 64
_GROUP_BP = 1 << 22  # which shares a file


@dataclass(frozen=True)
class TrackSeqlets:
    """What was called in one track.

    Attributes
    ----------
    track : Track
        Where the store has several of its name, the output's index is behind it.
    threshold : float
        Magnitude from which on a base is high; infinite if none is.
    n_seqlets, n_bases : int
        Number of seqlets, and of bases that have a score.
    n_by_chance : float
        Seqlets to expect if the high bases were scattered independently.
    motifs : mapping from str to Held
        What the seqlets of each motif hold; empty if they were not named.
    n_refined : int or None
        With exact ISM, the number of bases that were refined; all others count as 0.
    """

    track: Track
    threshold: float
    n_seqlets: int
    n_bases: int
    n_by_chance: float
    motifs: Mapping[str, Held]
    n_refined: int | None = None


@dataclass(frozen=True)
class Calling:
    """What is called in every track, and in which folder parts are kept.

    Attributes
    ----------
    rule : SeqletRule
    naming : Naming or None
    folder : Path
    kind : str
        What the file's first line says of the scores.
    """

    rule: SeqletRule
    naming: Naming | None
    folder: Path
    kind: str


@dataclass(frozen=True)
class MotifFiles:
    """Where the names of seqlets go beside their own file.

    Attributes
    ----------
    bed : Path
        A row for each place with a name, which is the motif's: a track for browsers.
    table : Path
        How many seqlets of each track each motif has, and how much |score| they hold.
    """

    bed: Path
    table: Path

    @classmethod
    def beside(cls, out: Path) -> "MotifFiles":
        """Return those beside a file of seqlets."""
        stem, suffix = (out.stem, ".bed.gz") if out.suffix.lower() == ".gz" else (out.name, ".bed")
        stem = Path(stem).stem
        return cls(out.with_name(f"{stem}.motifs{suffix}"), out.with_name(f"{stem}.motifs.tsv"))


def shown_name(track: Track) -> str:
    """Return a track's name as files have it: on one line, without tabs."""
    return one_line(track.name, _LONGEST_NAME) or "-"


def groups_of(store: ScoreStore, chroms: Sequence[str]) -> dict[int, list[str]]:
    """Return chroms in groups by number, each of some megabases in the FASTA's order, or one long chrom."""
    groups: dict[int, list[str]] = {0: []}
    n_bp = 0
    for chrom in chroms:
        if n_bp >= _GROUP_BP:
            groups[len(groups)], n_bp = [], 0
        groups[len(groups) - 1].append(chrom)
        n_bp += store.plan.chroms[chrom]
    return groups


def part_of(folder: Path, i_track: int, group: int) -> Path:
    """Return where the seqlets of one track on a group of chroms are kept until all are merged."""
    return folder / f"{group}.{i_track}.bed"


def merge_parts(
    merged: Path,
    store: ScoreStore,
    i_tracks: Sequence[int],
    chroms: Sequence[str],
    what: Calling,
) -> None:
    """Write all seqlets into one file: chroms in the FASTA's order, starts in order within."""
    with open(merged, "w", encoding="utf-8") as file:
        file.write(
            f"# tism-scan seqlets of plan {store.plan.digest()}{what.kind}: {what.rule}"
            f"{f'; motif: {what.naming}' if what.naming else ''}\n"
        )
        columns = COLUMNS if what.naming is None else COLUMNS + seqlet_names.COLUMNS
        file.write("#" + "\t".join(columns) + "\n")
        for group, members in groups_of(store, chroms).items():
            rank = {chrom: i for i, chrom in enumerate(members)}
            parts = [part_of(what.folder, i_track, group) for i_track in i_tracks]
            while len(parts) > _FILES_AT_ONCE:  # no more open files than a process may have
                joined = parts[0].with_suffix(".joined")
                with open(joined, "w", encoding="utf-8") as target:
                    _merge_into(parts[:_FILES_AT_ONCE], target, rank)
                os.replace(joined, parts[0])
                parts = [*parts[_FILES_AT_ONCE:], parts[0]]
            _merge_into(parts, file, rank)


def _merge_into(parts: Sequence[Path], target: IO[str], rank: Mapping[str, int]) -> None:
    with ExitStack() as stack:
        files = [stack.enter_context(open(part, encoding="utf-8")) for part in parts]
        target.writelines(heapq.merge(*files, key=partial(_place, rank)))
    for part in parts:
        part.unlink()


def _place(rank: Mapping[str, int], line: str) -> tuple[int, int, int, str]:
    chrom, start, end, name, _ = line.split("\t", 4)
    return rank[chrom], int(start), int(end), name


def check_out(out: Path) -> None:
    """Raise unless a file can be written."""
    if not out.name.lower().endswith((".bed", ".bed.gz")):
        raise ExportError(f"{str(out)!r} is no BED file's name; expected .bed or .bed.gz; rename it")
    check_folder(out, "choose another --out")
    if _is_compressed(out):
        check_pysam(f"{str(out)!r} (but not for {out.stem!r})")


def _is_compressed(out: Path) -> bool:
    return out.name.lower().endswith(".gz")


def publish_names(merged: Path, files: MotifFiles, called: Sequence[TrackSeqlets], longest_bp: int) -> None:
    """Write what belongs beside a file of seqlets that have names."""
    aside = merged.with_name("motifs.bed")
    with open(merged, encoding="utf-8") as rows, open(aside, "w", encoding="utf-8") as file:
        file.writelines(seqlet_names.motif_rows(rows))
    publish(aside, files.bed, longest_bp)
    tracks = [(shown_name(each.track), each.motifs) for each in called]
    with replaced_file(files.table) as target:
        target.write(seqlet_names.table_text(tracks).encode())


def publish(merged: Path, out: Path, longest_bp: int) -> None:
    """Give a finished file, and its index, their names."""
    try:
        if not _is_compressed(out):
            os.replace(merged, out)
            return
        packed = merged.with_name(f"{merged.name}.gz")
        compress_file(merged, packed)
        publish_indexed(packed, out, BED, longest_bp=longest_bp)
    except OSError as error:
        raise ExportError(f"cannot write {str(out)!r}: {error.strerror or error}; make room there") from None
