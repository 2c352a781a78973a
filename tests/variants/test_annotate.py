import errno
import gzip
import math
import os
import sys

import numpy as np
import pysam
import pytest
from command_line import tism_scan
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leftovers import left_by_killed_writer
from small_plans import small_plan
from variant_stores import CHROMS, HEADER, sequences, variant_store, vcf_text

from tism_scan.errors import ExportError, InputError, StorageFullError, StoreError
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants import annotate
from tism_scan.variants import batches as batches_module

SEQUENCES = sequences()
IDS = ("TISM_track_0", "TISM_track_1")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return variant_store(tmp_path_factory.mktemp("variants") / "s.zarr", letters=SEQUENCES)


@pytest.fixture(scope="module")
def store(stored):
    return stored[0]


def lines_of(path):
    with gzip.open(path, "rt") as file:
        return file.read().splitlines()


def rows_of(path):
    return [line.split("\t") for line in lines_of(path) if not line.startswith("#")]


def info_of(row):
    return dict(part.partition("=")[::2] for part in row[7].split(";"))


def written(path, rows, header=HEADER):
    path.write_text(vcf_text(rows, header))
    return path


def snv(chrom, position):
    """Return a row for the base that is there, and an alternative."""
    ref = SEQUENCES[chrom][position - 1]
    return chrom, position, ref, "A" if ref != "A" else "C"


def by_the_definition(stored, chrom, position, ref, alts):
    """Return the fields of a record by a plain look-up, and whether REF is certainly another base."""
    _store, _letters, tism = stored
    values = tism[chrom][..., position - 1] if chrom in tism else np.full((2, 4), np.nan)
    texts = []
    for i_track in range(2):
        numbers = []
        for alt in alts.split(","):
            is_snv = len(ref) == len(alt) == 1 and ref.upper() in "ACGT" and alt.upper() in "ACGT"
            number = values[i_track, "ACGT".index(alt.upper())] if is_snv else np.nan
            numbers.append("." if math.isnan(number) else f"{number:.6g}")
        texts.append(",".join(numbers))
    first = ref[0].upper()
    is_wrong = first in "ACGT" and bool((np.nan_to_num(values[:, "ACGT".index(first)]) != 0).any())
    return texts, is_wrong


alleles = st.sampled_from(["A", "C", "G", "T", "a", "t", "N", "*", "<DEL>", "AC", "GTT", "G]chr2:5]"])
records = st.lists(
    st.tuples(
        st.sampled_from(["chr1", "chr2", "unwanted"]),
        st.integers(1, 1300),
        st.sampled_from(["own", "own", "own", "own", "A", "c", "N", "own+"]),
        st.lists(alleles, min_size=1, max_size=4, unique=True),
    ),
    max_size=30,
)


def made_rows(drawn):
    rows = []
    for chrom, position, ref, alts in sorted(drawn, key=lambda row: (row[0], row[1])):
        position = min(position, CHROMS[chrom])
        own = SEQUENCES[chrom][position - 1]
        letters = {"own": own, "own+": own + "ACGT"}.get(ref, ref)
        rows.append((chrom, position, letters, ",".join(alts)))
    return sorted(rows, key=lambda row: (row[0], row[1]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=records, most_records=st.integers(1, 7))
def test_annotation_is_what_a_plain_loop_over_the_store_gives(stored, tmp_path, drawn, most_records):
    rows = made_rows(drawn)
    expected = [by_the_definition(stored, *row) for row in rows]
    path = written(tmp_path / "in.vcf", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "_MOST_RECORDS", most_records)
        patch.setattr("tism_scan.variants.annotating._CHECKED_BEFORE_REFUSAL", 1000)
        summary = annotate(stored[0], path, tmp_path / "out.vcf.gz", jobs=1)
    found = rows_of(tmp_path / "out.vcf.gz")
    assert [tuple(row[i] for i in (0, 1, 3, 4)) for row in found] == [
        (c, str(p), r, a) for c, p, r, a in rows
    ]
    for row, (texts, is_wrong) in zip(found, expected, strict=True):
        info = info_of(row)
        assert [info[name] for name in IDS] == texts
        assert ("TISM_REFMISMATCH" in info) == is_wrong
    dots = sum(texts[0].split(",").count(".") for texts, _ in expected)
    counts = summary.counts
    assert counts.unscored.total() == dots == counts.n_alleles - counts.n_scored
    assert counts.n_records == len(rows)
    assert counts.n_mismatches == sum(is_wrong for _, is_wrong in expected)


def test_processes_write_the_same_bytes_as_one(store, tmp_path):
    rows = [snv(chrom, position) for chrom in ("chr1", "chr2") for position in range(1, CHROMS[chrom] + 1)]
    path = written(tmp_path / "in.vcf", rows)
    annotate(store, path, tmp_path / "a.vcf.gz", jobs=1)
    annotate(store, path, tmp_path / "b.vcf.gz", jobs=2)
    assert (tmp_path / "a.vcf.gz").read_bytes() == (tmp_path / "b.vcf.gz").read_bytes()


def test_what_a_killed_run_left_is_removed_and_nothing_else_is_left(store, tmp_path):
    path, out = written(tmp_path / "in.vcf", [snv("chr1", 1)]), tmp_path / "out.vcf.gz"
    left_by_killed_writer(out)
    annotate(store, path, out)
    assert {each.name for each in tmp_path.iterdir()} == {"in.vcf", out.name, f"{out.name}.tbi"}


def test_each_stored_chunk_is_read_once(store, tmp_path, monkeypatch):
    monkeypatch.setattr(batches_module, "_MOST_RECORDS", 7)
    read, chunks = ScoreStore.read_channels, []

    def noted(self, *place):
        chunks.extend((*place, i_base) for i_base in range(4))  # a chunk holds one track and base
        return read(self, *place)

    monkeypatch.setattr(ScoreStore, "read_channels", noted)
    rows = [snv("chr1", position) for position in range(1, 1301)]
    annotate(store, written(tmp_path / "in.vcf", rows), tmp_path / "out.vcf.gz", jobs=1)
    assert len(chunks) == len(set(chunks)) == 3 * 2 * 4


def test_all_else_in_a_record_stays_as_it_was(store, tmp_path):
    chrom, position, ref, alt = snv("chr1", 40)
    header = HEADER + "\tFORMAT\ts 1\ts2"
    rest = f"rs1\t{ref}\t{alt},<X>\t29.500\tq10;s50\tAF=0.50,1e-09;DB\tGT:GQ\t0|1:48.10\t./.:."
    (tmp_path / "in.vcf").write_text(f"{header}\n{chrom}\t{position}\t{rest}\n")
    annotate(store, tmp_path / "in.vcf", tmp_path / "out.vcf.gz")
    (row,) = rows_of(tmp_path / "out.vcf.gz")
    expected = rest.split("\t")
    assert row[2:7] == expected[:5]
    assert row[7].startswith("AF=0.50,1e-09;DB;TISM_track_0=")
    assert row[8:] == expected[6:]
    assert lines_of(tmp_path / "out.vcf.gz")[-2] == header.splitlines()[-1]


def test_annotating_again_replaces_the_fields(store, tmp_path):
    rows = [snv("chr1", position) for position in (3, 8, 700)]
    annotate(store, written(tmp_path / "in.vcf", rows), tmp_path / "a.vcf.gz")
    annotate(store, tmp_path / "a.vcf.gz", tmp_path / "b.vcf.gz")
    assert lines_of(tmp_path / "a.vcf.gz") == lines_of(tmp_path / "b.vcf.gz")


def test_file_is_found_through_its_index_and_says_what_it_holds(store, stored, tmp_path):
    rows = [snv("chr1", position) for position in range(500, 530)]
    contigs = HEADER.replace("\n", "\n##contig=<ID=chr1,length=1300>\n", 1)
    annotate(store, written(tmp_path / "in.vcf", rows, contigs), tmp_path / "out.vcf.gz")
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert file.header.info["TISM_track_0"].number == "A"
        assert file.header.info["TISM_REFMISMATCH"].type == "Flag"
        (about,) = [record for record in file.header.records if record.key == "tism_scan"]
        assert store.plan.digest() in about["Store"]
        assert about["Model"].strip('"') == "beluga"
        found = list(file.fetch("chr1", 509, 512))
    assert [record.pos for record in found] == [510, 511, 512]
    tism = stored[2]["chr1"]
    for record in found:
        expected = tism[1, "ACGT".index(record.alts[0]), record.pos - 1]
        if not math.isnan(expected):
            assert record.info["TISM_track_1"][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["gzip", "bgzip", "bcf"])
def test_compressed_files_are_read_as_plain_ones(store, tmp_path, kind):
    contigs = HEADER.replace("\n", '\n##FILTER=<ID=PASS,Description="x">\n##contig=<ID=chr1>\n', 1)
    rows = [snv("chr1", position) for position in range(1, 1000, 3) if SEQUENCES["chr1"][position - 1] != "N"]
    plain = written(tmp_path / "in.vcf", rows, contigs)
    other = tmp_path / "in.other"
    if kind == "gzip":
        other.write_bytes(gzip.compress(plain.read_bytes()))
    elif kind == "bgzip":
        pysam.tabix_compress(str(plain), str(other))
    else:
        with (
            pysam.VariantFile(str(plain)) as source,
            pysam.VariantFile(str(other), "wb", header=source.header) as to,
        ):
            for record in source:
                to.write(record)
    annotate(store, plain, tmp_path / "a.vcf.gz")
    annotate(store, other, tmp_path / "b.vcf.gz")
    assert rows_of(tmp_path / "a.vcf.gz") == rows_of(tmp_path / "b.vcf.gz")
    assert len(rows_of(tmp_path / "b.vcf.gz")) == len(rows)


def test_byte_order_mark_is_no_part_of_the_header(store, tmp_path):
    path = written(tmp_path / "in.vcf", [snv("chr1", 40)])
    annotate(store, path, tmp_path / "a.vcf.gz")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    annotate(store, path, tmp_path / "b.vcf.gz")
    assert (tmp_path / "a.vcf.gz").read_bytes() == (tmp_path / "b.vcf.gz").read_bytes()


def test_damaged_bcf_is_called_so_and_nothing_else(store, tmp_path):
    header = pysam.VariantHeader()
    header.add_line("##contig=<ID=chr1,length=1300>")
    with pysam.VariantFile(str(tmp_path / "in.bcf"), "wb", header=header) as file:
        for position in range(1, 1000):
            file.write(file.new_record("chr1", position, alleles=("A", "C")))
    content = bytearray((tmp_path / "in.bcf").read_bytes())
    content[len(content) // 2] ^= 16
    (tmp_path / "in.bcf").write_bytes(content)
    with pytest.raises(InputError, match=r"in\.bcf' is cut short or damaged; expected a whole BCF"):
        annotate(store, tmp_path / "in.bcf", tmp_path / "out.vcf.gz")


@pytest.mark.parametrize("names", ["#CHROM\tPOS\tREF\tALT", "note\tAlt\tRef\tChrom\tPos"])
def test_table_gets_columns_and_an_index(store, tmp_path, names):
    columns = [name.strip("#").upper() for name in names.split("\t")]
    rows = [dict(zip(("CHROM", "POS", "REF", "ALT"), snv("chr1", p), strict=True)) for p in (10, 20, 900)]
    lines = ["\t".join(str(row.get(name, "x y")) for name in columns) for row in rows]
    (tmp_path / "in.tsv").write_text("\n".join([names, *lines]))
    annotate(store, tmp_path / "in.tsv", tmp_path / "out.tsv.gz")
    found = [line for line in lines_of(tmp_path / "out.tsv.gz") if not line.startswith("##")]
    assert found[0] == "\t".join([names, *IDS, "TISM_REFMISMATCH"])
    assert [line.rsplit("\t", 3)[0] for line in found[1:]] == lines
    assert all(line.endswith("\t0") for line in found[1:])
    with pysam.TabixFile(str(tmp_path / "out.tsv.gz")) as file:
        assert list(file.fetch("chr1", 15, 25)) == [found[2]]


def test_contigs_of_other_names_are_found_by_the_alias_file(store, tmp_path):
    _, position, ref, alt = snv("chr1", 77)
    path = written(tmp_path / "in.vcf", [("1", position, ref, alt)])
    with pytest.raises(InputError, match=r"contig '1' is not in the store, which has 'chr1'.*--chrom-alias"):
        annotate(store, path, tmp_path / "out.vcf.gz")
    (tmp_path / "alias").write_text("chr1\t1\n")
    summary = annotate(store, path, tmp_path / "out.vcf.gz", chrom_alias=tmp_path / "alias")
    assert summary.counts.n_scored == 1


def test_contigs_that_the_store_lacks_are_named_and_counted(store, tmp_path, caplog):
    rows = [snv("chr1", 77), ("decoy", 5, "A", "C"), ("decoy", 4_000_000_00, "A", "C")]
    summary = annotate(store, written(tmp_path / "in.vcf", rows), tmp_path / "out.vcf.gz")
    assert summary.counts.unscored == {"on contigs that the store lacks": 2}
    assert "1 contigs of the file are not in the store: decoy" in caplog.text
    assert len(rows_of(tmp_path / "out.vcf.gz")) == 3


def test_reasons_are_counted(store, tmp_path):
    n = SEQUENCES["chr1"].index("N") + 1
    rows = [
        ("chr1", 0, "N", "A"),
        ("chr1", n, "N", "A"),
        ("chr1", 600, SEQUENCES["chr1"][599] + "AC", "A,TTT,*,<DEL>"),
        ("chr1", 1301, "N", "A"),
        ("unwanted", 3, "A", "C"),
    ]
    summary = annotate(store, written(tmp_path / "in.vcf", rows), tmp_path / "out.vcf.gz")
    assert dict(summary.counts.unscored) == {
        "beside the chrom's ends": 2,
        "at bases without a score (N)": 1,
        "indels": 1,
        "substitutions of several bases": 1,
        "* alleles": 1,
        "symbolic alleles": 1,
        "at bases that were not scanned": 1,
    }


def test_exactly_zero_effect_is_no_mismatch(stored, tmp_path):
    store, letters, tism = stored
    flat = np.flatnonzero((tism["chr1"] == 0).all(axis=(0, 1)))
    assert len(flat) > 0
    other = "A" if letters["chr1"][flat[0]] != "A" else "C"
    summary = annotate(
        store, written(tmp_path / "in.vcf", [("chr1", flat[0] + 1, other, "G")]), tmp_path / "out.vcf.gz"
    )
    assert summary.counts.n_mismatches == 0
    assert summary.counts.n_unsure == 1


def test_tracks_whose_names_collide_get_fields_of_their_own():
    from tism_scan.plan.tracks import Track
    from tism_scan.variants.naming import info_ids

    names = ["a b", "a-b", "A B", "a b PHRED", "REFMISMATCH", "染", ""]
    tracks = [Track(name, (i,), (1.0,)) for i, name in enumerate(names)]
    ids = info_ids(tracks)
    fields = [each.casefold() for name in ids for each in (name, f"{name}_PHRED")]
    assert len({*fields, "tism_refmismatch"}) == 2 * len(names) + 1
    assert ids[0] == "TISM_a_b"
    assert ids[5] == "TISM_track_5"


def bad_inputs():
    good = [snv("chr1", 40), snv("chr1", 90)]
    text = vcf_text(good)
    wrong = [
        ("chr1", p, "ACGT"["CGTA".index(SEQUENCES["chr1"][p - 1])], "N")
        for p in range(1, 300)
        if SEQUENCES["chr1"][p - 1] != "N"
    ]
    packed = gzip.compress(text.encode())
    yield "no header", text.split("INFO\n")[1], "has no header"
    yield "no column line", "##fileformat=VCFv4.2\nchr1\t1\t.\tA\tC\t.\t.\t.\n", "has no header"
    yield "header only half", "##fileformat=VCFv4.2\n", "has no header"
    yield "empty", "", "is empty"
    yield "empty gzip", gzip.compress(b""), "has no header"
    yield "windows", text.replace("\n", "\r\n"), "CRLF"
    yield (
        "windows below",
        text.replace("chr1\t90", "chr1\t90").replace("PASS\t.\n", "PASS\t.\r\n"),
        "line 3.*CRLF",
    )
    yield "cut gzip", packed[: len(packed) // 2], "cut short or damaged"
    yield "unsorted", vcf_text(good[::-1]), "line 4 .*out of order"
    yield "contigs mixed", vcf_text([good[0], snv("chr2", 5), good[1]]), "line 5 .*out of order on 'chr1'"
    yield (
        "past the end",
        vcf_text([("chr1", 1302, "A", "C")]),
        "line 3 .*1,302, past the end of 'chr1', 1,300 bp",
    )
    yield "no contig", vcf_text([("scaffold9", 2, "A", "C")]), "no contig .* is in the store.*--chrom-alias"
    yield "other build", vcf_text(wrong), "of another genome"
    yield (
        "other length",
        vcf_text(good, HEADER.replace("\n", "\n##contig=<ID=chr1,length=1299>\n", 1)),
        "another assembly",
    )
    yield "no number", vcf_text([("chr1", "x", "A", "C")]), "line 3 .*position 'x'"
    yield "no plain number", vcf_text([good[0], ("chr1", "9_1", "A", "C")]), "line 4 .*position '9_1'"
    yield "endless number", vcf_text([good[0], ("chr1", "9" * 5000, "A", "C")]), "line 4 .*position '9{40}';"
    yield (
        "past every index",
        vcf_text([good[0], ("scaffold9", 1 << 31, "A", "C")]),
        "line 4 .*position '2147483648'; expected a whole number up to 2,147,483,647",
    )
    yield "few columns", vcf_text(good) + "chr1\t95\t.\tA\n", "line 5 .*has 4 columns"
    yield "blank line", vcf_text(good) + "\n", "line 5 .*columns"
    yield "not text", bytes(range(256)) * 9, "has no header"


@pytest.mark.parametrize(
    ("content", "message"), [pytest.param(*rest, id=name) for name, *rest in bad_inputs()]
)
def test_bad_file_is_one_line_and_leaves_nothing(store, tmp_path, content, message):
    path = tmp_path / "in.vcf"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message) as raised:
        annotate(store, path, tmp_path / "out.vcf.gz", jobs=1)
    assert "\n" not in str(raised.value)
    assert [found.name for found in tmp_path.iterdir()] == ["in.vcf"]


@pytest.mark.parametrize("kept", [-28, -40, 60])
def test_bgzip_that_was_cut_short_is_refused(store, tmp_path, kept):
    plain = written(tmp_path / "in.vcf", [snv("chr1", position) for position in range(1, 1301)])
    pysam.tabix_compress(str(plain), str(tmp_path / "in.vcf.gz"))
    (tmp_path / "cut.vcf.gz").write_bytes((tmp_path / "in.vcf.gz").read_bytes()[:kept])
    with pytest.raises(InputError, match="cut short or damaged"):
        annotate(store, tmp_path / "cut.vcf.gz", tmp_path / "out.vcf.gz")
    assert not (tmp_path / "out.vcf.gz").exists()


def test_flipped_bits_of_a_compressed_file_are_said(store, tmp_path):
    packed = bytearray(gzip.compress(vcf_text([snv("chr1", p) for p in range(1, 1301)]).encode()))
    packed[len(packed) // 2] ^= 255
    (tmp_path / "in.vcf.gz").write_bytes(packed)
    with pytest.raises(InputError, match="cut short or damaged"):
        annotate(store, tmp_path / "in.vcf.gz", tmp_path / "out.vcf.gz")


def test_absent_file_is_said(store, tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*absent.vcf.*No such file"):
        annotate(store, tmp_path / "absent.vcf", tmp_path / "out.vcf.gz")


def test_mean_store_is_refused_with_the_command_that_makes_the_other(tmp_path):
    store = ScoreStore.create(tmp_path / "mean.zarr", small_plan())
    with pytest.raises(StoreError, match=r"mean TISM.*tism-scan run --values tism"):
        annotate(store, tmp_path / "in.vcf", tmp_path / "out.vcf.gz")


def test_incomplete_chrom_is_refused_unless_allowed(tmp_path):
    store, letters, _ = variant_store(tmp_path / "s.zarr", blocks=lambda plan: list(plan.all_blocks())[1:])
    rows = [("chr1", 40, letters["chr1"][39], "N"), ("chr2", 3, letters["chr2"][2], "A")]
    path = written(tmp_path / "in.vcf", rows)
    with pytest.raises(StoreError, match=r"not complete: chr1 \(1 block\)"):
        annotate(store, path, tmp_path / "out.vcf.gz")
    annotate(store, written(tmp_path / "other.vcf", rows[1:]), tmp_path / "out.vcf.gz")
    summary = annotate(store, path, tmp_path / "out.vcf.gz", allow_incomplete=True)
    assert summary.counts.n_records == 2


@pytest.mark.parametrize("name", ["out.vcf", "out.tsv.gz", "absent/out.vcf.gz"])
def test_impossible_place_is_refused(store, tmp_path, name):
    path = written(tmp_path / "in.vcf", [snv("chr1", 40)])
    with pytest.raises(ExportError, match="expected"):
        annotate(store, path, tmp_path / name)


def test_input_is_not_overwritten(store, tmp_path):
    path = written(tmp_path / "in.vcf.gz", [snv("chr1", 40)])
    with pytest.raises(ExportError, match="is the file to annotate"):
        annotate(store, path, path)


def test_missing_pysam_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysam", None)
    path = written(tmp_path / "in.vcf", [snv("chr1", 40)])
    with pytest.raises(ExportError, match=r"'pysam' is not installed.*tism-scan\[variants\]"):
        annotate(store, path, tmp_path / "out.vcf.gz")


def test_file_without_records_is_annotated(store, tmp_path):
    summary = annotate(store, written(tmp_path / "in.vcf", []), tmp_path / "out.vcf.gz")
    assert summary.counts.n_records == 0
    assert lines_of(tmp_path / "out.vcf.gz")[-1] == HEADER.splitlines()[-1]
    assert os.path.exists(tmp_path / "out.vcf.gz.tbi")


def test_command_says_what_became_of_the_alleles(store, tmp_path):
    rows = [snv("chr1", position) for position in (40, 41, 42)] + [("chr1", 50, "A", "AT,<INS>")]
    path = written(tmp_path / "in.vcf", rows)
    done = tism_scan("annotate", path, "--store", store.path, "--out", tmp_path / "out.vcf.gz", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert "4 records with 5 ALT alleles:" in done.stdout
    assert "1 without a score (indels), 1 without a score (symbolic alleles)" in done.stdout


@pytest.mark.parametrize("option", [["--tracks", "nothing"], ["--jobs", "0"], ["--chrom-alias", "absent"]])
def test_command_refuses_bad_input_in_one_line(store, tmp_path, option):
    path = written(tmp_path / "in.vcf", [snv("chr1", 40)])
    done = tism_scan("annotate", path, "--store", store.path, "--out", tmp_path / "out.vcf.gz", *option)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.vcf.gz").exists()


def test_full_disk_is_not_blamed_on_the_input(store, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tism_scan.variants.annotating.join", full)
    with pytest.raises(StorageFullError, match=r"no room left to write .*out\.vcf\.gz"):
        annotate(store, written(tmp_path / "in.vcf", [snv("chr1", 40)]), tmp_path / "out.vcf.gz")
    assert [found.name for found in tmp_path.iterdir()] == ["in.vcf"]


@pytest.mark.parametrize(
    ("record", "where"),
    [
        ("chr1\t50\t.\tN\t<DEL>\t.\t.\tEND=600000000\n", ("chr1", 590_000_000)),
        ("long\t536870912\t.\tACGT\tA\t.\t.\t.\n", ("long", 536_870_914)),
    ],
    ids=["END", "REF"],
)
def test_record_that_ends_past_the_common_index_is_found_by_the_other_kind(
    store, tmp_path, capfd, record, where
):
    path = written(tmp_path / "in.vcf", [snv("chr1", 40)])
    path.write_text(path.read_text() + record)
    annotate(store, path, tmp_path / "out.vcf.gz")
    assert not (tmp_path / "out.vcf.gz.tbi").exists()
    contig, position = where
    with pysam.TabixFile(str(tmp_path / "out.vcf.gz"), index=str(tmp_path / "out.vcf.gz.csi")) as file:
        assert len(list(file.fetch(contig, position, position + 1))) == 1
    assert capfd.readouterr().err == ""


def test_positions_past_the_common_index_get_the_other_kind(store, tmp_path):
    rows = [snv("chr1", 40), ("long", 5, "A", "C"), ("long", (1 << 29) + 5, "A", "C")]
    annotate(store, written(tmp_path / "in.vcf", rows), tmp_path / "out.vcf.gz")
    with pysam.TabixFile(str(tmp_path / "out.vcf.gz"), index=str(tmp_path / "out.vcf.gz.csi")) as file:
        assert len(list(file.fetch("long", 1 << 29, (1 << 29) + 9))) == 1
