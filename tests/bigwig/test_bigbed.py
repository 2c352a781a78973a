"""bigBed files, as two readers that share no code give them back."""

import random
import struct

import bbi
import pybigtools
import pyBigWig
import pytest

from tism_scan.bigwig.bigbed import MAGIC, bigbed

CHROMS = {"chr2": 100_000, "chr10": 50_000, "chrM": 400}


def write_bigbed(path, chroms, rows, n_columns):
    path.write_bytes(bigbed(chroms, rows, n_columns=n_columns))


def random_rows(n, seed, longest=3000):
    draw = random.Random(seed)
    rows = []
    for chrom in ("chr2", "chrM"):
        length = CHROMS[chrom]
        for i in range(n):
            start = draw.randrange(length - 1)
            end = min(length, start + 1 + draw.randrange(longest))
            rows.append((chrom, start, end, f"gene_{i}\t0\t{draw.choice('+-')}"))
    order = list(CHROMS)
    return sorted(rows, key=lambda row: (order.index(row[0]), row[1], row[2]))


@pytest.mark.parametrize("n", [1, 5, 600, 70_000])  # the index of the last has nodes above its leaves
def test_every_row_reads_back_by_two_readers(tmp_path, n):
    rows = random_rows(n, n)
    write_bigbed(tmp_path / "a.bb", CHROMS, rows, n_columns=6)
    for chrom, length in CHROMS.items():
        expected = [row[1:] for row in rows if row[0] == chrom]
        with pyBigWig.open(str(tmp_path / "a.bb")) as file:
            assert file.isBigBed()
            found = file.entries(chrom, 0, length) or []
            assert sorted(found) == sorted(expected)
        with pybigtools.open(str(tmp_path / "a.bb")) as file:
            found = [(start, end, "\t".join(rest)) for start, end, *rest in file.records(chrom)]
            assert sorted(found) == sorted(expected)


def test_long_gene_before_many_short_ones_is_found_at_its_end(tmp_path):
    shorts = (("chr2", i // 2, i // 2 + 5, f"short{i}") for i in range(2, 140_000))
    rows = [("chr2", 0, 99_000, "long"), *shorts]
    write_bigbed(tmp_path / "a.bb", CHROMS, rows, n_columns=4)
    with pyBigWig.open(str(tmp_path / "a.bb")) as file:
        assert file.entries("chr2", 98_000, 98_010) == [(0, 99_000, "long")]
    with pybigtools.open(str(tmp_path / "a.bb")) as file:
        assert [row[2] for row in file.records("chr2", 98_000, 98_010)] == ["long"]


def test_header_says_how_many_rows_columns_and_covered_bases_there_are(tmp_path):
    rows = [("chr2", 10, 30, "a"), ("chr2", 20, 40, "b"), ("chrM", 0, 5, "c")]
    write_bigbed(tmp_path / "a.bb", CHROMS, rows, n_columns=4)
    with pybigtools.open(str(tmp_path / "a.bb")) as file:
        info = file.info()
        assert file.sql().count(";") == 4
    assert bbi.is_bigbed(str(tmp_path / "a.bb"))
    summary = info["summary"]
    assert (summary["basesCovered"], summary["sum"]) == (35, 45)
    assert (summary["min"], summary["max"]) == (1, 2)
    with open(tmp_path / "a.bb", "rb") as file:
        header = struct.unpack("<I2H3Q2H2QIQ", file.read(64))
        file.seek(header[4])
        assert struct.unpack("<Q", file.read(8)) == (3,)
    assert header[6:8] == (4, 4)
    content = (tmp_path / "a.bb").read_bytes()
    assert content[:4] == content[-4:] == MAGIC.to_bytes(4, "little")


def test_rows_out_of_order_are_refused(tmp_path):
    with pytest.raises(ValueError, match="in order"):
        write_bigbed(tmp_path / "a.bb", CHROMS, [("chr2", 9, 10, "a"), ("chr2", 1, 2, "b")], n_columns=4)


def test_no_row_is_a_file_without_rows(tmp_path):
    write_bigbed(tmp_path / "a.bb", CHROMS, [], n_columns=4)
    with pyBigWig.open(str(tmp_path / "a.bb")) as file:
        assert not file.entries("chr2", 0, 1000)
