"""The page through its zooms: axes and names stay, letters and bars take turns, no place is lost silently."""

from urllib.parse import urlsplit

import numpy as np
import pytest
from chromium_page import FACTOR, LETTERS, colored, served

from tism_scan.browser.view import read_folder_annotations
from tism_scan.export import describe_export, export_bigwigs

pytestmark = pytest.mark.browser

FAR, NEAR = "chr3:1-100000", "chr3:2000-2100"
BEYOND = (255, 32, 255)


def visible(page, selector):
    return page.run(
        "return [...document.querySelectorAll(arguments[0])].some((each) => each.checkVisibility())", selector
    )


@pytest.mark.parametrize(
    "way", [[FAR], [NEAR], ["all"], [FAR, NEAR], [NEAR, FAR], [FAR, NEAR, FAR, NEAR, "all", FAR]]
)
def test_axes_names_and_gears_stay_beside_their_tracks(page, way):
    for locus in way:
        page.go(locus)
    rows = page.columns()
    assert len(rows) == 7
    for parts in rows:
        assert set(map(tuple, parts.values())) == {tuple(parts["data"])}, parts


@pytest.mark.parametrize("way", [[FAR, NEAR], [NEAR, FAR], [FAR, NEAR, FAR], [NEAR, FAR, NEAR]])
def test_every_axis_is_drawn_after_a_zoom(page, way):
    for locus in way:
        page.go(locus)
    inks = page.run(
        """return window.tismBrowser.trackViews.filter((view) => view.track.config?.tism_scan).map((view) => {
             const canvas = view.axisCanvas;
             if (!canvas.width || !canvas.height) return 0;
             const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
             return data.filter((value, i) => i % 4 === 0 && value < 128 && data[i + 3] > 128).length;
           })"""
    )
    assert len(inks) == 7
    assert min(inks) > 40


def test_near_the_axis_is_the_limit_of_the_track_and_far_what_is_seen(page, demo_store):
    page.go(NEAR)
    near = page.track(FACTOR)["range"]
    assert near["min"] == -near["max"]
    page.go(FAR)
    far = page.track(FACTOR)["range"]
    scores = np.nan_to_num(demo_store.read_track("chr3", 0, 100_000, 0))
    assert far["max"] == pytest.approx(scores.max(), rel=1e-3)
    assert far["min"] == pytest.approx(scores.min(), rel=1e-3)
    page.go(NEAR)
    assert page.track(FACTOR)["range"] == near


def test_zoom_by_little_steps_never_draws_the_other_view(page, site):
    middle = (site[0] + site[1]) // 2
    for half in (3000, 1700, 1100, 700, 1100, 1700, 3000):
        page.go(f"chr3:{max(1, middle - half)}-{middle + half}")
        drawn = page.track(FACTOR)
        assert drawn["isNear"] == (drawn["bpPerPixel"] < 2)
        kinds = page.run(
            """return window.tismBrowser.trackViews.filter((view) => view.track.config?.tism_scan)
                 .map((view) => !view.viewports[0].featureCache.features.lowest)"""
        )
        assert kinds == [drawn["isNear"]] * 7, half


def test_names_stand_above_the_bars(page):
    for locus in (FAR, NEAR, "all"):
        page.go(locus)
        gaps = page.run(
            """const gap = (data) => data.viewportElement.getBoundingClientRect().top + NAME_STRIP_PX
                 - data.trackLabelElement.getBoundingClientRect().bottom;
               return window.tismBrowser.trackViews.filter((view) => view.track.config?.tism_scan)
                 .map((view) => gap(view.viewports[0]));"""
        )
        assert min(gaps) >= -1


def test_bars_key_is_not_shown_over_letters(page):
    page.go(FAR)
    assert visible(page, "#bars-key")
    assert not visible(page, "#letters-key")
    assert not visible(page, ".beyond")
    page.go(NEAR)
    assert not visible(page, "#bars-key")
    assert visible(page, "#letters-key")
    key = page.run("return document.getElementById('letters-key').innerText")
    assert "above the line: the reference base supports the prediction" in key
    assert "below it, upside down: it lowers the prediction" in key
    assert "beyond the axis" in key
    colors = page.run(
        """return [...document.querySelectorAll('.base')]
             .map((each) => [each.textContent, getComputedStyle(each).color])"""
    )
    assert dict(colors) == {
        base: f"rgb({r}, {g}, {b})" for base, (r, g, b) in zip("ACGT", LETTERS, strict=True)
    }


def test_letter_beyond_the_axis_is_cut_and_marked(at_the_motif):
    drawn, pixels = at_the_motif.track(FACTOR), at_the_motif.pixels()
    top, left = int(drawn["top"]), int(drawn["left"])
    inside = pixels[top : top + int(drawn["height"]), left : left + int(drawn["width"])]
    assert colored(inside, [BEYOND]).any()
    above = pixels[top - 6 : top, left + 150 : left + int(drawn["width"])]
    assert not colored(above, [*LETTERS, BEYOND]).any()


def test_console_stays_empty_from_the_genome_to_the_letters(page, folder, demo_fasta, igv_js):
    with served(folder, genome=demo_fasta, igv_js_file=igv_js) as address:
        page.console()
        page.open(address)
        for locus in ("all", "chr3", FAR, NEAR, "all", NEAR):
            page.go(locus)
        assert page.console() == []


@pytest.mark.parametrize("asked", ["chr99:1-100", "nonsense", "chr3:b-a:c"])
def test_place_that_is_not_there_is_named(page, folder, demo_fasta, igv_js, asked):
    with served(folder, genome=demo_fasta, igv_js_file=igv_js) as address:
        page.open(f"{address}?locus={asked}")
        assert page.message().startswith(f"{asked} is not found")
        page.go(FAR)
        assert page.message() == ""
        page.go(asked)
        assert page.message().startswith(f"{asked} is not found")
        assert page.track(FACTOR)["start"] == 0


def test_gene_is_found_by_name_offline_and_an_unknown_one_is_named(
    page, folder, demo_fasta, igv_js, tmp_path
):
    (tmp_path / "genes.bed").write_text("chr3\t5000\t9000\tBRCA1\t0\t+\nchr3\t20000\t21000\tSRY\t0\t-\n")
    (tmp_path / "motifs.bed").write_text("chr3\t5000\t5010\tCTCF\n")
    annotations = read_folder_annotations(
        folder, genes=tmp_path / "genes.bed", others=[f"my <b>motifs</b>={tmp_path / 'motifs.bed'}"]
    )
    with served(folder, genome=demo_fasta, igv_js_file=igv_js, annotations=annotations) as address:
        page.requests()
        page.console()
        page.open(f"{address}?locus=SRY")
        page.settle()
        middle = """const [frame] = window.tismBrowser.referenceFrameList;
                    return [frame.chr, Math.round((frame.start + frame.end) / 2)];"""
        assert page.run(middle) == ["chr3", 20_500]
        page.go("brca1")
        assert page.run(middle) == ["chr3", 7000]
        page.go("TP53")
        assert page.message().startswith("TP53 is not found")
        assert "no gene has that name" in page.message()
        names = page.run(
            "return window.tismBrowser.trackViews.map((view) => view.track.name).filter(Boolean)"
        )
        assert names[-9:-6] == ["Genes", "my &lt;b&gt;motifs&lt;/b&gt;", "CTCF"]
        assert page.console() == []
        assert {urlsplit(url).netloc for url, _ in page.requests()} == {urlsplit(address).netloc}


def test_link_of_the_summary_jumps_to_its_seqlet(chromium, demo_store, demo_fasta, igv_js, tmp_path):
    describe_export(demo_store, tmp_path, export_bigwigs(demo_store, tmp_path, tracks="GATA1,CTCF"))
    with served(tmp_path, genome=demo_fasta, igv_js_file=igv_js) as address:
        chromium.open(address)
        rows = chromium.run(
            "return [...document.querySelectorAll('#figures tbody tr')].map((row) => row.textContent)"
        )
        assert [row[:4] for row in rows] == ["CTCF", "GATA"]
        chromium.run(
            """const chosen = document.getElementById("seqlets-of");
               chosen.value = "1";
               chosen.dispatchEvent(new Event("change"));
               document.querySelector("#seqlets a").click();"""
        )
        chromium.settle()
        place = chromium.run("return document.querySelector('#seqlets a').textContent")
        frame = chromium.track("GATA1")
        scores = np.abs(np.nan_to_num(demo_store.read_track("chr3", 0, 100_000, 1)))
        highest = int(scores.argmax())
        assert frame["start"] < highest < frame["start"] + 150
        assert frame["isNear"]
        start, end = (int(part.replace(",", "")) for part in place.split(":")[1].split("-"))
        assert start <= highest + 1 <= end


def test_search_for_a_gene_without_genes_says_what_to_give(page, folder, igv_js):
    with served(folder, igv_js_file=igv_js) as address:
        page.open(address)
        page.go("TP53")
        assert "TP53 is not found" in page.message()
        assert "--genes GENES.gtf" in page.message()


def test_phone_shows_all_of_the_page_without_scrolling_sideways(page, folder, demo_fasta, igv_js):
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        with served(folder, genome=demo_fasta, igv_js_file=igv_js) as address:
            page.open(f"{address}?locus=chr3:1-100000")
            page.settle()
            width, zoom = page.run(
                """const controls = document.getElementById("igv").shadowRoot.querySelectorAll(
                     ".igv-search-input, .igv-navbar-right-container svg");
                   return [document.documentElement.scrollWidth,
                           [...controls].map((part) => part.getBoundingClientRect().right)];"""
            )
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width == phone["width"]
    assert zoom
    assert max(zoom) <= width
