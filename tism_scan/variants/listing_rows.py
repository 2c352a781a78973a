"""The rows of a list of all variants: one format for many of them at once, which is what makes it quick."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tism_scan.genome.alphabet import BASES
from tism_scan.variants.records import Field

_ALTS = np.array([[code for code in range(4) if code != ref] for ref in range(4)])


def table_rows(
    chrom: str,
    positions: NDArray[np.int64],
    codes: NDArray[np.uint8],
    tism: NDArray[np.float32],
    fields: Sequence[Field],
) -> bytes:
    """Return a row for each substitution of some bases: chrom, position, REF, ALT, each track's scores.

    Parameters
    ----------
    chrom : str
        Its name in the file.
    positions : int64 (n,)
        From 1.
    codes : uint8 (n,)
        All below 4.
    tism : float32 (T, 4, n)
    fields : sequence of Field
        One a track.
    """
    letters = np.array(list(BASES), dtype=object)
    alts = _ALTS[codes]  # (n, 3)
    columns = [np.repeat(positions, 3), np.repeat(letters[codes], 3), letters[alts.ravel()]]
    form = chrom.replace("%", "%%") + "\t%d\t%s\t%s"
    for i, field in enumerate(fields):
        values = tism[i, alts, np.arange(len(codes))[:, None]].ravel()
        columns.append(values)
        form += "\t%.6g"
        if field.ranks is not None:
            columns.append(field.ranks(values))
            form += "\t%.2f"
    return _filled(form + "\n", columns)


def vcf_rows(
    chrom: str,
    positions: NDArray[np.int64],
    codes: NDArray[np.uint8],
    tism: NDArray[np.float32],
    fields: Sequence[Field],
) -> bytes:
    """Return a record for each of some bases, with its three substitutions; see `table_rows`."""
    letters = np.array(list(BASES), dtype=object)
    alts = _ALTS[codes]  # (n, 3)
    three = np.array([",".join(BASES[code] for code in row) for row in _ALTS], dtype=object)
    columns = [positions, letters[codes], three[codes]]
    form, infos = chrom.replace("%", "%%") + "\t%d\t.\t%s\t%s\t.\t.\t", []
    for i, field in enumerate(fields):
        values = tism[i, alts, np.arange(len(codes))[:, None]]
        columns += list(values.T)
        infos.append(f"{field.id}=%.6g,%.6g,%.6g")
        if field.ranks is not None:
            columns += list(field.ranks(values).T)
            infos.append(f"{field.keys[1]}=%.2f,%.2f,%.2f")
    return _filled(form + ";".join(infos) + "\n", columns)


def _filled(form: str, columns: Sequence[NDArray[np.generic]]) -> bytes:
    """Return a text for each row of columns, one after another."""
    n = len(columns[0])
    values: list[object] = [None] * (n * len(columns))
    for i, column in enumerate(columns):
        values[i :: len(columns)] = column.tolist()
    return ((form * n) % tuple(values)).encode()
