"""A real browser and the scripts that it runs; skipped where they are missing, unless they must be there."""

import os
import shutil
import subprocess

import pytest
from chromium_page import FACTOR, Page, served

from tism_scan.browser import track_files, write_browser_files
from tism_scan.browser.igv_js import fetch_igv_js
from tism_scan.export import export_bigwigs

REQUIRED = "TISM_SCAN_TESTS_NEED_BROWSER"
UCSC_HUB = "@gmod/ucsc-hub@2.0.4"


def missing(what):
    """Skip the test that needs something, or fail it where that must be there."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{what}, and {REQUIRED} is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def igv_js():
    """Return a genuine copy of igv.js."""
    return fetch_igv_js() or missing("igv.js is neither in the cache nor to be had from npm")


@pytest.fixture(scope="session")
def ucsc_hub_parser(tmp_path_factory):
    """Return a folder in which node finds @gmod/ucsc-hub."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing("node and npm are not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), UCSC_HUB]
    if subprocess.run(command, capture_output=True, timeout=120, check=False).returncode:
        missing(f"npm cannot install {UCSC_HUB}")
    return folder


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Return a Chromium that reaches no other host."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        missing("chromium and chromedriver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for switch in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "force-device-scale-factor=1",
        "window-size=1300,1100",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(driver, log_output=subprocess.DEVNULL)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(30)
    yield Page(driver)
    driver.quit()


@pytest.fixture(scope="module")
def folder(demo_store, tmp_path_factory):
    """Return an export of the demo's store."""
    folder = tmp_path_factory.mktemp("export") / "bigwig"
    summaries = export_bigwigs(demo_store, folder)
    write_browser_files(folder, track_files(summaries, demo_store.plan.scoring.tracks), demo_store.plan)
    return folder


@pytest.fixture(scope="module")
def site(demo_store, demo_sites, demo_region):
    """Return the planted motif that the model sees best: start and end."""
    chrom, _ = demo_region
    sites = [(start, end) for factor, start, end in demo_sites if factor == FACTOR]
    return max(sites, key=lambda span: demo_store.read_track(chrom, *span, 0).sum())


@pytest.fixture(scope="module")
def page(folder, demo_fasta, igv_js, chromium):
    """Return the page, open on the demo's tracks and genome."""
    with served(folder, genome=demo_fasta, igv_js_file=igv_js) as address:
        chromium.requests()
        assert chromium.open(f"{address}?locus=chr3:1-100000") == "yes", chromium.message()
        chromium.settle()
        yield chromium


@pytest.fixture
def at_the_motif(page, folder, demo_fasta, igv_js, site):
    with served(folder, genome=demo_fasta, igv_js_file=igv_js) as address:
        page.open(f"{address}?locus=chr3:{site[0] - 19}-{site[1] + 20}")
        page.settle()
        yield page
