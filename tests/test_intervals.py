import gzip
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tism_scan.errors import RegionError
from tism_scan.intervals import (
    Interval,
    merge,
    overlaps,
    parse_region,
    read_bed,
    read_named_spans,
    span_mask,
    subtract,
    wanted_spans,
)

CHROMS = {"chr1": 10_000, "chr2": 500, "HLA-A*01:01": 300, "HLA-A*01:01:02": 200, "chrUn_1": 50, "empty": 0}
N_BASES = 40

interval_lists = st.lists(
    st.tuples(st.integers(0, N_BASES), st.integers(0, N_BASES)).map(
        lambda ends: Interval("chr1", min(ends), max(ends))
    ),
    max_size=12,
)


def mask_of(intervals, n_bases=N_BASES):
    mask = np.zeros(n_bases, dtype=bool)
    for interval in intervals:
        mask[interval.start : interval.end] = True
    return mask


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


BED_TEXT = '#comment\ntrack name="x"\nbrowser position chr1\n\nchr1\t10\t20\tname\t0\t+\nchr2 0 500\n'
BED_INTERVALS = [Interval("chr1", 10, 20), Interval("chr2", 0, 500)]


@pytest.mark.parametrize(
    "raw",
    [
        BED_TEXT.encode(),
        BED_TEXT.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + BED_TEXT.encode(),
        gzip.compress(BED_TEXT.encode()),
    ],
    ids=["plain", "windows", "byte-order mark", "gzip"],
)
def test_bed_file_is_read_however_it_was_written(tmp_path, raw):
    path = tmp_path / "peaks"
    path.write_bytes(raw)
    assert read_bed(path, CHROMS) == BED_INTERVALS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t10", r"line 2: 'chr1\\t10' has 2 of at least 3 columns"),
        ("chr1\tten\t20", r"line 2: start 'ten' and end '20' are not both whole numbers"),
        ("chr1\t-1\t20", r"line 2: start -1 is below 0"),
        ("chr1\t30\t20", r"line 2: end 20 is before start 30"),
        ("chr1\t30\t10001", r"line 2: end 10001 is past the end of 'chr1', 10000 bp"),
        ("chr9\t30\t40", r"line 2: 'chr9' is no chrom of the FASTA"),
    ],
)
def test_bed_line_at_fault_is_named(tmp_path, line, message):
    path = tmp_path / "peaks.bed"
    path.write_text(f"chr1\t0\t1\n{line}\n")
    with pytest.raises(RegionError, match=message):
        read_bed(path, CHROMS)


def test_first_faults_of_a_bed_file_are_shown_with_their_count(tmp_path):
    path = tmp_path / "peaks.bed"
    path.write_text("chr1\t5\t4\n" * 12)
    with pytest.raises(RegionError, match=r"12 faults: line 1: .* line 5: .* and 7 more$"):
        read_bed(path, CHROMS)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff\xfe\x00\x01", "it is not text"),
        (gzip.compress(b"chr1\t1\t2\n" * 99)[:-12], "its compressed data is damaged"),
        (None, "No such file or directory"),
    ],
    ids=["binary", "cut gzip", "missing"],
)
def test_bed_file_that_cannot_be_read_says_why(tmp_path, raw, message):
    path = tmp_path / "peaks.bed"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(RegionError, match=f"cannot read '.*peaks.bed': {message}"):
        read_bed(path, CHROMS)


def test_exclusion_list_may_name_foreign_chroms_and_overrun_ends(tmp_path):
    path = tmp_path / "exclude.bed"
    path.write_text("chr9\t0\t5\nchr2\t400\t900\nchr2\t600\t700\n")
    assert merge(read_bed(path, CHROMS, skip_unknown=True)) == {"chr2": ((400, 500),)}


def test_exclusion_list_of_the_other_prefix_is_not_passed_over(tmp_path):
    path = tmp_path / "exclude.bed"
    path.write_text("1\t0\t5\n2\t0\t5\n")
    with pytest.raises(RegionError, match=r"no line of .* lies on the genome: '1' .* only the prefix"):
        read_bed(path, CHROMS, skip_unknown=True)


def test_touching_intervals_become_one_and_empty_ones_vanish():
    intervals = [Interval("b", 5, 9), Interval("b", 0, 5), Interval("a", 3, 3), Interval("b", 10, 12)]
    assert merge(intervals) == {"b": ((0, 9), (10, 12))}


@given(interval_lists)
def test_merged_spans_hold_the_same_bases_sorted_and_apart(intervals):
    spans = merge(intervals).get("chr1", ())
    assert np.array_equal(span_mask(spans, 0, N_BASES), mask_of(intervals))
    flat = [position for span in spans for position in span]
    assert flat == sorted(set(flat))


@given(interval_lists, interval_lists)
def test_subtraction_leaves_the_bases_that_are_not_taken_away(intervals, holes):
    left = subtract(merge(intervals), merge(holes))
    expected = mask_of(intervals) & ~mask_of(holes)
    assert np.array_equal(span_mask(left.get("chr1", ()), 0, N_BASES), expected)
    assert ("chr1" in left) == expected.any()


@given(interval_lists, interval_lists)
def test_subtracted_spans_are_sorted_and_not_empty(intervals, holes):
    spans = subtract(merge(intervals), merge(holes)).get("chr1", ())
    flat = [position for span in spans for position in span]
    assert flat == sorted(set(flat))


@given(interval_lists, st.integers(-5, N_BASES + 5), st.integers(-5, N_BASES + 5))
def test_mask_of_a_stretch_is_that_stretch_of_the_mask(intervals, a, b):
    start, end = min(a, b), max(a, b)
    spans = merge(intervals).get("chr1", ())
    whole = np.concatenate([np.zeros(5, dtype=bool), mask_of(intervals), np.zeros(5, dtype=bool)])
    assert np.array_equal(span_mask(spans, start, end), whole[start + 5 : end + 5])


@given(interval_lists, st.integers(-5, N_BASES + 5), st.integers(-5, N_BASES + 5))
def test_stretch_overlaps_if_its_mask_holds_a_base(intervals, a, b):
    start, end = min(a, b), max(a, b)
    spans = merge(intervals).get("chr1", ())
    assert overlaps(spans, start, end) == span_mask(spans, start, end).any()


def test_look_ups_among_a_million_spans_do_not_walk_them():
    spans = tuple((10 * i, 10 * i + 5) for i in range(1_000_000))
    began = time.perf_counter()
    for i in range(1_000):
        assert overlaps(spans, 10_000 * i, 10_000 * i + 1)
        assert span_mask(spans, 9_000 * i, 9_000 * i + 10).sum() == 5
    assert time.perf_counter() - began < 5


def test_without_wishes_the_whole_genome_is_wanted_in_its_order():
    spans = wanted_spans({"chr2": 5, "chr10": 7, "none": 0, "chr1": 3})
    assert list(spans.items()) == [("chr2", ((0, 5),)), ("chr10", ((0, 7),)), ("chr1", ((0, 3),))]


def test_regions_and_bed_files_are_united(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("chr2\t0\t10\nchr1\t15\t30\n")
    spans = wanted_spans(CHROMS, regions=["chr1:11-20"], beds=[path])
    assert list(spans.items()) == [("chr1", ((10, 30),)), ("chr2", ((0, 10),))]


def test_excluded_bed_spans_are_taken_out(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("chr2\t100\t400\nfar\t0\t1\nchrUn_1\t0\t50\n")
    spans = wanted_spans(CHROMS, include=["chr2,chrUn*"], exclude_beds=[path])
    assert spans == {"chr2": ((0, 100), (400, 500))}


@pytest.mark.parametrize(
    ("include", "exclude", "chroms"),
    [
        (["chr1,chr2"], [], ["chr1", "chr2"]),
        (["chr2", "chr1"], [], ["chr1", "chr2"]),
        (["chr*"], ["chrUn_*"], ["chr1", "chr2"]),
        ([], ["HLA*, chrUn_*", "nothing_*"], ["chr1", "chr2"]),
        (["HLA-A*01:01"], [], ["HLA-A*01:01"]),
        (["HLA-A[*]*"], [], ["HLA-A*01:01", "HLA-A*01:01:02"]),
    ],
)
def test_chroms_are_chosen_by_globs_and_names(include, exclude, chroms):
    assert list(wanted_spans(CHROMS, include=include, exclude=exclude)) == chroms


def test_included_globs_that_fit_nothing_are_all_named():
    with pytest.raises(RegionError, match=r"2 faults: 'chr3' is no chrom .* 'Chr\*' is no chrom"):
        wanted_spans(CHROMS, include=["chr1,chr3", "Chr*"])


def test_regions_at_fault_are_all_named():
    with pytest.raises(RegionError, match=r"2 faults: 'chr1:9-8' ends before .* 'chr2:0' starts at 0"):
        wanted_spans(CHROMS, regions=["chr1:9-8", "chr1:1-2", "chr2:0"])


def test_wishes_that_leave_no_base_are_refused():
    with pytest.raises(RegionError, match="no base is left to score on 6 chroms, of which 1 were chosen"):
        wanted_spans(CHROMS, regions=["chr1:1-10"], include=["chr2"])


def test_named_spans_are_those_that_overlap_the_interval(tmp_path):
    path = tmp_path / "motifs.bed"
    path.write_text(
        "track name=x\nchr1\t5\t10\tbefore\nchr1\t8\t12\tCTCF core\t0\t+\nchr1 19 30\n"
        "chr1\t20\t30\tafter\nchr2\t12\t14\telsewhere\nchr1\t15\t15\tempty\n"
    )
    assert read_named_spans(path, Interval("chr1", 10, 20)) == [(8, 12, "CTCF core"), (19, 30, "")]


def test_named_spans_at_fault_are_shown_by_line(tmp_path):
    path = tmp_path / "motifs.bed"
    path.write_text("chr9\t5\t1\tx\nchr1\tfive\t9\n")
    with pytest.raises(RegionError, match=r"line 1: end 1 is before start 5.*line 2: start 'five'"):
        read_named_spans(path, Interval("chr1", 0, 9))
