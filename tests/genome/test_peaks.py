import gzip

import pytest

from tism_scan.errors import RegionError
from tism_scan.genome.peaks import read_peaks

CHROMS = {"chr1": 1000, "chr2": 500}
ROW = "chr1\t100\t200\tp\t7\t+\t1.5\t2.5\t3.5\t30"


def peaks_of(tmp_path, text, **options):
    path = tmp_path / "x.narrowPeak"
    path.write_bytes(text.encode())
    return read_peaks(path, CHROMS, **options)


@pytest.mark.parametrize(
    ("row", "center"),
    [
        (ROW, 130),
        (ROW.replace("\t30", "\t0"), 100),
        (ROW.replace("\t30", "\t-1"), 150),
        (ROW.replace("\t30", "\t."), 150),
        (ROW.replace("\t30", "\t100"), 200),
        ("chr1\t100\t200", 150),
        ("chr1 100 203 name", 151),
        ("chr1\t7\t7", 7),
        ("chr1\t100\t200\tp\t0\t.\t100\t200\t0\t1\t100,\t0,", 150),  # BED12: column 10 counts blocks
        (
            "chr1\t900\t1400\tp\t7\t+\t1.5\t2.5\t3.5\t99",
            999,
        ),  # only its end is past the chrom's
        (ROW + "\tmore\tof\tit", 130),
    ],
)
def test_center_is_the_summit_or_the_middle(tmp_path, row, center):
    assert peaks_of(tmp_path, row).centers.tolist() == [center]


def test_every_line_is_a_peak_in_the_files_order(tmp_path):
    text = "track name=x\n# a comment\n\nchr2\t10\t20\tb\nchr1\t5\t9\nchr2\t10\t20\tb\n"
    peaks = peaks_of(tmp_path, text)
    assert len(peaks) == 3
    assert [peaks.chroms[i] for i in peaks.i_chrom] == ["chr2", "chr1", "chr2"]
    assert peaks.names() == ["b", ".", "b"]


def test_windows_line_ends_and_gzip_change_nothing(tmp_path):
    expected = peaks_of(tmp_path, f"{ROW}\nchr2\t1\t9\n")
    for content in (f"{ROW}\r\nchr2\t1\t9\r\n".encode(), gzip.compress(f"{ROW}\nchr2\t1\t9".encode())):
        (tmp_path / "other").write_bytes(content)
        found = read_peaks(tmp_path / "other", CHROMS)
        assert (found.chroms, found.columns) == (expected.chroms, expected.columns)
        assert found.centers.tolist() == expected.centers.tolist()


def test_columns_4_to_9_stay_and_missing_ones_are_narrow_peaks_own(tmp_path):
    peaks = peaks_of(tmp_path, f"{ROW}\nchr1\t5\t9\tq\t3\nchr1\t5\t9\tq\t3\t-\t5\t9\t0\t1\t4,\t0,\n")
    assert peaks.columns == ("p\t7\t+\t1.5\t2.5\t3.5", "q\t3\t.\t0\t-1\t-1", "q\t3\t-\t0\t-1\t-1")


def test_alias_names_the_files_chroms(tmp_path):
    peaks = peaks_of(tmp_path, "1\t5\t9\n", names={"chr1": "1", "chr2": "2"})
    assert (peaks.chroms, peaks.labels) == (("chr1",), ("1",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no peak"),
        ("# nothing\n\n", "holds no peak"),
        ("chr9\t1\t2\n", r"line 1: 'chr9' is no chrom"),
        ("1\t1\t2\n", "only the prefix 'chr' differs"),
        ("chr1\t9\t2\n", "end 2 is before start 9"),
        ("chr1\t9\n", "2 of at least 3 columns"),
        ("chr1\tx\t9\n", "not both whole numbers"),
        (ROW.replace("\t30", "\tx"), r"summit 'x' \(column 10\) is not a whole number"),
        (ROW.replace("\t30", "\t130"), r"summit 130 \(column 10\) is outside its peak of 100 bp"),
        (ROW.replace("\t30", "\t-2"), r"summit -2 \(column 10\) is outside"),
        ("chr1\t1000\t1400\n", "the centre 1,200 is past the end of 'chr1', 1,000 bp"),
        ("chr1\t1000\t1000\n", "the centre 1,000 is past the end of 'chr1', 1,000 bp"),
        ("chr9\t1\t2\nchr1\t9\t2\n", "2 faults: line 1.*line 2"),
    ],
)
def test_faulty_lines_are_named_in_one_line(tmp_path, text, message):
    with pytest.raises(RegionError, match=message) as raised:
        peaks_of(tmp_path, text)
    assert "\n" not in str(raised.value)


def test_file_of_another_genome_is_refused_at_once(tmp_path):
    text = "".join(f"scaffold_{i % 50}\t{i}\t{i + 9}\n" for i in range(20_000))
    with pytest.raises(RegionError, match="20000 faults"):
        peaks_of(tmp_path, text)


@pytest.mark.parametrize("content", [b"\x1f\x8b broken", b"\xff\xfe\x00"])
def test_damaged_file_is_said(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(RegionError, match="cannot read"):
        read_peaks(tmp_path / "x", CHROMS)
    with pytest.raises(RegionError, match="No such file"):
        read_peaks(tmp_path / "absent", CHROMS)
