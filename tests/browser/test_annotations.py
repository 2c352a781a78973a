"""Genes and other features in the files of every browser."""

import json
from xml.etree import ElementTree

import pyBigWig
import pytest
from small_exports import exported_folder
from small_plans import CHROMS, small_plan

from tism_scan.browser.annotations import place_of, read_annotations
from tism_scan.browser.view import make_server, read_folder_annotations, read_locus
from tism_scan.errors import InputError, RegionError

GENES = """\
chr1\t100\t400\tBRCA1\t0\t+\t150\t300\t0\t2\t50,100\t0,200
chr1\t20\t30\tSRY\t0\t-\t20\t30\t0\t1\t10\t0
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "genes.bed").write_text(GENES)
    (tmp_path / "my motifs.bed").write_text("chr1\t50\t60\tCTCF\t77\t+\nchr1\t5\t9\n\nchrX\t1\t2\n")
    (tmp_path / "seqlets.bed").write_text("chr1\t50\t60\tGATA1\t2000\t.\t1.25\t-0.5\n")
    return tmp_path


def read(files, **options):
    others = [str(files / "my motifs.bed"), f"seqlets of GATA1={files / 'seqlets.bed'}"]
    return read_annotations(CHROMS, {}, genes=files / "genes.bed", others=others, **options)


def test_features_have_names_rows_and_a_count_of_what_is_elsewhere(files):
    genes, motifs, seqlets = read(files)
    assert [each.name for each in (genes, motifs, seqlets)] == ["Genes", "my motifs", "seqlets of GATA1"]
    assert [row[3] for row in genes.rows] == ["SRY", "BRCA1"]
    assert motifs.rows == (("chr1", "5", "9", ".", "0", "."), ("chr1", "50", "60", "CTCF", "77", "+"))
    assert (motifs.n_elsewhere, seqlets.rows[0][4]) == (1, "1000")
    assert len({each.stem for each in (genes, motifs, seqlets)}) == 3


def test_annotations_are_above_the_tracks_in_their_order(files):
    folder = exported_folder(files / "out", small_plan(), annotations=read(files))
    tracks = json.loads((folder / "igv-session.json").read_text())["tracks"]
    orders = {track.get("url"): track["order"] for track in tracks if "order" in track}
    annotations = [f"{each.stem}.bed" for each in read(files)]
    assert sorted(orders, key=orders.get)[: len(annotations)] == annotations


def test_features_without_genes_are_read_for_a_folder(files):
    folder = exported_folder(files / "out", small_plan())
    (found,) = read_folder_annotations(folder, others=[str(files / "my motifs.bed")])
    assert (found.name, len(found.rows)) == ("my motifs", 2)


def test_every_browser_gets_each_annotation(files):
    annotations = read(files)
    folder = exported_folder(files / "out", small_plan(), annotations=annotations)
    stems = [each.stem for each in annotations]
    hub = [
        line.split(" ", 1)[1]
        for line in (folder / "hub.txt").read_text().splitlines()
        if "bigDataUrl" in line
    ]
    assert [f"{stem}.bb" for stem in stems] == hub[:3]
    assert "type bigBed 12" in (folder / "hub.txt").read_text()
    igv = ElementTree.parse(folder / "igv-desktop.xml")
    assert [each.get("path") for each in igv.findall("Resources/Resource")][:3] == [
        f"{stem}.bed" for stem in stems
    ]
    jbrowse = json.loads((folder / "config.json").read_text())
    uris = [track["adapter"]["bedLocation"]["uri"] for track in jbrowse["tracks"][:3]]
    assert uris == [f"{stem}.bed" for stem in stems]
    assert jbrowse["defaultSession"]["views"][0]["init"]["tracks"][:3] == stems
    washu = json.loads((folder / "hub.washu.json").read_text())
    assert [(each["type"], each["url"]) for each in washu[:3]] == [("bigbed", f"{stem}.bb") for stem in stems]
    page = json.loads((folder / "igv-session.json").read_text())["tracks"][:3]
    assert [(each["url"], each["searchable"]) for each in page] == [
        (f"{stem}.bed", stem == "genes") for stem in stems
    ]
    assert "genes.bed, .bb" in (folder / "README.txt").read_text()


def test_bed_and_bigbed_hold_the_same_rows(files):
    for annotation in read(files):
        folder = exported_folder(files / "out", small_plan(), annotations=[annotation])
        rows = [line.split("\t") for line in (folder / f"{annotation.stem}.bed").read_text().splitlines()]
        with pyBigWig.open(str(folder / f"{annotation.stem}.bb")) as bigbed:
            found = bigbed.entries("chr1", 0, CHROMS["chr1"])
        assert found == [(int(row[1]), int(row[2]), "\t".join(row[3:])) for row in rows]


EXONS = "chr1\t100\t400\tx\t0\t+\t150\t300\t255,0,0\t2\t50,100\t0,200\n"


def test_exons_of_bed12_are_kept(files):
    (files / "exons.bed").write_text(EXONS)
    (annotation,) = read_annotations(CHROMS, {}, others=[str(files / "exons.bed")])
    expected = (*EXONS.split()[:10], "50,100,", "0,200,")
    assert annotation.rows == (expected,)
    folder = exported_folder(files / "out", small_plan(), annotations=[annotation])
    with pyBigWig.open(str(folder / "annotation_exons.bb")) as bigbed:
        assert bigbed.entries("chr1", 0, 1000) == [(100, 400, "\t".join(expected[3:]))]


@pytest.mark.parametrize(
    "other",
    [
        "chr1\t5\t9\tshort\n",
        EXONS.replace("0,200", "0,x"),
        EXONS.replace("0,200", "0,150"),
        EXONS.replace("50,100", "50"),
        EXONS.replace("\t2\t", "\t3\t"),
        EXONS.replace("0,200", "200,0").replace("50,100", "100,50"),
    ],
)
def test_features_without_exons_have_six_columns(files, other):
    (files / "mixed.bed").write_text(EXONS + other)
    (annotation,) = read_annotations(CHROMS, {}, others=[str(files / "mixed.bed")])
    assert annotation.n_columns == 6
    assert {len(row) for row in annotation.rows} == {6}
    assert len(annotation.rows) == 2


def test_names_cannot_be_taken_for_html(files):
    (files / "bad.bed").write_text("chr1\t1\t2\t<img src=x onerror=alert(1)>\n")
    (annotation,) = read_annotations(CHROMS, {}, others=[f"<b>={files / 'bad.bed'}"])
    assert "<" not in annotation.bed().decode()
    folder = exported_folder(files / "out", small_plan(), annotations=[annotation])
    assert json.loads((folder / "igv-session.json").read_text())["tracks"][0]["name"] == "&lt;b&gt;"


@pytest.mark.parametrize("text", ["=x.bed", " =x.bed", "name="])
def test_annotation_without_a_name_or_a_file_is_refused(text):
    with pytest.raises(InputError, match="expected FILE, or NAME=FILE"):
        read_annotations(CHROMS, {}, others=[text])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("chr1\t5\n", "line 1: .*2 of at least 3 columns"),
        ("chr1\t5\t99999\n", "line 1: end 99999 is past the end of 'chr1'"),
        ("1\t5\t9\n", "no feature of .* is on a chrom of the tracks: '1' is no chrom"),
        ("# nothing\n", "it holds no line"),
    ],
)
def test_annotation_that_cannot_be_used_says_why(files, content, message):
    (files / "bad.bed").write_text(content)
    with pytest.raises(RegionError, match=message):
        read_annotations(CHROMS, {}, others=[str(files / "bad.bed")])


def test_gene_is_found_by_its_name_in_any_case(files):
    bed = read(files)[0].bed()
    assert str(place_of("brca1", bed)) == "chr1:101-400"
    assert place_of("TP53", bed) is None


def test_locus_may_be_a_gene_of_the_export_or_of_the_view(files):
    folder = exported_folder(files / "out", small_plan(), annotations=read(files)[:1])
    assert str(read_locus(folder, "sry")) == "chr1:21-30"
    (files / "other.bed").write_text("chr1\t7\t9\tSRY\n")
    others = read_folder_annotations(folder, genes=files / "other.bed")
    assert str(read_locus(folder, "SRY", others)) == "chr1:8-9"
    with pytest.raises(RegionError, match=r"'TP53' is no chrom .*none of its genes has that name"):
        read_locus(folder, "TP53")
    with pytest.raises(RegionError, match=r"'TP53' is no chrom .*--genes FILE lets genes be found by name"):
        read_locus(exported_folder(files / "bare"), "TP53")


def test_view_serves_features_that_were_not_exported(files):
    folder = exported_folder(files / "out", small_plan(), chroms={"1": 1300} | dict(list(CHROMS.items())[1:]))
    annotations = read_folder_annotations(
        folder, genes=files / "genes.bed", others=[str(files / "seqlets.bed")]
    )
    assert {row[0] for each in annotations for row in each.rows} == {"1"}
    with make_server(folder, port=0, annotations=annotations) as server:
        tracks = json.loads(server.extras["_view/settings.json"])["tracks"]
        assert [track["url"] for track in tracks] == ["_view/genes.bed", "_view/annotation_seqlets.bed"]
        assert [track["order"] for track in tracks] == [-2, -1]  # above the first track, in their order
        assert server.extras[tracks[0]["url"]] == annotations[0].bed()


def test_without_features_nothing_is_read(tmp_path):
    assert read_folder_annotations(tmp_path / "absent") == []
