"""From a file of variants to a file of results."""

import gzip
import itertools
import json
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from effect_models import PlainModel, StackModel, table_of
from leftovers import left_by_killed_writer
from variant_stores import HEADER, vcf_text

from tism_scan.effects import compute_effects, parquet, plan_effects, planning, running
from tism_scan.effects import worker as worker_module
from tism_scan.effects.haplotypes import FAILED, MISMATCH, MOST_PLACEMENTS, N_IN_REF
from tism_scan.effects.reading import packed, unpacked
from tism_scan.effects.worker import EffectWorker
from tism_scan.errors import ExportError, InputError, StoreError
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.scan.execution import Execution

MODEL = StackModel()
SETTINGS = {"tracks": "0,2", "groups": ["both=0,1"], "log2fc": True}


@pytest.fixture
def rows(small_genome):
    """Return records of every kind: substitutions, indels, several alleles, and those without a score."""
    text = small_genome.letters["chr1"]
    snvs = [("chr1", p + 1, text[p], "ACGT".replace(text[p], "")[p % 3]) for p in range(2, 70, 4)]
    return [
        *snvs,
        ("chr1", 84, text[83:86], text[83]),
        ("chr1", 90, text[89], f"{text[89]}TT,<DEL>,{'ACGT'.replace(text[89], '')[0]}"),
        ("chr1", 131, "N", "A"),
        ("chr1", 400, "A", "C"),
        ("chr2", 3, "T", "*"),
        ("chr2", 4, "T", "."),
        ("chrUn", 4, "T", "G"),
    ]


@pytest.fixture
def scored(small_genome, tmp_path):
    """Return a function that scores records, and returns the rows of the table and the summary."""
    numbers = itertools.count()

    def score(rows, *, model=MODEL, out=None, header=HEADER, shape="wide", how=None, **settings):
        number = next(numbers)
        path = tmp_path / f"in{number}.vcf"
        path.write_text(vcf_text(rows, header))
        planned = plan_effects(small_genome.path, model, path, **SETTINGS | settings)
        out = out or tmp_path / f"out{number}.tsv.gz"
        summary = compute_effects(planned, out, shape=shape, **how or {})
        return (table_of(out) if out.name.endswith(".tsv.gz") and summary.out else None), summary

    return score


@pytest.fixture
def small_parts(monkeypatch):
    """Make parts of five alleles."""
    monkeypatch.setattr(planning, "_MOST_ALLELES", 5)


def numbers_of(table):
    """Return the numbers of a wide table, (rows, columns)."""
    names = ("output_0", "output_2", "both")
    columns = [f"{name}_{kind}" for name in names for kind in ("ref", "alt", "diff", "log2fc")]
    return np.array([[float(row[name].replace("NA", "nan")) for name in columns] for row in table])


def test_each_allele_has_a_row_in_the_files_order_and_no_parts_are_left(scored, rows, small_parts, tmp_path):
    table, summary = scored(rows)
    expected = [(c, str(p), r, alt) for c, p, r, alts in rows for alt in alts.split(",")]
    assert [tuple(row[name] for name in ("chrom", "pos", "ref", "alt")) for row in table] == expected
    assert list(table[0]) == [
        *("chrom", "pos", "id", "ref", "alt", "ref_match", "n_in_window"),
        *(f"output_{i}_{kind}" for i in (0, 2) for kind in ("ref", "alt", "diff", "log2fc")),
        *(f"both_{kind}" for kind in ("ref", "alt", "diff", "log2fc")),
        "reason",
    ]
    reasons = {(row["chrom"], row["pos"], row["alt"]): row["reason"] for row in table if row["reason"] != "."}
    assert reasons == {
        ("chr1", "90", "<DEL>"): "symbolic allele",
        ("chr1", "131", "A"): "letters other than A, C, G and T",
        ("chr1", "400", "C"): "past the chrom's end",
        ("chr2", "3", "*"): "* allele",
        ("chr2", "4", "."): "no alternative allele",
        ("chrUn", "4", "G"): "contig that the genome lacks",
    }
    assert summary.tally.reasons[""] == len(table) - len(reasons)
    is_scored = np.array([row["reason"] == "." for row in table])
    numbers = numbers_of(table)
    assert np.isfinite(numbers[is_scored]).all()
    assert np.isnan(numbers[~is_scored]).all()
    assert {row["ref_match"] for row, each in zip(table, is_scored, strict=True) if each} == {"1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in0.vcf", "out0.tsv.gz", "out0.tsv.gz.tbi"]


def test_what_a_killed_run_left_is_removed(scored, rows, tmp_path):
    left = left_by_killed_writer(tmp_path / "out.tsv.gz")
    scored(rows[:2], out=tmp_path / "out.tsv.gz")
    assert not left.exists()


def test_sizes_of_parts_order_and_sharing_change_no_number(scored, rows, monkeypatch):
    whole, _ = scored(rows)
    monkeypatch.setattr(planning, "_MOST_ALLELES", 4)
    shuffled, summary = scored(rows[::-1])
    assert summary.result.n_blocks > 3
    plain, _ = scored(rows, model=PlainModel())
    order = {(row["chrom"], row["pos"], row["alt"]): i for i, row in enumerate(shuffled)}
    again = [shuffled[order[row["chrom"], row["pos"], row["alt"]]] for row in whole]
    np.testing.assert_allclose(numbers_of(again), numbers_of(whole), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numbers_of(plain), numbers_of(whole), rtol=1e-4, atol=1e-6)


def test_interrupted_work_goes_on_and_gives_the_same_bytes(scored, rows, small_parts, monkeypatch, tmp_path):
    scored(rows, out=tmp_path / "whole.tsv.gz")
    computed, n_calls = worker_module.computed, itertools.count()

    def stopped(*arguments, **settings):
        if next(n_calls) == 2:
            raise KeyboardInterrupt
        return computed(*arguments, **settings)

    monkeypatch.setattr(worker_module, "computed", stopped)
    out = tmp_path / "out.tsv.gz"
    with pytest.raises(KeyboardInterrupt):
        scored(rows, out=out)
    assert not out.exists()
    _, summary = scored(rows, out=out)
    assert summary.result.n_bp_before == 10
    assert out.read_bytes() == (tmp_path / "whole.tsv.gz").read_bytes()
    assert not (tmp_path / "out.tsv.gz.parts").exists()


def test_work_that_is_stopped_writes_no_file_and_keeps_its_parts(scored, rows, monkeypatch, tmp_path):
    scan_pending, out = running.scan_pending, tmp_path / "out.tsv.gz"

    def stopped(*arguments, **settings):
        return replace(scan_pending(*arguments, **settings), was_stopped=True)

    monkeypatch.setattr(running, "scan_pending", stopped)
    assert scored(rows, out=out)[1].out is None
    assert [path.name for path in tmp_path.glob("out*")] == ["out.tsv.gz.parts"]


def test_file_of_variants_that_is_changed_during_the_work_gets_no_results_of_others(
    small_genome, rows, small_parts, tmp_path
):
    path, out = tmp_path / "in.vcf", tmp_path / "out.vcf.gz"
    path.write_text(vcf_text(rows, HEADER))
    planned = plan_effects(small_genome.path, MODEL, path, **SETTINGS)

    def change(_progress):
        path.write_text(vcf_text(rows[1:], HEADER))

    with pytest.raises(InputError, match=r"in.vcf' was changed while it was scored"):
        compute_effects(planned, out, on_progress=change)
    assert not out.exists()
    with pytest.raises(InputError, match=r"in.vcf' was changed"):
        compute_effects(planned, tmp_path / "other.tsv.gz")
    path.write_text(vcf_text(rows, HEADER))
    assert compute_effects(planned, out).result.n_bp == 0
    assert out.exists()


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-3], lambda content: packed(unpacked(content)[1:])]
)
def test_damaged_input_of_a_part_is_one_clear_error(scored, rows, small_parts, tmp_path, damage):
    out = tmp_path / "out.tsv.gz"
    scored(rows, out=out, how={"keep_parts": True})
    place = tmp_path / "out.tsv.gz.parts/.scan/input/0000001"
    place.write_bytes(damage(place.read_bytes()))
    with pytest.raises(StoreError, match=r"0000001 is damaged in .*; expected the alleles of variants 6-10"):
        scored(rows, out=out)


def test_another_request_is_refused_where_parts_of_one_are(scored, rows, tmp_path):
    out = tmp_path / "out.tsv.gz"
    scored(rows, out=out, how={"keep_parts": True})
    with pytest.raises(StoreError, match=r"out.tsv.gz.parts was made .*: .*strands forward, not"):
        scored(rows, out=out, strands="both")
    with pytest.raises(StoreError, match=r"variants [0-9a-f]+, not [0-9a-f]+"):
        scored(rows[1:], out=out)
    scored(rows, out=out, strands="both", how={"overwrite": True})
    assert not (tmp_path / "out.tsv.gz.parts").exists()


def test_parts_made_under_other_names_of_chroms_are_refused(scored, tmp_path):
    out, aliases = tmp_path / "out.tsv.gz", tmp_path / "names.txt"
    rows = [("1", 3, "A", "C"), ("1", 4, "A", "C")]
    kept = {"keep_parts": True}
    aliases.write_text("chr1\t1\nchr2\t2\n")
    scored(rows, out=out, chrom_alias=aliases, how=kept)
    _, summary = scored(rows, out=out, chrom_alias=aliases, how=kept)
    assert summary.result.n_bp == 0  # they are resumed under the same names
    aliases.write_text("chr1\t2\nchr2\t1\n")
    with pytest.raises(StoreError, match=r"names 2 \(#[0-9a-f]{8}\), not 2 \(#") as refused:
        scored(rows, out=out, chrom_alias=aliases)
    assert "\n" not in str(refused.value)


def test_part_whose_model_fails_leaves_rows_that_say_so(scored, rows, small_parts, monkeypatch, tmp_path):
    def failing(self, fetched):
        raise RuntimeError("no luck")

    out = tmp_path / "out.tsv.gz"
    with monkeypatch.context() as patch:
        patch.setattr(EffectWorker, "compute", failing)
        table, summary = scored(rows, out=out)
    assert {row["reason"] for row in table} == {FAILED}
    assert (out.parent / "out.tsv.gz.parts").exists()
    table, summary = scored(rows, out=out, how={"execution": Execution(retry_failed=True)})
    assert FAILED not in {row["reason"] for row in table}
    assert summary.result.failed == {}


def test_long_table_has_a_row_for_each_track(scored, rows):
    wide, _ = scored(rows)
    long, _ = scored(rows, shape="long")
    assert [row["track"] for row in long[:3]] == ["output_0", "output_2", "both"]
    kinds = ("ref", "alt", "diff", "log2fc")
    numbers = [[row[f"track_{kind}"] for kind in kinds] for row in long]
    names = ("output_0", "output_2", "both")
    assert numbers == [[row[f"{name}_{kind}"] for kind in kinds] for row in wide for name in names]


def as_text(name, value):
    """Return what the table has for a value of a Parquet file."""
    if value is None:
        return "." if name in ("id", "reason") else "NA"
    return f"{value:.6g}" if isinstance(value, float) else str(int(value) if name == "ref_match" else value)


@pytest.mark.parametrize("shape", ["wide", "long"])
@pytest.mark.parametrize("group_bytes", [1, 2000, 1 << 30])
def test_parquet_has_the_tables_rows_in_typed_columns(
    scored, rows, small_parts, monkeypatch, tmp_path, shape, group_bytes
):
    monkeypatch.setattr(parquet, "_GROUP_BYTES", group_bytes)
    changed, _ = mismatched(rows)
    table, _ = scored(changed, shape=shape, on_mismatch="swap")
    _, summary = scored(changed, shape=shape, on_mismatch="swap", out=tmp_path / "out.parquet")
    with pq.ParquetFile(tmp_path / "out.parquet") as file:
        found, n_groups = file.read(), file.num_row_groups
    assert [{name: as_text(name, value) for name, value in row.items()} for row in found.to_pylist()] == table
    assert (n_groups == 1) == (group_bytes == 1 << 30)
    assert (n_groups == len(table)) == (group_bytes == 1)
    assert found["id"].null_count == len(table)  # none has a name
    types = {name: str(found.schema.field(name).type) for name in found.schema.names}
    assert (types.pop("pos"), types.pop("ref_match"), types.pop("n_in_window")) == ("int32", "bool", "int32")
    assert {types.pop(name) for name in ("id", "ref", "alt")} == {"string"}
    few = {types.pop(name) for name in ("chrom", "reason", "track") if name in types}
    assert few == {"dictionary<values=string, indices=int32, ordered=0>"}
    assert set(types.values()) == {"float"}
    origin = json.loads(found.schema.metadata[b"tism_scan"])
    assert origin["Plan"] == summary.store.plan.digest()
    assert origin["Tracks"] == ["output_0", "output_2", "both"]
    assert sorted(path.name for path in tmp_path.glob("out*.p*")) == ["out.parquet"]


def test_parquet_without_pyarrow_is_refused_before_the_work(scored, rows, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(ExportError, match=r"'pyarrow' is not installed.*pip install 'tism-scan\[parquet\]'"):
        scored(rows, out=tmp_path / "out.parquet")
    assert list(tmp_path.glob("out*")) == []


def test_vcf_keeps_its_records_and_has_the_tables_numbers(scored, rows, tmp_path):
    header = HEADER.replace("#CHROM", '##INFO=<ID=EFFECT_N,Number=1,Type=Float,Description="old">\n#CHROM')
    table, _ = scored(rows)
    scored(rows, out=tmp_path / "out.vcf.gz", header=f"{header}\tFORMAT\ts1")
    lines = gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()).decode().splitlines()
    records = [line.split("\t") for line in lines if not line.startswith("#")]
    assert [(c, int(p), r, a) for c, p, _, r, a, *_ in records] == rows
    declared = [line for line in lines if line.startswith("##INFO=<ID=EFFECT_N,")]
    assert len(declared) == 1
    assert "Number=A" in declared[0]
    infos = [dict(part.partition("=")[::2] for part in record[7].split(";")) for record in records]
    (several,) = (info for info, row in zip(infos, rows, strict=True) if "<DEL>" in row[3])
    of_row = [row for row in table if row["pos"] == "90"]
    texts = [row["output_2_diff"].replace("NA", ".") for row in of_row]
    assert several["EFFECT_output_2_DIFF"].split(",") == texts
    assert several["EFFECT_REASON"].split(",") == [".", "symbolic_allele", "."]
    assert several["EFFECT_N"].split(",")[1] == "."
    assert infos[0]["EFFECT_both_LOG2FC"] == table[0]["both_log2fc"]
    assert infos[-1] == {"EFFECT_REASON": "contig_that_the_genome_lacks"}
    for record, info in zip(records, infos, strict=True):
        n_alleles = 0 if record[4] == "." else record[4].count(",") + 1
        assert {value.count(",") + 1 for key, value in info.items() if value} <= {n_alleles}
        assert (record[7] == ".") == (n_alleles == 0)
    assert (tmp_path / "out.vcf.gz.tbi").exists()


def test_vcf_flags_each_ref_that_is_not_the_genomes_and_again_the_same(scored, rows, small_genome, tmp_path):
    chrom, position, ref, alt = rows[3]
    scored([*rows[:3], (chrom, position, alt, f"{ref},<DEL>"), *rows[4:]], out=tmp_path / "out.vcf.gz")
    lines = gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()).decode().splitlines()
    records = [line.split("\t") for line in lines if not line.startswith("#")]
    assert [r[1] for r in records if "EFFECT_REFMISMATCH" in r[7].split(";")] == [str(position)]
    planned = plan_effects(small_genome.path, MODEL, tmp_path / "out.vcf.gz", **SETTINGS)
    compute_effects(planned, tmp_path / "again.vcf.gz")
    again = gzip.decompress((tmp_path / "again.vcf.gz").read_bytes()).decode().splitlines()
    assert again[-len(rows) :] == lines[-len(rows) :]
    before = (tmp_path / "out.vcf.gz").read_bytes()
    with pytest.raises(ExportError, match=r"out.vcf.gz' is the file of variants; expected another"):
        compute_effects(planned, tmp_path / "out.vcf.gz")
    assert (tmp_path / "out.vcf.gz").read_bytes() == before


def mismatched(rows):
    """Return the records with another REF in one of them, and where."""
    chrom, position, ref, alt = rows[3]
    return [*rows[:3], (chrom, position, alt, ref), *rows[4:]], str(position)


@pytest.mark.parametrize("how", ["flag", "skip", "swap", "fail"])
def test_mismatch_is_treated_as_asked(scored, rows, how):
    changed, position = mismatched(rows)
    if how == "fail":
        with pytest.raises(InputError, match=rf"1 of 20 REF .*: line 6, chr1:{position}, has"):
            scored(changed, on_mismatch=how)
        return
    straight, _ = scored(rows)
    table, summary = scored(changed, on_mismatch=how)
    (row,) = (row for row in table if row["pos"] == position)
    (known,) = (row for row in straight if row["pos"] == position)
    assert row["ref_match"] == "0"
    assert (summary.tally.n_mismatches, summary.tally.n_checked) == (1, 20)
    if how == "skip":
        assert (row["reason"], row["both_diff"]) == (MISMATCH, "NA")
    elif how == "swap":
        assert row == known | {"ref_match": "0"}
    else:
        assert float(row["both_diff"]) == pytest.approx(-float(known["both_diff"]), rel=1e-3)
        assert float(row["both_ref"]) == pytest.approx(float(known["both_alt"]), rel=1e-4)


def test_variants_of_another_genome_are_refused(scored, rows):
    others = [(c, p, alt, r) for c, p, r, alt in rows[:17]]
    with pytest.raises(InputError, match=r"is of another genome: 17 of 17 REF alleles are not this one's"):
        scored(others)
    scored(others[:9])  # which is too few to tell
    scored([*others[:5], *rows[5:10]])


def test_file_with_ref_and_alt_exchanged_throughout_is_read_with_swap(scored, rows):
    snvs = rows[:17]
    table, _ = scored([(c, p, alt, r) for c, p, r, alt in snvs], on_mismatch="swap")
    np.testing.assert_array_equal(numbers_of(table), numbers_of(scored(snvs)[0]))


def test_bases_that_the_genome_does_not_know_are_no_mismatches(scored, small_genome):
    n_run = small_genome.letters["chr1"].index("N")
    rows = [("chr1", n_run + 1 + i % 3, "A", "C") for i in range(12)]
    table, summary = scored(rows, on_mismatch="fail")
    assert {row["reason"] for row in table} == {N_IN_REF}
    assert (summary.tally.n_mismatches, summary.tally.n_checked) == (0, 0)


@pytest.mark.parametrize("suffix", [".tsv.gz", ".vcf.gz"])
@pytest.mark.parametrize(("position", "ref"), [(1 << 30, "A"), ((1 << 29) - 1, "ATTT")])
def test_position_past_what_the_usual_index_holds_gets_another_index(
    scored, rows, tmp_path, suffix, position, ref
):
    out = tmp_path / f"out{suffix}"
    scored([*rows[:2], ("chr1", position, ref, "C")], out=out)
    assert sorted(path.name for path in tmp_path.glob("out*")) == [out.name, f"{out.name}.csi"]


def test_records_out_of_order_get_no_index_and_leave_none(scored, rows, tmp_path):
    out, elsewhere = tmp_path / "out.tsv.gz", ("chr2", 3, "T", "G")
    scored(rows[:2], out=out)
    assert (tmp_path / "out.tsv.gz.tbi").exists()
    scored([rows[0], elsewhere, rows[1]], out=out)
    assert [path.name for path in tmp_path.glob("out*")] == ["out.tsv.gz"]


@pytest.mark.parametrize("input_bp", [2000, 200_000])
def test_parts_have_few_windows_even_if_all_alleles_are_in_repeats(input_bp):
    scoring = Scoring((Track("a", (0,), (1.0,)),), input_bp, input_bp)
    n_items = planning._items_per_part(scoring, shift_average=True)
    assert 1 <= n_items * MOST_PLACEMENTS * input_bp <= 64 << 20
    assert n_items <= planning._items_per_part(scoring, shift_average=False) <= (8 << 20) / input_bp


def test_other_names_of_chroms_are_told_by_a_table(scored, rows, tmp_path):
    aliases = tmp_path / "names.txt"
    aliases.write_text("chr1\t1\nchr2\t2\n")
    renamed = [(c.removeprefix("chr"), p, r, a) for c, p, r, a in rows]
    with pytest.raises(InputError, match=r"contig '1' is not in the genome, which has 'chr1'.*--chrom-alias"):
        scored(renamed)
    table, _ = scored(renamed, chrom_alias=aliases)
    np.testing.assert_array_equal(numbers_of(table), numbers_of(scored(rows)[0]))
    assert table[0]["chrom"] == "1"


def test_table_of_variants_is_read_with_its_ids(small_genome, rows, tmp_path):
    path = tmp_path / "in.tsv"
    lines = [f"{alts}\trs{p}\t{c}\t{p}\t{r}\n" for c, p, r, alts in rows]
    path.write_text("ALT\tID\tCHROM\tPOS\tREF\n" + "".join(lines))
    planned = plan_effects(small_genome.path, MODEL, path, **SETTINGS)
    compute_effects(planned, tmp_path / "out.tsv.gz")
    table = table_of(tmp_path / "out.tsv.gz")
    assert [row["id"] for row in table] == [f"rs{p}" for _, p, _, alts in rows for _ in alts.split(",")]
    with pytest.raises(ExportError, match="is a table; expected a VCF"):
        compute_effects(planned, tmp_path / "out.vcf.gz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "\n", "holds no variant"),
        (vcf_text([("chr1", "5x", "A", "C")]), "line 3 of .* has the position '5x'; expected a whole number"),
        (HEADER + "\nchr1\t5\n", "line 3 of .* has 2 columns"),
        (vcf_text([("chr1", "\u0665", "A", "C")]), "line 3 of .* has the position '\u0665'"),
        (HEADER + "\nchr1\t5\t.\tA\tC\t.\tPASS\n", "line 3 of .* has 7 columns; expected at least 8"),
        (vcf_text([("chr1", 1 << 31, "A", "C")]), "line 3 of .* has the position '2147483648'"),
        (vcf_text([("chr1", 5, "A", "C")]).replace("PASS\t.\n", "PASS\t.\r\n"), "line 3 .*Windows line end"),
        (
            vcf_text([("other", 5, "A", "C")]),
            "no contig of .* in the genome: it has other, the genome chr1",
        ),
        ("", "is empty"),
    ],
)
def test_file_that_cannot_be_used_is_one_line(small_genome, tmp_path, text, message):
    path = tmp_path / "in.vcf"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        plan_effects(small_genome.path, MODEL, path, **SETTINGS)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "settings", "shape", "message"),
    [
        ("out.txt", {}, "wide", r"has another suffix; expected .tsv.gz, .vcf.gz or .parquet"),
        ("absent/out.tsv.gz", {}, "wide", "there is no folder"),
        ("out.vcf.gz", {}, "long", "a VCF has no long format"),
        ("out.vcf.gz", {"on_mismatch": "swap"}, "wide", "swap exchanges REF and ALT"),
    ],
)
def test_file_that_cannot_be_written_is_known_before_the_work(
    scored, rows, tmp_path, name, settings, shape, message
):
    with pytest.raises(ExportError, match=message):
        scored(rows, out=tmp_path / name, shape=shape, **settings)
    assert list(tmp_path.glob("*.parts")) == []
