"""What a bigWig is made of and where it goes, for whichever writer makes it."""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tism_scan.bigwig.headers import MAX_CHROM_BP
from tism_scan.errors import ExportError
from tism_scan.storage.partials import partial_beside

ReadScores = Callable[[str, int, int], NDArray[np.float32]]
"""Return the scores of ``(chrom, start, end)``, float32 (end - start,), NaN where there is none.

The array is still in use when the next ones are asked for: each call must give another.
"""


@dataclass(frozen=True)
class WriteTask:
    """One bigWig to be written.

    Attributes
    ----------
    path : Path
        The name that it gets in the end.
    partial : Path
        Where it is written and checked.
    chroms : Mapping from str to int
        Names and lengths in the header, in order.
    chosen : Mapping from str to int
        Those whose scores are written.
    read : ReadScores
    block_bp : int
    on_progress : callable
        Called with the number of bases just done.
    """

    path: Path
    partial: Path
    chroms: Mapping[str, int]
    chosen: Mapping[str, int]
    read: ReadScores
    block_bp: int
    on_progress: Callable[[int], None]

    def blocks(self, chrom: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield start and scores of each block of a chrom; report it done after use.

        Raises
        ------
        ExportError
            If a score is infinite.
        ValueError
            If `read` returns another shape than was asked for.
        """
        length = self.chosen[chrom]
        for start in range(0, length, self.block_bp):
            end = min(start + self.block_bp, length)
            yield start, self._scores(chrom, start, end)
            self.on_progress(end - start)

    def _scores(self, chrom: str, start: int, end: int) -> NDArray[np.float32]:
        scores = np.ascontiguousarray(self.read(chrom, start, end), dtype=np.float32)
        if scores.shape != (end - start,):
            # No writer would notice entries past a chrom's end.
            raise ValueError(
                f"read({chrom!r}, {start}, {end}) gave shape {scores.shape}, not ({end - start},)"
            )
        infinite = np.isinf(scores)
        if infinite.any():
            position = start + int(infinite.argmax())
            raise ExportError(
                f"the score of {chrom}:{position}-{position + 1} is {scores[position - start]}; a bigWig "
                f"holds finite numbers only; scan that block again, or leave {chrom} out of {self.path.name}"
            )
        return scores


def choose_chroms(chroms: Mapping[str, int], only: Collection[str] | None) -> dict[str, int]:
    """Return the chroms to write, in the header's order, after naming all that cannot be."""
    problems = [f"{chrom!r} is not in the genome" for chrom in only or () if chrom not in chroms]
    for chrom, length in chroms.items():
        if not chrom or "\0" in chrom:
            problems.append(f"{chrom!r} is not a chrom's name")
        if not 0 <= length <= MAX_CHROM_BP:
            problems.append(f"{chrom!r} has {length} bp, expected 0 to {MAX_CHROM_BP}")
    asked = chroms.keys() if only is None else set(only)
    chosen = {chrom: n for chrom, n in chroms.items() if n > 0 and chrom in asked}
    if not problems and not chosen:
        problems.append("no base of any chrom was chosen")
    if problems:
        raise ExportError(
            f"no bigWig can be made of these chroms: {'; '.join(problems)}; correct or drop them"
        )
    return chosen


def partial_of(path: Path) -> Path:
    """Return the file, made here and empty, that is written aside, in the same folder."""
    if not path.parent.is_dir():
        raise ExportError(f"cannot write {path}: {path.parent} is not a folder; make it, or choose another")
    partial = partial_beside(path.absolute())
    try:
        if path.is_dir():  # this, too, raises where a name is too long
            raise ExportError(
                f"cannot write {path}: it is a folder; give the name of a file, such as scores.bw"
            )
        partial.write_bytes(b"")
    except OSError as error:
        raise ExportError(
            f"cannot write {path}: no file can be made in {path.parent} ({error.strerror}); "
            "change its permissions, or choose another folder"
        ) from None
    return partial


def refuse_little_space(path: Path, n_bytes: float) -> None:
    """Raise if a file system has less room than is needed."""
    free = shutil.disk_usage(path.absolute().parent).free
    if n_bytes > free:
        raise ExportError(
            f"{path} needs up to {n_bytes / 1e9:.3g} GB more and its folder has {free / 1e9:.3g} GB free; "
            "make room there, write to another disk, or export fewer chroms"
        )
