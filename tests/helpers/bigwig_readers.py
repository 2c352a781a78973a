"""A bigWig of arrays, as three readers that share no code give it back, its zoom records counted plainly."""

import bbi
import numpy as np
import pybigtools
import pyBigWig

from tism_scan.bigwig import write_bigwig

LARGEST = np.finfo(np.float32).max


def write_arrays(path, scores, **options):
    """Write the scores of each chrom, float32 (length,), and return what `write_bigwig` returns."""
    chroms = {chrom: len(values) for chrom, values in scores.items()}
    return write_bigwig(path, chroms, lambda chrom, start, end: scores[chrom][start:end].copy(), **options)


def values_by_reader(path, chrom, length):
    """Return the scores of a chrom, float32 (length,), as each reader gives them."""
    with pyBigWig.open(str(path)) as bigwig:
        yield "pyBigWig", bigwig.values(chrom, 0, length, numpy=True).astype(np.float32)
    with pybigtools.open(str(path)) as bigwig:
        yield "pybigtools", bigwig.values(chrom, 0, length, fillna=None).astype(np.float32)
    with bbi.open(str(path)) as bigwig:
        yield "pybbi", bigwig.fetch(chrom, 0, length, missing=np.nan).astype(np.float32)


def lengths_by_reader(path):
    """Return the lengths of all chroms as each reader gives them."""
    with pyBigWig.open(str(path)) as bigwig:
        yield "pyBigWig", dict(bigwig.chroms())
    with pybigtools.open(str(path)) as bigwig:
        yield "pybigtools", bigwig.chroms()
    with bbi.open(str(path)) as bigwig:
        yield "pybbi", dict(bigwig.chromsizes)


def zoom_records_by_reader(path, chrom, length):
    """Yield reader, bases per record, and rows of start, end, bases, min, max, sum and sum of squares."""
    with pybigtools.open(str(path)) as bigwig:
        for reduction in bigwig.zooms():
            rows = [
                (
                    *(start, end, record["bases_covered"], record["min_val"], record["max_val"]),
                    *(record["sum"], record["sum_squares"]),
                )
                for start, end, record in bigwig.zoom_records(reduction, chrom)
            ]
            yield "pybigtools", reduction, np.array(rows, float).reshape(-1, 7)
    with bbi.open(str(path)) as bigwig:
        for level, reduction in enumerate(bigwig.zooms):
            table = bigwig.fetch_summaries(chrom, 0, length, level)
            columns = ["start", "end", "validCount", "min", "max", "sum", "sumSquares"]
            yield "pybbi", reduction, table[columns].to_numpy(float).reshape(-1, 7)


def expected_records(scores, reduction):
    """Return what `zoom_records_by_reader` should, from the scores of the chrom."""
    n_records = -(-len(scores) // reduction)
    bases = np.full(n_records * reduction, np.nan)
    bases[: len(scores)] = scores
    bases = bases.reshape(n_records, reduction)
    is_scored = ~np.isnan(bases)
    starts = np.arange(n_records) * reduction
    known = np.where(is_scored, bases, 0)
    rows = [
        *(starts, np.minimum(starts + reduction, len(scores)), is_scored.sum(1)),
        *(np.where(is_scored, bases, np.inf).min(1), np.where(is_scored, bases, -np.inf).max(1)),
        *(np.clip(sums.sum(1), -LARGEST, LARGEST) for sums in (known, known**2)),
    ]
    return np.column_stack(rows)[is_scored.any(1)]


def assert_readers_agree(path, scores):
    """Compare chroms, scores, and every zoom record with what was written."""
    for reader, lengths in lengths_by_reader(path):
        assert lengths == {chrom: len(values) for chrom, values in scores.items()}, reader
    for chrom, expected in scores.items():
        for reader, values in values_by_reader(path, chrom, len(expected)):
            np.testing.assert_array_equal(values, expected, err_msg=f"{reader}, {chrom}")
        assert_zooms_agree(path, chrom, expected)


def assert_zooms_agree(path, chrom, scores):
    """Compare every zoom record of a chrom with its scores."""
    for reader, reduction, records in zoom_records_by_reader(path, chrom, len(scores)):
        expected, where = expected_records(scores, reduction), f"{reader}, {chrom}, zoom {reduction}"
        np.testing.assert_array_equal(records[:, :5], expected[:, :5], err_msg=where)
        # Sums of both signs may all but cancel out: their rounding is that of the magnitudes.
        largest = max(np.nanmax(np.abs(scores.astype(np.float64)), initial=0), 1e-30)
        np.testing.assert_allclose(
            records[:, 5], expected[:, 5], rtol=1e-6, atol=1e-12 * largest * reduction, err_msg=where
        )
        np.testing.assert_allclose(records[:, 6], expected[:, 6], rtol=1e-6, atol=1e-45, err_msg=where)


def assert_headers_agree(path, scores):
    """Compare the total summary with what was written."""
    scored = np.concatenate([values[~np.isnan(values)] for values in scores.values()]).astype(np.float64)
    with pybigtools.open(str(path)) as bigwig:
        found = bigwig.info()["summary"]
    assert found["basesCovered"] == len(scored)
    if len(scored):
        assert (found["min"], found["max"]) == (scored.min(), scored.max())
        assert abs(found["sum"] - scored.sum()) <= 1e-12 * np.abs(scored).sum()
        with bbi.open(str(path)) as bigwig:
            summary = bigwig.info["summary"]
        assert (summary["basesCovered"], summary["min"], summary["max"]) == (
            *(len(scored), scored.min()),
            scored.max(),
        )
        assert summary["sum"] == found["sum"]


def assert_last_zoom_records_have_their_sum(path, chrom, length):
    """Check it of a chrom whose last bases have the score 1, which is its own square, or none."""
    with pybigtools.open(str(path)) as bigwig:
        for zoom in bigwig.zooms():
            *_, (_start, end, last) = bigwig.zoom_records(zoom, chrom)
            assert end == length
            assert last["sum"] == last["sum_squares"] == last["bases_covered"] > 0
