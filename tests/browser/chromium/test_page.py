"""The page in a real browser: letters at a planted motif, peaks from afar, no other host."""

import contextlib
import functools
import json
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
from chromium_page import FACTOR, LETTERS, colored, served
from small_exports import exported_folder
from small_plans import small_plan

from tism_scan.browser.igv_js import is_genuine
from tism_scan.browser.shown import BLUE, VERMILION

pytestmark = pytest.mark.browser


@contextlib.contextmanager
def serving_plainly(folder):
    """Serve a folder as Python does, and yield its address, and the status of each path that was asked."""
    statuses = {}

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code="-", size="-"):
            statuses[self.path] = int(code)

        def log_error(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", statuses
        finally:
            server.shutdown()
            thread.join()


def test_page_asks_no_other_host(page, folder, demo_fasta, igv_js, site):
    with served(folder, genome=demo_fasta, igv_js_file=igv_js) as address:
        page.requests()
        page.open(f"{address}?locus=chr3:{site[0]}-{site[1]}")
        page.settle()
        asked = [url for url, _ in page.requests()]
    assert any(url.endswith("0000_CTCF.bw") for url in asked)
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(address).netloc}


def test_page_of_a_known_assembly_without_a_genome_asks_no_other_host(
    chromium, folder, demo_store, igv_js, tmp_path
):
    known = exported_folder(tmp_path / "known", demo_store.plan, ["CTCF"], genome_id="hg38")
    (known / "0000_track.bw").write_bytes((folder / "0000_CTCF.bw").read_bytes())
    with served(known, igv_js_file=igv_js) as address:
        chromium.requests()
        assert chromium.open(address) == "yes", chromium.message()
        chromium.go("NOTAGENE")
        chromium.go("chr3:1000-1100")
        assert {urlsplit(url).netloc for url, _ in chromium.requests()} == {urlsplit(address).netloc}


def test_letters_of_the_sequence_stand_on_the_planted_motif(at_the_motif, demo_genome, demo_store, site):
    page, drawn = at_the_motif, at_the_motif.track(FACTOR)
    scores = demo_store.read_track("chr3", *site, 0)
    pixels = page.pixels()
    rows = slice(int(drawn["top"]) + 1, int(drawn["top"] + drawn["height"]) - 1)
    n_seen = 0
    for position, score in zip(range(*site), scores, strict=True):
        if abs(score) < 0.3 * drawn["range"]["max"]:
            continue
        left = drawn["left"] + (position - drawn["start"]) / drawn["bpPerPixel"]
        column = pixels[rows, int(left) + 1 : int(left + 1 / drawn["bpPerPixel"]) - 1]
        n_pixels = colored(column, LETTERS).sum(axis=(1, 2))
        assert int(n_pixels.argmax()) == demo_genome["chr3"].codes[position], position
        assert n_pixels.max() > 20
        # A letter stands above the middle if the score is positive, else below.
        heights = np.flatnonzero(colored(column, LETTERS).any(axis=(0, 2)))
        assert (heights.mean() < drawn["height"] / 2) == (score > 0)
        n_seen += 1
    assert n_seen >= 8


def test_overview_shows_the_peaks_of_the_chrom(page, demo_store):
    page.go("chr3:1-100000")
    pixels, drawn = page.pixels(), page.track(FACTOR)
    assert not drawn["isNear"]
    rows = slice(int(drawn["top"]) + 1, int(drawn["top"] + drawn["height"]) - 1)
    area = pixels[rows, int(drawn["left"]) + 90 : int(drawn["left"] + drawn["width"])]
    scores = np.nan_to_num(demo_store.read_track("chr3", 0, 100_000, 0))
    seen_from = int(drawn["start"] + 90 * drawn["bpPerPixel"])
    for color, place in ((BLUE, scores[seen_from:].argmax()), (VERMILION, scores[seen_from:].argmin())):
        heights = colored(area, [color])[0].sum(axis=0)
        assert heights.max() > 0.3 * drawn["height"]
        tallest = np.flatnonzero(heights == heights.max())
        assert np.abs(tallest * drawn["bpPerPixel"] - place).min() < 3 * drawn["bpPerPixel"]


def test_whole_chrom_does_not_fetch_the_genome(page, folder, demo_fasta, igv_js):
    with served(folder, genome=demo_fasta, igv_js_file=igv_js) as address:
        page.requests()
        page.open(f"{address}?locus=chr3:1-100000")
        page.settle()
        ranges = [headers.get("Range") for url, headers in page.requests() if url.endswith("genome.fa")]
    assert all(ranges)
    n_bytes = sum(-eval(text.removeprefix("bytes=")) + 1 for text in ranges)
    assert n_bytes < 10_000


def test_tracks_are_chosen_and_filtered(page):
    names = "return window.tismBrowser.trackViews.map((view) => view.track.name)"
    click = (
        "[...document.querySelectorAll('#choices label')].find((l) => l.textContent.trim() === 'ETS').click()"
    )
    page.run(click)
    page.wait(f"return !({names.removeprefix('return ')}).includes('ETS')", "still there")
    assert "6 of 7" in page.run("return document.getElementById('count').textContent")
    page.run(click)
    page.wait(
        f"return ({names.removeprefix('return ')}).filter((name) => name === 'ETS').length === 1", "gone"
    )
    page.run(
        """const filter = document.getElementById('filter');
           filter.value = 'gata'; filter.dispatchEvent(new Event('input'));"""
    )
    shown = page.run(
        "return [...document.querySelectorAll('#choices label')].filter((l) => !l.hidden).length"
    )
    assert shown == 1


def test_track_that_is_removed_by_its_menu_is_no_longer_ticked(page):
    page.run(
        """const [track] = window.tismBrowser.findTracks((track) => track.name === 'REST');
           window.tismBrowser.removeTrack(track);"""
    )
    box = "[...document.querySelectorAll('#choices label')].find((l) => l.textContent.trim() === 'REST')"
    page.wait(f"return !{box}.querySelector('input').checked", "still ticked")
    assert "6 of 7" in page.run("return document.getElementById('count').textContent")
    page.run(f"{box}.click()")
    page.wait("return window.tismBrowser.findTracks((track) => track.name === 'REST').length === 1", "gone")
    assert "7 of 7" in page.run("return document.getElementById('count').textContent")


def test_page_on_a_server_of_another_kind_asks_for_nothing_that_is_not_there(
    chromium, folder, igv_js, tmp_path
):
    shutil.copytree(folder, tmp_path / "site")
    shutil.copy(igv_js, tmp_path / "site" / "igv.min.js")
    with serving_plainly(tmp_path / "site") as (address, statuses):
        assert chromium.open(address) == "yes", chromium.message()
        chromium.settle()
    assert max(statuses.values()) < 400, statuses
    assert any(path.endswith("igv-session.json") for path in statuses)


def test_without_a_genome_there_are_bars_and_a_hint(folder, igv_js, chromium, site):
    with served(folder, igv_js_file=igv_js) as address:
        chromium.open(f"{address}?locus=chr3:{site[0] - 19}-{site[1] + 20}")
        chromium.settle()
        assert "--genome GENOME.fa" in chromium.run("return document.getElementById('note').textContent")
        drawn, pixels = chromium.track(FACTOR), chromium.pixels()
    rows = slice(int(drawn["top"]), int(drawn["top"] + drawn["height"]))
    assert colored(pixels[rows], [BLUE])[0].sum() > 500


def test_without_igv_js_and_internet_the_page_says_so(folder, chromium):
    with served(folder) as address:
        assert chromium.open(address) == "no"
    assert "igv.min.js cannot be loaded" in chromium.message()


def test_page_that_is_opened_as_a_file_tells_the_command(folder, chromium):
    chromium.driver.get((folder / "index.html").as_uri())
    assert "tism-scan view FOLDER" in chromium.message()


def test_hostile_names_are_shown_and_not_run(chromium, igv_js, folder, tmp_path):
    names = [
        '<img src=x onerror="window.hacked = 1">',
        "</script><script>window.hacked = 1</script>",
        *(f'{i} <b>bold</b> & "quotes"\'' for i in range(10)),
    ]
    plan = small_plan(chroms={"<img/src=x/onerror=window.hacked=1>": 1300, "chr3": 100_000})
    made = exported_folder(tmp_path / "hostile", plan, names=names)
    for path in made.glob("*.bw"):
        path.write_bytes((folder / "0000_CTCF.bw").read_bytes())
    with served(made, igv_js_file=igv_js) as address:
        assert chromium.open(address) == "yes", chromium.message()
        chromium.settle()
        inside = "document.getElementById('igv').shadowRoot.querySelectorAll"
        labels = chromium.run(f"return [...{inside}('.igv-track-label')].map((label) => label.textContent)")
        assert chromium.run(f"return window.hacked === undefined && {inside}('b, img').length === 0")
        assert set(names[:8]) <= set(labels)
        assert "8 of 12 shown" in chromium.run("return document.getElementById('count').textContent")


def test_hub_is_read_by_jbrowses_parser(folder, ucsc_hub_parser):
    script = """
        import('@gmod/ucsc-hub').then(({SingleFileHub}) => {
            const text = require('fs').readFileSync(process.argv[1], 'utf8');
            const hub = new SingleFileHub(text);
            const tracks = Object.values(hub.tracks.data).map((track) => track.data);
            console.log(JSON.stringify({hub: hub.hubData.data, genome: hub.genome.data, tracks}));
        }).catch((error) => { console.error(error); process.exit(1); });
    """
    result = subprocess.run(
        ["node", "--input-type=commonjs", "-e", script, str(folder / "hub.txt")],
        capture_output=True,
        text=True,
        cwd=ucsc_hub_parser,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    hub = json.loads(result.stdout)
    assert hub["hub"]["useOneFile"] == "on"
    files = sorted(track["bigDataUrl"] for track in hub["tracks"] if "bigDataUrl" in track)
    assert files == sorted(path.name for path in folder.glob("*.bw"))


def test_copy_of_igv_js_has_the_digest_that_the_page_asks_for(igv_js):
    assert is_genuine(igv_js.read_bytes())
