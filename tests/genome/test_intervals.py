import pytest
from hypothesis import given
from hypothesis import strategies as st

from tism_scan.errors import RegionError
from tism_scan.genome.intervals import Interval, parse_region

CHROMS = {"chr1": 10_000, "chr2": 500, "HLA-A*01:01": 300, "HLA-A*01:01:02": 200, "chrUn_1": 50, "empty": 0}


def test_interval_prints_as_browsers_do():
    assert str(Interval("chr1", 1000, 2000)) == "chr1:1,001-2,000"


def test_interval_has_the_length_of_its_bases():
    assert len(Interval("chr1", 10, 25)) == 15


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("chr1:1,000-2,000", Interval("chr1", 999, 2000)),
        ("chr1:1-10000", Interval("chr1", 0, 10_000)),
        (" chr1:7-7 ", Interval("chr1", 6, 7)),
        ("chr1", Interval("chr1", 0, 10_000)),
        ("chr1:5000", Interval("chr1", 4999, 5000)),
        ("chr1:9,001-", Interval("chr1", 9000, 10_000)),
        ("HLA-A*01:01", Interval("HLA-A*01:01", 0, 300)),
        ("HLA-A*01:01:02", Interval("HLA-A*01:01:02", 0, 200)),
        ("HLA-A*01:01:3", Interval("HLA-A*01:01", 2, 3)),
        ("HLA-A*01:01:02:3-9", Interval("HLA-A*01:01:02", 2, 9)),
    ],
)
def test_region_is_read_as_browsers_write_it(text, interval):
    assert parse_region(text, CHROMS) == interval


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1:5000-4000", r"'chr1:5000-4000' ends before it starts; .* swap the two numbers"),
        ("chr1:0-10", r"'chr1:0-10' starts at 0; expected positions from 1"),
        ("chr1:10,001-10,002", r"starts past the end of its chrom; expected positions up to 10,000"),
        ("chr1:10-10,001", r"ends past the end of its chrom; expected positions up to 10,000"),
        ("chr1:", r"'chr1:' cannot be read as a region"),
        ("chr1:ten", r"cannot be read as a region; expected a form such as chr1:1,000-2,000"),
        ("chr1:-5", r"cannot be read as a region"),
        ("chr1:1-2-3", r"cannot be read as a region"),
        ("chr1:" + "9" * 5000, r"cannot be read as a region"),
        (
            "chr1-1000-2000",
            r"'chr1-1000-2000' cannot be read as a region; .* chr1:1,000-2,000; write a colon",
        ),
        ("chr1\t1000\t2000", r"cannot be read as a region; .* write a colon"),
        ("chr11", r"'chr11' is no chrom of the FASTA; expected a name such as 'chr1'"),
        ("chrr2:1-10", r"'chrr2' is no chrom .* such as 'chr2'"),
        ("1:1-10", r"'1' is no chrom .* 'chr1'; only the prefix 'chr' differs"),
        ("", r"'' is no chrom"),
        (":1-10", r"':1-10' is no chrom"),
        ("empty", r"'empty' starts past the end"),
    ],
)
def test_region_that_cannot_be_used_says_why(text, message):
    with pytest.raises(RegionError, match=message):
        parse_region(text, CHROMS)


def test_prefix_is_explained_where_the_fasta_has_none():
    with pytest.raises(RegionError, match=r"'chrX' is no chrom .* 'X'; only the prefix"):
        parse_region("chrX:1-5", {"X": 100})


@given(st.integers(0, 9_999), st.integers(0, 9_999))
def test_printed_interval_is_read_back(a, b):
    interval = Interval("chr1", min(a, b), max(a, b) + 1)
    assert parse_region(str(interval), CHROMS) == interval
