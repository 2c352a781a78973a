import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_exports import exported_folder, track_file
from small_plans import CHROMS, small_plan

from tism_scan.browser import known_assembly, track_files, write_browser_files
from tism_scan.browser.igv import igv_session
from tism_scan.browser.sessions import igv_desktop_xml, jbrowse_config, washu_hub
from tism_scan.browser.shown import Shown, identifiers
from tism_scan.browser.ucsc import hub_text
from tism_scan.errors import InputError
from tism_scan.plan.tracks import Track

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--",
    "a\nbigDataUrl http://evil.example/x.bw",
    "a\ttab\rreturn",
    "ends with a backslash\\",
    "\"quotes' & <b>&amp;]]>",
    "\0\x01\x1b[31m\ufffe\u2028\u202e",
    "x" * 500,
    "# comment",
    "\U0001f9ec éü 染色体",
    "@title@ @igv_url@",
    " ",
    "",
]
text = st.text(max_size=40) | st.sampled_from(HOSTILE)


def shown(names=("CTCF",), chroms=None, genome_id=None, **numbers):
    plan = small_plan(chroms=chroms or CHROMS)
    files = [track_file(f"/x/{i}_{name}.bw", name, **numbers) for i, name in enumerate(names)]
    files = [track_file(f"/x/{i}.bw", each.name, each.limit) for i, each in enumerate(files)]
    return Shown(files, plan, plan.chroms, {"torch": "2.6"}, genome_id)


def stanzas(hub):
    """Return the stanzas of a hub as UCSC reads them: lines of a key and a value, and blank lines between."""
    found = []
    for block in hub.strip("\n").split("\n\n"):
        lines = [line.split(" ", 1) for line in block.split("\n")]
        assert all(len(line) == 2 and line[1].strip() for line in lines)
        keys = [key for key, _ in lines]
        assert len(keys) == len(set(keys))
        found.append(dict(lines))
    return found


@given(st.lists(text, min_size=1, max_size=8))
def test_hub_holds_one_stanza_a_track_whatever_the_names(names):
    whole = hub_text(shown(names))
    assert not any(line.endswith("\\") for line in whole.split("\n"))  # which would join it to the next
    hub, genome, parent, *children = stanzas(whole)
    assert (hub["useOneFile"], parent["compositeTrack"], parent["autoScale"]) == ("on", "on", "group")
    assert "genome" in genome
    assert len(children) == len(names)
    tracks = [parent["track"], *(child["track"] for child in children)]
    assert len(set(tracks)) == len(tracks)
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", name) for name in tracks)
    for i, child in enumerate(children):
        assert child["parent"].split()[0] == parent["track"]
        assert child["bigDataUrl"] == f"{i}.bw"
        assert len(child["shortLabel"]) <= 17
        assert len(child["longLabel"]) <= 76
        assert child["logo"] == "on"
        kind, lowest, highest = child["type"].split()
        assert (kind, float(lowest)) == ("bigWig", -float(highest))


@pytest.mark.parametrize(
    ("names", "genome_id", "title"),
    [
        (("CTCF",), None, "mean TISM of beluga, 1 track"),
        (("CTCF", "GATA1"), "hg38", "mean TISM of beluga on hg38, 2 tracks"),
    ],
)
def test_title_says_of_what_and_on_which_genome(names, genome_id, title):
    assert shown(names, genome_id=genome_id).title == title


def test_track_that_is_named_like_the_hub_gets_a_name_of_its_own():
    plan = small_plan()
    name = Shown([track_file("/x/a.bw", "a")], plan, plan.chroms).name
    twin = Shown([track_file(f"/x/{name}.bw", "a")], plan, plan.chroms)
    assert twin.name == name
    _, _, parent, child = stanzas(hub_text(twin))
    assert (parent["track"], child["track"]) == (name, f"{name}_track")


@pytest.mark.parametrize("assembly", [None, "hg38"])
def test_every_browser_starts_at_the_same_bases_counted_from_1(assembly):
    plan = small_plan(wanted={"c": ((100, 200), (300, 400))})
    wide = Shown([track_file("/x/a.bw", "a")], plan, plan.chroms, genome_id=assembly)
    place = "c:101-400"
    assert ElementTree.fromstring(igv_desktop_xml(wide)).get("locus") == place
    assert igv_session(wide)["locus"] == place
    assert f'"loc": "{place}"' in json.dumps(jbrowse_config(wide))
    assert assembly or stanzas(hub_text(wide))[1]["defaultPos"] == place


def test_hub_of_a_genome_that_ucsc_knows_names_it():
    assert stanzas(hub_text(shown(genome_id="hg38")))[1] == {"genome": "hg38"}


def test_hub_of_another_genome_wants_its_sequence():
    genome = stanzas(hub_text(shown()))[1]
    assert genome["twoBitPath"] == "genome.2bit"
    assert genome["defaultPos"] == "chr1:1-1300"


@given(st.lists(text, max_size=30))
def test_identifiers_are_plain_and_all_different(texts):
    names = identifiers(texts, longest=12)
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_-]{0,11}", name) for name in names)
    assert len({name.casefold() for name in names}) == len(texts)


@given(st.lists(text, min_size=1, max_size=5), text.filter(bool))
def test_igv_desktop_session_is_xml_with_each_track_by_its_file(names, chrom):
    document = ElementTree.fromstring(igv_desktop_xml(shown(names, {chrom: 900})))
    tracks = document.findall("Panel/Track")
    files = [resource.get("path") for resource in document.findall("Resources/Resource")]
    assert [track.get("id") for track in tracks] == files == [f"{i}.bw" for i in range(len(names))]
    assert {track.get("renderer") for track in tracks} == {"DYNSEQ"}
    limits = document.find("Panel/Track/DataRange")
    assert float(limits.get("minimum")) == -float(limits.get("maximum")) == -0.5
    assert "genome" not in document.attrib


def test_igv_desktop_session_names_a_known_genome():
    assert ElementTree.fromstring(igv_desktop_xml(shown(genome_id="mm10"))).get("genome") == "mm10"


@given(st.lists(text, min_size=1, max_size=5))
def test_jbrowse_has_an_assembly_by_its_lengths_and_a_track_by_each_file(names):
    config = json.loads(json.dumps(jbrowse_config(shown(names))))
    (assembly,) = config["assemblies"]
    assert assembly["sequence"]["adapter"]["chromSizesLocation"]["uri"] == "chrom.sizes"
    ids = [track["trackId"] for track in config["tracks"]]
    assert len(set(ids)) == len(names)
    assert config["defaultSession"]["views"][0]["init"]["tracks"] == ids[:10]
    for name, track in zip(names, config["tracks"], strict=True):
        assert track["name"] == name
        assert track["assemblyNames"] == [assembly["name"]]
        (display,) = track["displays"]
        assert (display["minScore"], display["maxScore"]) == (-0.5, 0.5)


def test_washu_hub_draws_letters_within_the_limits():
    (track,) = washu_hub(shown())
    assert track["type"] == "dynseq"
    assert (track["options"]["yMin"], track["options"]["yMax"]) == (-0.5, 0.5)


def test_page_has_letters_near_and_extremes_far_for_each_track():
    session = igv_session(shown(["CTCF", "GATA1"]))
    letters = [track for track in session["tracks"] if track["tism_scan"]["role"] == "letters"]
    far = [track for track in session["tracks"] if track["tism_scan"]["role"] == "overview"]
    assert [track["name"] for track in letters] == [track["name"] for track in far] == ["CTCF", "GATA1"]
    for track in letters:
        assert (track["graphType"], track["visibilityWindow"]) == ("dynseq", 5000)
    for track in far:
        assert [inner["windowFunction"] for inner in track["tracks"]] == ["max", "min"]


@pytest.mark.parametrize("limit", [0.0, float("nan"), float("inf")])
def test_track_without_scores_still_has_an_axis(limit):
    drawn = shown(limit=limit)
    assert drawn.tracks[0].axis == 1.0
    json.dumps(igv_session(drawn), allow_nan=False)


def test_first_view_is_of_scored_bases():
    plan = small_plan(wanted={"c": ((100, 200), (300, 400))})
    assert str(Shown([], plan, plan.chroms).locus) == "c:101-400"


class Scripts(HTMLParser):
    """Collects a page's scripts, and its title."""

    def __init__(self):
        super().__init__()
        self.inside, self.found = None, {"script": [], "title": []}

    def handle_starttag(self, tag, attrs):
        self.inside = tag if tag in self.found else self.inside

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.found[self.inside].append(data)


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory):
    chroms = {"</title><script>x": 900, "chr|2:'&\"": 800}
    plan = small_plan(len(HOSTILE), chroms=chroms)
    return exported_folder(tmp_path_factory.mktemp("hostile") / "out", plan, names=HOSTILE)


def test_page_has_one_script_of_ours_whatever_the_names(hostile_folder, tmp_path):
    def scripts(folder):
        page = Scripts()
        page.feed((folder / "index.html").read_text())
        return page.found["script"], page.found["title"]

    plain = exported_folder(tmp_path / "plain")
    assert scripts(hostile_folder)[0] == scripts(plain)[0]
    assert len(scripts(plain)[0]) == 1
    assert "@" not in scripts(plain)[1][0]


def test_session_gives_hostile_names_back_as_they_are(hostile_folder):
    session = json.loads((hostile_folder / "igv-session.json").read_text("ascii"))
    assert session["tism_scan"]["names"] == HOSTILE
    assert [unquote(track["url"]) for track in session["tracks"] if "url" in track] == [
        f"{i:04d}_track.bw" for i in range(len(HOSTILE))
    ]


def test_table_has_one_line_a_track_and_one_cell_a_column(hostile_folder):
    lines = (hostile_folder / "tracks.tsv").read_text().split("\n")
    assert lines.pop() == ""
    assert len(lines) == 1 + len(HOSTILE)
    assert {line.count("\t") for line in lines} == {6}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-cmd|' /c x'!A0", "@SUM(A1)"])
def test_no_name_in_the_table_is_a_formula(tmp_path, name):
    _, row = (exported_folder(tmp_path / "x", names=(name,)) / "tracks.tsv").read_text().splitlines()
    assert row.split("\t")[1] == f"'{name}"


def test_table_holds_limit_and_sum(tmp_path):
    header, first, _ = (exported_folder(tmp_path / "x") / "tracks.tsv").read_text().splitlines()
    row = dict(zip(header.split("\t"), first.split("\t"), strict=True))
    assert (row["track"], row["limit"], row["sum"], row["bases"]) == ("CTCF", "0.5", "7.25", "900")
    assert (row["min"], row["max"]) == ("-1.5", "2.5")


def test_the_page_is_told_the_range_of_each_track_and_the_share_of_bases_with_a_score():
    plan = small_plan()
    files = [track_file("/x/a.bw"), track_file("/x/b.bw", limit=2.0, minimum=float("nan"), n_bases=0)]
    first, second = igv_session(Shown(files, plan, plan.chroms))["tism_scan"]["summary"]["tracks"]
    assert (first["limit"], first["lowest"], first["highest"]) == (0.5, -1.5, 2.5)
    assert first["share"] == 900 / sum(CHROMS.values())
    assert (second["limit"], second["lowest"], second["share"]) == (2.0, None, 0)


def test_readme_tells_sign_unit_and_where_the_numbers_come_from(tmp_path):
    plan = small_plan(output_space="probability", strands="both")
    readme = (exported_folder(tmp_path / "x", plan) / "README.txt").read_text()
    for fact in (plan.digest(), plan.genome_digest, plan.weights_digest, "torch 2.6", "strands both"):
        assert fact in readme
    assert "probability of the model's output" in readme
    assert "Positive (blue): the reference base supports" in readme


def test_chrom_sizes_are_in_the_order_of_the_fasta_without_empty_chroms(tmp_path):
    lines = (exported_folder(tmp_path / "x") / "chrom.sizes").read_text().splitlines()
    assert lines == [f"{chrom}\t{length}" for chrom, length in CHROMS.items() if length]


def test_other_names_of_chroms_are_used_everywhere(tmp_path):
    renamed = {f"{chrom}.renamed": length for chrom, length in CHROMS.items()}
    folder = exported_folder(tmp_path / "x", chroms=renamed)
    assert (folder / "chrom.sizes").read_text().startswith("chr1.renamed\t1300\n")
    assert json.loads((folder / "igv-session.json").read_text())["locus"] == "chr1.renamed:1-1300"


@pytest.mark.parametrize(
    ("chroms", "name"),
    [
        ({"chr1": 248_956_422}, "hg38"),
        ({"chr1": 249_250_621, "chr2": 5}, "hg19"),
        ({"chr1": 195_471_971}, "mm10"),
        ({"1": 248_956_422}, None),
        ({"chr1": 1300}, None),
    ],
)
def test_common_assembly_is_known_by_its_first_chrom(chroms, name):
    assert known_assembly(chroms) == name


@pytest.mark.parametrize("genome_id", ["", "hg 38", "a\nb", "-x", "<b>"])
def test_impossible_name_of_an_assembly_is_refused(tmp_path, genome_id):
    with pytest.raises(InputError, match="is no assembly's name"):
        exported_folder(tmp_path / "x", genome_id=genome_id)
    assert not (tmp_path / "x" / "index.html").exists()


def test_copy_of_igv_js_is_put_beside_the_page(tmp_path):
    (tmp_path / "mine.js").write_text("igv = {createBrowser() {}}")
    folder = exported_folder(tmp_path / "x", igv_js_file=tmp_path / "mine.js")
    assert (folder / "igv.min.js").read_text() == "igv = {createBrowser() {}}"


def test_page_without_tracks_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="expected at least one"):
        write_browser_files(tmp_path, [], small_plan())


@pytest.mark.parametrize(
    ("slopes", "told"),
    [
        ({"CTCF": 1.934, "GATA1": 0.5}, "about 1.93 (CTCF), 0.50 (GATA1).\n"),
        ({str(i): 1 + i for i in range(9)}, "about 1.00 to 9.00 by track.\n"),
        ({}, None),
    ],
)
def test_readme_tells_how_much_larger_exact_effects_are_if_it_is_known(tmp_path, slopes, told):
    readme = (exported_folder(tmp_path / "x", slopes=slopes) / "README.txt").read_text()
    assert readme.count("Exact ISM of substitutions") == (told is not None)
    assert told is None or told in readme


@pytest.mark.parametrize(
    ("path", "told"),
    [((1,), "one gradient, at the sequence\n"), ((1, 0.5), "1,0.5: gradients averaged between uniform (0)")],
)
def test_readme_tells_where_gradients_were_taken(tmp_path, path, told):
    readme = (exported_folder(tmp_path / "x", small_plan(path=path)) / "README.txt").read_text()
    assert f"  path            {told}" in readme


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "precision       fp32, lossless\n"),
        ({"keep_bits": 10}, "precision       fp32, 10 bits of mantissa kept\n"),
        ({"stitch": "mean"}, "windows         200 bp every 64 bp, stitch mean, strands forward\n"),
        ({"stitch": "all"}, "stitch all (effects on every output that sees a base, added up), strands"),
    ],
)
def test_readme_tells_the_settings_of_the_scan(tmp_path, settings, told):
    readme = (exported_folder(tmp_path / "x", small_plan(**settings)) / "README.txt").read_text()
    assert told in readme


@pytest.mark.parametrize("genome_id", [None, "toy"])
def test_readme_asks_for_the_genome_only_where_browsers_do_not_know_it(tmp_path, genome_id):
    readme = (exported_folder(tmp_path / "x", genome_id=genome_id) / "README.txt").read_text()
    assert ("first: load the genome" in readme) == (genome_id is None)
    assert ("first: faToTwoBit" in readme) == (genome_id is None)


def test_files_bear_the_names_of_their_tracks_and_equal_ones_the_index():
    tracks = [Track("A B", (3,), (1.0,)), Track("A B", (4,), (1.0,)), Track("mean", (3, 4), (0.5, 0.5))]
    paths = ["0003_A_B.bw", "0004_A_B.bw", "mean.bw", "mean_G.bw", "other.bw"]
    found = track_files([track_file(f"/x/{path}", "") for path in paths], tracks)
    assert [each.name for each in found] == ["A B (3)", "A B (4)", "mean", "mean, G", "other"]
    assert {(each.limit, each.minimum, each.maximum, each.total, each.n_bases) for each in found} == {
        (0.5, -1.5, 2.5, 7.25, 900)
    }


def test_numbers_of_one_alternative_base_are_told_apart(tmp_path):
    folder = exported_folder(tmp_path / "x", values="tism")
    readme = (folder / "README.txt").read_text()
    assert "Positive (blue): the other base raises the output" in readme
    assert "mean TISM" not in readme.lower().replace("tism_scan", "")
    assert "the other base raises the output" in (folder / "index.html").read_text()
