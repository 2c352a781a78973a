import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_plans import CHROMS, publish, random_scores, small_plan

from tism_scan.demo.auroc import best_site
from tism_scan.errors import InputError
from tism_scan.export import export_bigwigs
from tism_scan.export.browsers import check_browser_export, describe_export, read_store_annotations
from tism_scan.store.score_store import ScoreStore


def stored(folder, **plan):
    plan = small_plan(2, **plan)
    store = ScoreStore.create(folder / "s.zarr", plan, {"torch": "2.6"})
    publish(store, random_scores(plan))
    return store


def test_table_holds_what_the_export_counted(tmp_path):
    store = stored(tmp_path)
    summaries = export_bigwigs(store, tmp_path / "bw")
    describe_export(store, tmp_path / "bw", summaries)
    header, *rows = (line.split("\t") for line in (tmp_path / "bw" / "tracks.tsv").read_text().splitlines())
    for summary, track, row in zip(summaries, store.plan.scoring.tracks, rows, strict=True):
        cells = dict(zip(header, row, strict=True))
        assert (cells["file"], cells["track"]) == (summary.path.name, track.name)
        assert float(cells["limit"]) == pytest.approx(summary.limit)
        assert float(cells["sum"]) == pytest.approx(summary.total)
        assert int(cells["bases"]) == summary.n_bases
    assert "torch 2.6" in (tmp_path / "bw" / "README.txt").read_text()


def test_other_names_of_chroms_reach_the_page(tmp_path):
    store = stored(tmp_path)
    (tmp_path / "alias.txt").write_text("chr1\t1\n")
    summaries = export_bigwigs(store, tmp_path / "bw", chrom_alias=tmp_path / "alias.txt")
    describe_export(store, tmp_path / "bw", summaries, chrom_alias=tmp_path / "alias.txt")
    assert (tmp_path / "bw" / "chrom.sizes").read_text().startswith(f"1\t{CHROMS['chr1']}\n")
    session = json.loads((tmp_path / "bw" / "igv-session.json").read_text())
    assert session["tism_scan"]["fasta_names"] == {"1": "chr1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genome_id": "no name"}, "'no name' is no assembly's name"),
        ({"igv_js_file": Path("absent.js")}, "absent"),
    ],
)
def test_what_browsers_cannot_use_is_said_before_an_export_begins(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        check_browser_export(tmp_path / "bw", **options)


@pytest.mark.parametrize("chrom", ["chr1", "1"])
def test_genes_may_bear_either_name_of_a_chrom(tmp_path, chrom):
    store = stored(tmp_path)
    (tmp_path / "alias.txt").write_text("chr1\t1\n")
    (tmp_path / "genes.bed").write_text(f"{chrom}\t10\t20\tSRY\n")
    options = {"chrom_alias": tmp_path / "alias.txt"}
    genes = read_store_annotations(store, genes=tmp_path / "genes.bed", **options)
    describe_export(
        store,
        tmp_path / "bw",
        export_bigwigs(store, tmp_path / "bw", **options),
        annotations=genes,
        **options,
    )
    assert (tmp_path / "bw" / "genes.bed").read_text().startswith("1\t10\t20\tSRY\t")


def test_files_of_each_alternative_base_are_named_by_it(tmp_path):
    store = stored(tmp_path, values="tism")
    summaries = export_bigwigs(store, tmp_path / "bw", channels=True, tracks="0")
    describe_export(store, tmp_path / "bw", summaries, channels=True)
    session = json.loads((tmp_path / "bw" / "igv-session.json").read_text())
    assert session["tism_scan"]["names"] == [f"track 0, {base}" for base in "ACGT"]


def test_refused_option_leaves_the_folder_as_it_was(tmp_path):
    store = stored(tmp_path)
    summaries = export_bigwigs(store, tmp_path / "bw")
    before = sorted((tmp_path / "bw").iterdir())
    with pytest.raises(InputError, match="is no assembly's name"):
        describe_export(store, tmp_path / "bw", summaries, genome_id="no such/thing")
    assert sorted((tmp_path / "bw").iterdir()) == before


def test_the_demo_is_shown_at_a_planted_motif(demo_store, demo_genome, demo_region):
    chrom, length = demo_region
    sites = [site for site in demo_genome[chrom].sites if site.end < length]
    locus = best_site(demo_store, {chrom: replace(demo_genome[chrom], sites=sites)}, flank_bp=30)
    assert (locus.start + 30, locus.end - 30) in [(s.start, s.end) for s in sites if s.factor == "CTCF"]
