"""Rows around peaks as the files of TF-MoDISco, Fi-NeMo and ChromBPNet, written as streams.

References
----------
What each reads: ``modiscolite/cli.py`` of modisco-lite 3.0 (``motifs``), ``finemo/data_io.py`` of finemo 0.41
(``load_regions_npz``), and what ``interpret.py`` of chrombpnet writes.
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from tism_scan.errors import ExportError
from tism_scan.export.region_rows import TrackRows, rows_at_once, starts_of
from tism_scan.genome.alphabet import one_hot
from tism_scan.genome.peaks import PeakSet
from tism_scan.optional import required
from tism_scan.storage.atomic import full_disk_explained, replaced_file

Format = Literal["modisco", "finemo", "chrombpnet-h5"]
FILES: dict[str, tuple[str, ...]] = {
    "modisco": ("ohe.npz", "hyp.npz"),
    "finemo": ("regions.npz",),
    "chrombpnet-h5": ("scores.h5",),
}
BYTES_PER_BASE: dict[str, int] = {"modisco": 17, "finemo": 9, "chrombpnet-h5": 17}  # at most; one-hot packs
_CHUNK_BYTES = 1 << 18

OnRows = Callable[[int], None]


def check_libraries(form: str) -> None:
    """Raise unless the libraries that a format needs are installed.

    Raises
    ------
    ExportError
    """
    if form == "chrombpnet-h5":
        _h5py()


def write_track(
    form: Format,
    folder: Path,
    rows: TrackRows,
    peaks: PeakSet,
    on_rows: OnRows,
) -> None:
    """Write the files of one track; each gets its name when it is whole.

    Parameters
    ----------
    form : {"modisco", "finemo", "chrombpnet-h5"}
    folder : Path
        Which is there.
    rows : TrackRows
    peaks : PeakSet
    on_rows : callable
        Told of the number of rows that were written, batch by batch.

    Raises
    ------
    ExportError
        If a file cannot be written.
    StorageFullError
        If the disk is full.
    """
    if form == "modisco":
        _write_modisco(folder, rows, on_rows)
    elif form == "finemo":
        _write_finemo(folder, rows, peaks, on_rows)
    else:
        _write_h5(folder / "scores.h5", rows, on_rows)


def _write_modisco(folder: Path, rows: TrackRows, on_rows: OnRows) -> None:
    with _opened(folder / "ohe.npz") as ohe, _opened(folder / "hyp.npz") as hyp:
        with _archive(ohe) as archive:
            letters = (one_hot(codes) for codes in rows.codes.batches())
            _add(archive, "arr_0", np.float32, rows.scores.shape, letters, packed=True)
        with _archive(hyp) as archive:
            scores = _told(rows.scores.batches(), on_rows)
            _add(archive, "arr_0", np.float32, rows.scores.shape, scores)


def _write_finemo(folder: Path, rows: TrackRows, peaks: PeakSet, on_rows: OnRows) -> None:
    shape, scale = rows.scores.shape, rows.half_scale
    starts = starts_of(peaks, shape[-1]).astype(np.int32)
    with _opened(folder / "regions.npz") as file, _archive(file) as archive:
        sequences = (one_hot(codes).astype(np.int8) for codes in rows.codes.batches())
        _add(archive, "sequences", np.int8, shape, sequences, packed=True)
        scores = (_half(each, scale) for each in rows.scores.batches())
        _add(archive, "contributions", np.float16, shape, _told(scores, on_rows))
        small: dict[str, NDArray[Any]] = {
            "chr": np.array(peaks.labels)[peaks.i_chrom],
            "chr_id": peaks.i_chrom.astype(np.uint32),
            "start": starts,
            "peak_id": np.arange(len(peaks), dtype=np.uint32),
            "peak_name": np.array(peaks.names()),
            "scale": np.array(scale),
        }
        for key, values in small.items():
            _add(archive, key, values.dtype, values.shape, [values], packed=True)


def _write_h5(path: Path, rows: TrackRows, on_rows: OnRows) -> None:
    h5py, scale, (n, _, width) = _h5py(), rows.half_scale, rows.scores.shape
    kinds = {"raw": np.int8, "shap": np.float16, "projected_shap": np.float16}
    n_in_chunk = max(1, min(n, rows_at_once(width), _CHUNK_BYTES // (8 * width)))
    with _opened(path) as whole:
        try:
            with h5py.File(whole.name, "w") as file:
                held = {
                    group: file.create_dataset(
                        f"{group}/seq",
                        rows.scores.shape,
                        kind,
                        chunks=(n_in_chunk, 4, width),
                        compression="gzip",
                        compression_opts=1,
                        shuffle=True,
                    )
                    for group, kind in kinds.items()
                }
                file["scale"] = scale
                first = 0
                for codes, scores in rows.batches():
                    here = slice(first, first + len(codes))
                    halves, letters = _half(scores, scale), one_hot(codes)
                    held["raw"][here] = letters.astype(np.int8)
                    held["shap"][here] = halves
                    held["projected_shap"][here] = np.where(letters > 0, halves, np.float16(0))
                    first = here.stop
                    on_rows(len(codes))
        except (OSError, RuntimeError) as error:  # HDF5 has no error of its own for a full disk
            why = " ".join(str(error).split())
            raise ExportError(f"cannot write {str(path)!r}: {why}; make room there") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of a path once it is whole; a full disk is explained."""
    with replaced_file(path) as file, full_disk_explained(path):
        yield file


def _archive(file: IO[bytes]) -> zipfile.ZipFile:
    """Return an empty .npz file; level 1 packs a sequence to a tenth, five times as fast as the default."""
    return zipfile.ZipFile(file, "w", compresslevel=1)


def _add(
    archive: zipfile.ZipFile,
    key: str,
    dtype: Any,
    shape: tuple[int, ...],
    batches: Iterable[NDArray[Any]],
    *,
    packed: bool = False,
) -> None:
    """Add an array to an .npz file, batch by batch; scores hardly become smaller when they are packed."""
    archive.compression = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with archive.open(f"{key}.npy", "w", force_zip64=True) as target:
        npy.write_array_header_1_0(target, header)
        for batch in batches:
            target.write(np.ascontiguousarray(batch).tobytes())


def _told(batches: Iterator[NDArray[Any]], on_rows: OnRows) -> Iterator[NDArray[Any]]:
    """Yield batches, and tell of each."""
    for batch in batches:
        yield batch
        on_rows(len(batch))


def _half(scores: NDArray[np.float32], scale: float) -> NDArray[np.float16]:
    """Return scores times a scale, float16: without it what is below 6e-8 would become 0."""
    return (scores * np.float32(scale)).astype(np.float16)


def _h5py() -> Any:
    return required("h5py", "--format chrombpnet-h5", "'tism-scan[h5]'", ExportError)
