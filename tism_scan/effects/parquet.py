"""Exact scores of variants as a Parquet file, the table's rows in typed columns: the one door to pyarrow."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tism_scan.effects.haplotypes import REASONS
from tism_scan.effects.reading import Item
from tism_scan.effects.results import MATCH, UNKNOWN, Results
from tism_scan.effects.tables import Shape, column_names, kinds_of, origin_of, shown_alleles
from tism_scan.errors import ExportError
from tism_scan.optional import required
from tism_scan.plan.labels import names_apart
from tism_scan.plan.parts import PartsPlan

PARQUET = ".parquet"
METADATA = "tism_scan"
_GROUP_BYTES = 64 << 20  # of a row group in memory


def is_parquet(path: Path) -> bool:
    """Return whether a file is to be Parquet, by its suffix."""
    return path.name.lower().endswith(PARQUET)


def check_pyarrow() -> None:
    """Raise unless pyarrow is installed.

    Raises
    ------
    ExportError
    """
    _pyarrow()


def write_parquet(
    path: Path, plan: PartsPlan, shape: Shape, found: Iterable[tuple[Sequence[Item], Results]]
) -> None:
    """Write alleles with their results, a row group after the other.

    Parameters
    ----------
    path : Path
    plan : PartsPlan
        What it says of their origin stands in the file's metadata, as JSON under `METADATA`.
    shape : {"wide", "long"}
    found : iterable of (sequence of Item, Results)
        In the order of the rows.

    Raises
    ------
    OSError
        If there is no room.
    """
    pyarrow, columns = _pyarrow(), _Columns(plan, shape)
    with (
        open(path, "wb") as file,
        pyarrow.parquet.ParquetWriter(file, columns.schema, compression="zstd") as writer,
    ):
        for group in _groups(batch for items, results in found for batch in columns.batches(items, results)):
            writer.write_table(pyarrow.Table.from_batches(group).unify_dictionaries())


class _Columns:
    """The columns of a file, and how alleles fill them; what is missing is null."""

    def __init__(self, plan: PartsPlan, shape: Shape) -> None:
        pa = self._pa = _pyarrow()
        tracks, has_log2fc = plan.scoring.tracks, plan.options["log2fc"]
        self._kinds, self._is_long = kinds_of(has_log2fc=has_log2fc), shape == "long"
        self._few = pa.dictionary(pa.int32(), pa.string())
        self._track_names = pa.array(names_apart(tracks), self._few)
        types = {"chrom": self._few, "pos": pa.int32(), "id": pa.string(), "ref": pa.string()}
        types |= {"alt": pa.string(), "ref_match": pa.bool_(), "n_in_window": pa.int32()}
        types |= {"track": self._few, "reason": self._few}
        names = column_names(tracks, shape, has_log2fc=has_log2fc)
        origin = origin_of(plan) | {"Tracks": [track.name for track in tracks]}
        self.schema = pa.schema(
            [(name, types.get(name, pa.float32())) for name in names], {METADATA: json.dumps(origin)}
        )

    def batches(self, items: Sequence[Item], results: Results) -> Iterator[Any]:
        """Yield the rows of some alleles, as many at once as a row group may hold."""
        own, reasons = self._own(items, results)
        numbers = [getattr(results, kind) for kind in self._kinds]  # (n, T) each
        if self._is_long:
            columns = [each.ravel() for each in numbers]
        else:
            columns = [each[:, i] for i in range(len(self._track_names)) for each in numbers]
        n_each = len(self._track_names) if self._is_long else 1
        longest = max(len(item.id) + len(item.allele.ref) + len(item.allele.alt) for item in items)
        n_at_once = max(1, _GROUP_BYTES // (longest + 4 * len(self.schema)))
        for start in range(0, n_each * len(items), n_at_once):
            rows = np.arange(start, min(start + n_at_once, n_each * len(items)))
            shown = [each.take(self._pa.array(rows // n_each)) for each in (*own, reasons)]
            tracks = [self._track_names.take(self._pa.array(rows % n_each))] if self._is_long else []
            scores = [self._pa.array(each[rows], from_pandas=True) for each in columns]  # NaN is null
            yield self._pa.record_batch([*shown[:-1], *tracks, *scores, shown[-1]], schema=self.schema)

    def _own(self, items: Sequence[Item], results: Results) -> tuple[list[Any], Any]:
        """Return the alleles' own columns, and why they have no score."""
        pa = self._pa
        alleles = [shown_alleles(item, results, i) for i, item in enumerate(items)]
        known = results.ref_match != UNKNOWN, results.n_in_window != UNKNOWN
        own = [
            pa.array([item.contig for item in items], self._few),
            pa.array([item.allele.position + 1 for item in items], pa.int32()),
            pa.array([None if item.id == "." else item.id for item in items], pa.string()),
            *(pa.array(each, pa.string()) for each in zip(*alleles, strict=True)),
            pa.array(results.ref_match == MATCH, mask=~known[0]),
            pa.array(results.n_in_window, mask=~known[1]),
        ]
        return own, pa.array([REASONS[i] or None for i in results.reason.tolist()], self._few)


def _groups(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield batches of rows, those of a row group together."""
    held: list[Any] = []
    n_bytes = 0
    for batch in batches:
        if held and n_bytes + batch.nbytes > _GROUP_BYTES:
            yield held
            held, n_bytes = [], 0
        held.append(batch)
        n_bytes += batch.nbytes
    yield held


def _pyarrow() -> Any:
    for module in ("pyarrow", "pyarrow.parquet"):
        required(module, "Parquet files", "'tism-scan[parquet]'", ExportError)
    return sys.modules["pyarrow"]
