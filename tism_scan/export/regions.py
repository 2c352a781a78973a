"""Scores around peaks, of all four bases, for TF-MoDISco, Fi-NeMo and ChromBPNet's readers."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tism_scan.errors import ExportError
from tism_scan.export.folder import check_room, make_folder
from tism_scan.export.manifest import Manifest
from tism_scan.export.region_files import BYTES_PER_BASE, FILES, Format, check_libraries, write_track
from tism_scan.export.region_rows import BaseCounts
from tism_scan.export.regions_readme import readme_text
from tism_scan.export.row_sources import RegionsRequest, row_source
from tism_scan.genome.peaks import PeakSet
from tism_scan.plan.labels import file_stems, names_apart
from tism_scan.plan.tracks import choose_tracks
from tism_scan.progress import OnProgress, Progress
from tism_scan.storage.atomic import full_disk_explained
from tism_scan.storage.partials import remove_partials
from tism_scan.store.peak_store import PeakStore
from tism_scan.store.score_store import ScoreStore

log = logging.getLogger(__name__)

PEAKS = "peaks.narrowPeak"
_ROW_BYTES_PER_BASE = 17  # four scores and a code, while a track is read


@dataclass(frozen=True)
class TrackRegions:
    """The files of one track.

    Attributes
    ----------
    name : str
        The track's.
    folder : Path
        Where its files are.
    highest : float
        The largest magnitude of a hypothetical score.
    scale : float
        What scores were multiplied by; 1 in float32.
    counts : BaseCounts
        Bases that are zeros.
    """

    name: str
    folder: Path
    highest: float
    scale: float
    counts: BaseCounts


@dataclass(frozen=True)
class RegionsSummary:
    """What was exported.

    Attributes
    ----------
    n_peaks : int
        As many rows as the file has peaks.
    width : int
        Of a row, in bp.
    tracks : tuple of TrackRegions
    readme : Path
    """

    n_peaks: int
    width: int
    tracks: tuple[TrackRegions, ...]
    readme: Path


def export_regions(
    store: ScoreStore | PeakStore,
    out: str | Path,
    request: RegionsRequest,
    *,
    on_progress: OnProgress | None = None,
) -> RegionsSummary:
    """Write the scores around peaks, for other tools, and return what was written.

    One track's files are in `out`; those of several are in a folder for each. The peaks as they were used,
    and a README with the commands that load the files, are in `out`.

    Parameters
    ----------
    store : ScoreStore or PeakStore
        Of a scan, with ``values="tism"``; for exact ISM with a FASTA, of any that was refined. Or of peaks
        that were attributed.
    out : str or Path
        A folder; made if it is missing. Each file gets its name when it is whole.
    request : RegionsRequest
    on_progress : callable, optional
        Called with the rows that are read and written, twice the number of peaks for each track.

    Raises
    ------
    StoreError
        If the store holds mean TISM only, a chrom with peaks is not complete, a score is infinite, or the
        store is damaged; or exact ISM is asked for, and there is none around the peaks.
    RegionError
        If the peaks cannot be read.
    GenomeError
        If the FASTA is not the one that was scanned.
    TrackError
        If a selection fits nothing.
    ExportError
        If files are there already or cannot be written, there is no room, the width is odd, or h5py is
        missing.
    StorageFullError
        If the disk is full.
    """
    out, form = Path(out), request.format
    check_libraries(form)
    source = row_source(store, request)
    peaks, width = source.peaks, source.width
    i_tracks = choose_tracks(source.tracks, request.tracks)
    make_folder(out)
    stems = file_stems(source.tracks)
    folders = [stems[i] for i in i_tracks] if len(i_tracks) > 1 else ["."]
    target = _Target(out, form, folders, _peak_lines(peaks, width, source.chroms))
    target.check(overwrite=request.overwrite)
    for folder in folders:
        remove_partials(out / folder)
    bytes_per_base = _ROW_BYTES_PER_BASE + len(i_tracks) * BYTES_PER_BASE[form]
    check_room(
        out,
        len(peaks) * width * bytes_per_base,
        "the rows need up to",
        "export fewer --tracks or peaks, or a smaller --width",
    )
    report = _Report(2 * len(peaks) * len(i_tracks), on_progress)
    written: list[TrackRegions] = []
    name_of = names_apart(source.tracks)
    for i_track, folder in zip(i_tracks, folders, strict=True):
        name, place = name_of[i_track], out / folder
        report.part = name
        with full_disk_explained(place), closing(source.read(i_track, out, report)) as rows:
            if not written:
                target.begin()
            make_folder(place)
            write_track(form, place, rows, peaks, report)
        scale = 1.0 if form == "modisco" else rows.half_scale
        written.append(TrackRegions(name, place, rows.highest, scale, rows.counts))
        if not rows.highest:
            log.warning("%s has no score at any peak: all rows are zeros", name)
    names = [track.name for track in written]
    described = source.described(written[0].counts)
    readme = target.finish(readme_text(form, width, described, names, folders))
    return RegionsSummary(len(peaks), width, tuple(written), readme)


class _Target:
    """The files of an export, and what may be there before it.

    Parameters
    ----------
    out : Path
    form : {"modisco", "finemo", "chrombpnet-h5"}
    folders : sequence of str
        Of the tracks, from `out`.
    peak_lines : bytes
        The peaks as they are used.
    """

    def __init__(self, out: Path, form: Format, folders: Sequence[str], peak_lines: bytes) -> None:
        self._files = [out / folder / name for folder in folders for name in FILES[form]]
        self._peaks, self._peak_lines = out / PEAKS, peak_lines
        self._readme = out / f"README.{form}.txt"
        self._manifest = Manifest(out)

    def check(self, *, overwrite: bool) -> None:
        """Raise ExportError if a file would be lost that is not to be."""
        self._manifest.check([self._peaks.name, self._readme.name])
        if overwrite:
            return
        finished = [file for file in self._files if file.exists()]
        if finished:
            raise ExportError(
                f"{str(finished[0])!r} is there already; expected no file of that name; choose another "
                "--out, or add --overwrite"
            )
        if self._peaks.exists() and self._peaks.read_bytes() != self._peak_lines:
            raise ExportError(
                f"{str(self._peaks)!r} is of an export with other peaks or another width; expected the same "
                "in one folder; choose another --out, or add --overwrite"
            )

    def begin(self) -> None:
        """Remove an earlier export, so that no row is ever beside other peaks, and write the peaks."""
        for file in self._files:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise ExportError(
                    f"cannot replace {str(file)!r}: {error.strerror}; expected a file; choose another --out"
                ) from None
        self._manifest.write({self._peaks.name: self._peak_lines})

    def finish(self, text: str) -> Path:
        """Write the README, and return its path."""
        self._manifest.write({self._readme.name: text.encode()})
        return self._readme


class _Report:
    """Adds up the rows that are done, and tells of them."""

    def __init__(self, n_total: int, on_progress: OnProgress | None) -> None:
        self._n_total, self._on_progress = n_total, on_progress
        self._n_done = 0
        self.part = ""

    def __call__(self, n_more: int) -> None:
        self._n_done += n_more
        if self._on_progress is not None:
            self._on_progress(Progress(self._n_done, self._n_total, "rows", part=self.part))


def _peak_lines(peaks: PeakSet, width: int, chroms: Mapping[str, int]) -> bytes:
    """Return the peaks as narrowPeak: what is exported of each, and its summit, which is its middle as well.

    Some readers take start + summit for the centre of a row, others the middle of start and end. So what
    leaves the chrom on one side is cut on both.
    """
    lengths = np.array([chroms[chrom] for chrom in peaks.chroms])[peaks.i_chrom]
    centers = peaks.centers
    halves = np.minimum(width // 2, np.minimum(centers, lengths - centers))
    starts, ends = centers - halves, np.maximum(centers + halves, centers + 1)
    rows = zip(
        (peaks.labels[i] for i in peaks.i_chrom.tolist()),
        starts.tolist(),
        ends.tolist(),
        peaks.columns,
        halves.tolist(),
        strict=True,
    )
    return "".join(f"{label}\t{a}\t{b}\t{rest}\t{summit}\n" for label, a, b, rest, summit in rows).encode()
