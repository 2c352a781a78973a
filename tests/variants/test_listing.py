import gzip
import shlex
import subprocess

import numpy as np
import pysam
import pysam.bcftools
import pytest
from command_line import tism_scan
from leftovers import left_by_killed_writer
from small_plans import small_plan
from variant_stores import CHROMS, variant_store, vcf_text

from tism_scan.errors import ExportError, GenomeError, RegionError, StoreError
from tism_scan.store.score_store import ScoreStore
from tism_scan.variants import calibrate
from tism_scan.variants.listing import ListingRequest, list_variants


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    store, letters, tism = variant_store(tmp_path_factory.mktemp("listing") / "s.zarr")
    calibrate(store)
    return store, letters, tism


def lines_of(path):
    with gzip.open(path, "rt") as file:
        return file.read().splitlines()


def rows_of(path):
    return [tuple(line.split("\t")) for line in lines_of(path) if not line.startswith("#")]


def is_unsure(tism, position):
    return (tism[..., position] == 0).all(axis=0).sum() != 1


def expected_rows(stored):
    """Return chrom, position, ref, alt and scores of every substitution that the store tells, one by one."""
    _, letters, tism = stored
    rows = []
    for chrom, values in tism.items():
        for position, ref in enumerate(letters[chrom]):
            if ref == "N" or is_unsure(values, position):
                continue
            for code, alt in enumerate("ACGT"):
                if alt != ref:
                    scores = values[:, code, position]
                    rows.append((chrom, str(position + 1), ref, alt, *(f"{score:.6g}" for score in scores)))
    return rows


def test_table_holds_every_substitution_once_with_its_scores(stored, tmp_path, monkeypatch):
    monkeypatch.setattr("tism_scan.variants.listing._PIECE_BP", 100)
    summary = list_variants(stored[0], tmp_path, ListingRequest("snv-tsv"))
    found = rows_of(tmp_path / "variants.tsv.gz")
    assert [(*row[:5], row[6]) for row in found] == expected_rows(stored)
    assert summary.n_rows == len(found)
    assert summary.n_unsure == sum(
        is_unsure(values, position) and stored[1][chrom][position] != "N"
        for chrom, values in stored[2].items()
        for position in range(CHROMS[chrom])
    )
    assert summary.n_unsure > 0
    names = [line for line in lines_of(tmp_path / "variants.tsv.gz") if line.startswith("#CHROM")]
    scores = "TISM_track_0\tTISM_track_0_PHRED\tTISM_track_1\tTISM_track_1_PHRED"
    assert names == [f"#CHROM\tPOS\tREF\tALT\t{scores}"]


def test_what_a_killed_listing_left_is_removed(stored, tmp_path):
    left = left_by_killed_writer(tmp_path / "variants.tsv.gz")
    list_variants(stored[0], tmp_path, ListingRequest("snv-tsv"))
    assert not left.exists()


def test_phred_of_the_table_is_the_calibrations(stored, tmp_path):
    list_variants(stored[0], tmp_path, ListingRequest("snv-tsv", tracks="1"))
    table = calibrate(stored[0]).substitutions[1]
    found = rows_of(tmp_path / "variants.tsv.gz")
    values = [stored[2][chrom][1, "ACGT".index(alt), int(pos) - 1] for chrom, pos, _, alt, *_ in found]
    assert [row[5] for row in found] == [f"{phred:.2f}" for phred in table.phred(np.array(values))]
    assert len({row[5] for row in found}) > 1000


def test_processes_and_one_write_the_same_bytes(stored, tmp_path):
    for jobs in (1, 2):
        list_variants(stored[0], tmp_path / str(jobs), ListingRequest("snv-tsv"), jobs=jobs)
    first, second = ((tmp_path / str(jobs) / "variants.tsv.gz").read_bytes() for jobs in (1, 2))
    assert first == second


def test_vcf_holds_the_same_scores_for_three_alleles_each(stored, tmp_path):
    list_variants(stored[0], tmp_path, ListingRequest("snv-vcf"))
    by_allele = []
    with pysam.VariantFile(str(tmp_path / "variants.vcf.gz")) as file:
        assert file.header.contigs["chr1"].length == CHROMS["chr1"]
        for record in file:
            for i, alt in enumerate(record.alts):
                scores = [f"{record.info[f'TISM_track_{track}'][i]:.6g}" for track in range(2)]
                by_allele.append((record.chrom, str(record.pos), record.ref, alt, *scores))
    assert by_allele == expected_rows(stored)


def test_region_is_found_through_the_index(stored, tmp_path):
    list_variants(stored[0], tmp_path, ListingRequest("snv-tsv"))
    with pysam.TabixFile(str(tmp_path / "variants.tsv.gz")) as file:
        found = {int(line.split("\t")[1]) for line in file.fetch("chr1", 599, 640)}
    assert found == {int(row[1]) for row in expected_rows(stored) if row[0] == "chr1"} & set(range(600, 641))
    assert len(found) > 25


def test_genome_tells_the_bases_that_the_scores_do_not(stored, tmp_path):
    store, letters, _ = stored
    fasta = tmp_path / "g.fa"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in letters.items()))
    summary = list_variants(store, tmp_path / "out", ListingRequest("snv-tsv", genome=fasta))
    n_known = sum(base != "N" for chrom in ("chr1", "chr2") for base in letters[chrom])
    assert (summary.n_rows, summary.n_unsure) == (3 * n_known, 0)
    assert all(letters[row[0]][int(row[1]) - 1] == row[2] for row in rows_of(summary.path))


@pytest.mark.parametrize(
    "change", [lambda text: text[::-1], lambda text: text[:-1], lambda text: "N" * len(text)]
)
def test_other_genome_is_refused(stored, tmp_path, change):
    fasta = tmp_path / "g.fa"
    fasta.write_text("".join(f">{name}\n{change(sequence)}\n" for name, sequence in stored[1].items()))
    with pytest.raises(GenomeError, match="FASTA that was scanned"):
        list_variants(stored[0], tmp_path / "out", ListingRequest("snv-tsv", genome=fasta))
    assert list((tmp_path / "out").iterdir()) == []


def commands_of(readme):
    """Return the commands of a README, each with its lines joined."""
    text = readme.read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.startswith("  ")]


@pytest.mark.parametrize("form", ["snv-tsv", "snv-vcf"])
def test_readmes_bcftools_command_gives_each_allele_its_score(stored, tmp_path, monkeypatch, form):
    store, letters, tism = stored
    list_variants(store, tmp_path, ListingRequest(form))
    monkeypatch.chdir(tmp_path)
    (command,) = [line for line in commands_of(tmp_path / "README.txt") if "bcftools annotate" in line]
    rows = []
    for position in range(300, 340):
        ref = letters["chr1"][position - 1]
        if ref != "N" and not is_unsure(tism["chr1"], position - 1):
            alts = [base for base in "TGCA" if base != ref]
            alleles = alts if form == "snv-tsv" else [",".join(alts[:2])]
            rows += [("chr1", position, ref, alt) for alt in alleles]
    header = '##fileformat=VCFv4.2\n##contig=<ID=chr1>\n##FILTER=<ID=PASS,Description="p">\n'
    (tmp_path / "calls.vcf").write_text(
        vcf_text(rows, header + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    )
    pysam.tabix_index("calls.vcf", preset="vcf", force=True)
    unwanted = ("-Oz", "-o", "annotated.vcf.gz", "calls.vcf.gz")
    words = [word for word in shlex.split(command.split("bcftools annotate")[1]) if word not in unwanted]
    text = pysam.bcftools.annotate(*words, "calls.vcf.gz")
    found = [line.split("\t") for line in text.splitlines() if line[0] != "#"]
    assert len(found) == len(rows) > 20
    for (_, position, _, alts), row in zip(rows, found, strict=True):
        values = dict(part.split("=") for part in row[7].split(";"))["TISM_track_1"].split(",")
        expected = [tism["chr1"][1, "ACGT".index(alt), position - 1] for alt in alts.split(",")]
        assert [float(value) for value in values] == pytest.approx(expected, rel=1e-5)


def test_readme_names_tracks_background_and_store(stored, tmp_path):
    list_variants(stored[0], tmp_path, ListingRequest("snv-vcf"))
    text = (tmp_path / "README.txt").read_text()
    assert stored[0].plan.digest() in text
    assert text.count("substitutions of the store") == 1
    assert "vep " in text
    assert "[[annotation]]" in text


def test_alias_names_the_chroms(stored, tmp_path):
    (tmp_path / "alias").write_text("chr1\t1%s\n")
    request = ListingRequest("snv-tsv", chroms=("chr1",), chrom_alias=tmp_path / "alias")
    list_variants(stored[0], tmp_path / "out", request)
    assert {row[0] for row in rows_of(tmp_path / "out" / "variants.tsv.gz")} == {"1%s"}


def test_incomplete_store_is_refused_unless_allowed(tmp_path):
    store, _, _ = variant_store(tmp_path / "s.zarr", blocks=lambda plan: list(plan.all_blocks())[1:])
    with pytest.raises(StoreError, match="not complete"):
        list_variants(store, tmp_path / "out", ListingRequest("snv-tsv"))
    summary = list_variants(store, tmp_path / "out", ListingRequest("snv-tsv", allow_incomplete=True))
    assert min(int(row[1]) for row in rows_of(summary.path) if row[0] == "chr1") > 512


def test_mean_store_is_refused(tmp_path):
    store = ScoreStore.create(tmp_path / "mean.zarr", small_plan())
    with pytest.raises(StoreError, match="run --values tism"):
        list_variants(store, tmp_path / "out", ListingRequest("snv-tsv"))


def test_selection_that_fits_nothing_is_said(stored, tmp_path):
    with pytest.raises(RegionError, match="chrX"):
        list_variants(stored[0], tmp_path, ListingRequest("snv-tsv", chroms=("chrX",)))


def test_want_of_room_is_said_before_the_work(stored, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr("tism_scan.export.folder.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(ExportError, match=r"all variants need about .* GB free"):
        list_variants(stored[0], tmp_path, ListingRequest("snv-tsv"))
    assert list(tmp_path.iterdir()) == []


def test_command_says_size_and_time_first(stored, tmp_path):
    done = tism_scan("export", stored[0].path, "--out", tmp_path / "out", "--format", "snv-tsv", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("up to 4,800 substitutions, about ")
    assert any("PHRED is a rank among the" in line for line in rest)
    assert any("give it with --genome GENOME.fa" in line for line in rest)
    names = ["README.txt", "header.txt", "variants.tsv.gz", "variants.tsv.gz.tbi"]
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == names


def test_users_own_readme_is_never_overwritten(stored, tmp_path):
    (tmp_path / "README.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"README.txt' was not written by export"):
        list_variants(stored[0], tmp_path, ListingRequest("snv-tsv"))
    assert [path.name for path in tmp_path.iterdir()] == ["README.txt"]
    assert (tmp_path / "README.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "snv-tsv", "--channels"], "--channels has no meaning with --format snv-tsv"),
        (["--genome", "g.fa"], "--genome has no meaning with --format bigwig"),
        (["--format", "snv-vcf", "--writer", "stream"], "--writer has no meaning"),
        (["--format", "snv-vcf", "--genome", "absent.fa"], "absent.fa"),
        (["--format", "xlsx"], "xlsx"),
    ],
)
def test_command_refuses_bad_options_in_one_line(stored, tmp_path, arguments, message):
    done = tism_scan("export", stored[0].path, "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_shell_takes_the_readmes_commands(stored, tmp_path):
    for form in ("snv-tsv", "snv-vcf"):
        list_variants(stored[0], tmp_path, ListingRequest(form))
        commands = [
            line for line in commands_of(tmp_path / "README.txt") if "[[" not in line and " = " not in line
        ]
        assert any("annotate" in command for command in commands)
        for command in commands:
            if command.startswith(("bcftools", "vep", "tabix")):
                assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0
