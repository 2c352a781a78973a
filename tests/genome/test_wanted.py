import pytest

from tism_scan.errors import RegionError
from tism_scan.genome.wanted import wanted_spans

CHROMS = {"chr1": 10_000, "chr2": 500, "HLA-A*01:01": 300, "HLA-A*01:01:02": 200, "chrUn_1": 50, "empty": 0}


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


def test_name_with_a_star_is_that_chrom_and_no_other():
    chroms = {"HLA-A*01:01": 300, "HLA-A*02:01:01": 200, "HLA-A[1]": 100, "HLA-A1": 50}
    assert list(wanted_spans(chroms, include=["HLA-A*01:01"])) == ["HLA-A*01:01"]
    assert list(wanted_spans(chroms, include=["HLA-A[1]"])) == ["HLA-A[1]"]
    assert list(wanted_spans(chroms, exclude=["HLA-A*01:01,HLA-A[1]"])) == ["HLA-A*02:01:01", "HLA-A1"]


def test_included_globs_that_fit_nothing_are_all_named():
    with pytest.raises(RegionError, match=r"2 faults: 'chr3' is no chrom .* 'Chr\*' is no chrom"):
        wanted_spans(CHROMS, include=["chr1,chr3", "Chr*"])


def test_regions_at_fault_are_all_named():
    with pytest.raises(RegionError, match=r"2 faults: 'chr1:9-8' ends before .* 'chr2:0' starts at 0"):
        wanted_spans(CHROMS, regions=["chr1:9-8", "chr1:1-2", "chr2:0"])


@pytest.mark.parametrize("lines", ["", "# nothing\n", "chr1\t5\t5\n"])
def test_bed_file_without_a_base_is_named(tmp_path, lines):
    bed = tmp_path / "peaks.bed"
    bed.write_text(lines)
    with pytest.raises(RegionError, match=r"peaks.bed' holds no base; expected BED lines"):
        wanted_spans(CHROMS, regions=["chr1:1-2"], beds=[bed])
    assert wanted_spans(CHROMS, exclude_beds=[bed]) == wanted_spans(CHROMS)


def test_wishes_that_leave_no_base_are_refused():
    with pytest.raises(RegionError, match="no base is left to score on 6 chroms, of which 1 were chosen"):
        wanted_spans(CHROMS, regions=["chr1:1-10"], include=["chr2"])
