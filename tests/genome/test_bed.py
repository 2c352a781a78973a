import gzip

import pytest

from tism_scan.errors import RegionError
from tism_scan.genome.bed import read_bed, read_named_spans
from tism_scan.genome.intervals import Interval
from tism_scan.genome.spans import merge

CHROMS = {"chr1": 10_000, "chr2": 500}
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


@pytest.mark.parametrize("chrom", ["track_1", "tracks", "browser.2", "trackX"])
def test_contig_whose_name_begins_like_a_header_is_read(tmp_path, chrom):
    path = tmp_path / "peaks.bed"
    path.write_text(f"track name=x\n{chrom}\t3\t5\nbrowser position chr1\n")
    assert read_bed(path, {chrom: 9}) == [Interval(chrom, 3, 5)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t10", r"line 2: 'chr1\\t10' has 2 of at least 3 columns"),
        (
            "chr1\tten\t20",
            "start 'ten' and end '20' are not both whole numbers; put # before a header",
        ),
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
    path.write_text("chr9\t0\t5\n1\t0\t5\nchr2\t400\t900\nchr2\t600\t700\n")
    intervals = read_bed(path, CHROMS, skip_unknown=True)
    assert intervals == [Interval("chr2", 400, 500), Interval("chr2", 500, 500)]
    assert merge(intervals) == {"chr2": ((400, 500),)}


def test_exclusion_list_of_the_other_prefix_is_not_passed_over(tmp_path):
    path = tmp_path / "exclude.bed"
    path.write_text("1\t0\t5\n2\t0\t5\n")
    with pytest.raises(RegionError, match=r"no line of .* lies on the genome: '1' .* only the prefix"):
        read_bed(path, CHROMS, skip_unknown=True)


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
