import base64
import hashlib
import io
import tarfile

import pytest

from tism_scan.browser import igv_js
from tism_scan.errors import InputError

GENUINE = b"var igv = {createBrowser() {}};"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return an empty cache, for a version of igv.js of our own; neither the CDN nor npm is reached."""
    digest = base64.b64encode(hashlib.sha384(GENUINE).digest()).decode()
    monkeypatch.setattr(igv_js, "INTEGRITY", f"sha384-{digest}")
    monkeypatch.setattr(igv_js, "URL", "http://127.0.0.1:9/igv.min.js")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "cache"


def put_npm(folder, content):
    """Put an npm on the path that packs some content, as the real one would pack igv.js."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/dist/igv.min.js")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    (folder / "igv.tgz").write_bytes(packed.getvalue())
    npm = folder / "bin" / "npm"
    npm.write_text(f'#!/bin/sh\n[ "$1" = pack ] && /bin/cp {folder / "igv.tgz"} igv-{igv_js.VERSION}.tgz\n')
    npm.chmod(0o755)


def test_copy_in_the_cache_is_used(cache):
    igv_js.cached_igv_js().parent.mkdir(parents=True)
    igv_js.cached_igv_js().write_bytes(GENUINE)
    assert igv_js.fetch_igv_js() == igv_js.cached_igv_js()


def test_cdn_fills_the_cache(cache, tmp_path, monkeypatch):
    (tmp_path / "cdn.js").write_bytes(GENUINE)
    monkeypatch.setattr(igv_js, "URL", (tmp_path / "cdn.js").as_uri())
    assert igv_js.fetch_igv_js().read_bytes() == GENUINE


def test_npm_fills_the_cache_where_the_cdn_cannot(cache, tmp_path):
    put_npm(tmp_path, GENUINE)
    assert igv_js.fetch_igv_js().read_bytes() == GENUINE
    (tmp_path / "bin" / "npm").unlink()
    assert igv_js.fetch_igv_js() is not None


@pytest.mark.parametrize("content", [b"var igv = 'another';", b""])
def test_what_has_another_digest_is_never_used(cache, tmp_path, content):
    put_npm(tmp_path, content)
    igv_js.cached_igv_js().parent.mkdir(parents=True)
    igv_js.cached_igv_js().write_bytes(content)
    assert igv_js.fetch_igv_js() is None


def test_without_internet_and_npm_there_is_none(cache):
    assert igv_js.fetch_igv_js() is None
    assert not cache.exists()


def test_cache_that_cannot_be_written_is_no_failure(cache, tmp_path):
    put_npm(tmp_path, GENUINE)
    cache.write_text("a file where a folder should be")
    assert igv_js.fetch_igv_js() is None


@pytest.mark.parametrize(
    "content",
    [
        b"const igv = {createBrowser(){}};export{igv as default};\n//# sourceMappingURL=igv.esm.min.js.map\n",
        b"const index = {createBrowser(){}};\n\nexport { index as default };\n",
        b"const igv = {createBrowser(){}};\nexport default igv;",
        b'"use strict";module.exports={createBrowser(){}};',
        b"<title>igv.createBrowser(div)</title>",
        b"",
    ],
)
def test_what_a_page_cannot_run_as_a_script_is_refused(tmp_path, content):
    (tmp_path / "copy.js").write_bytes(content)
    with pytest.raises(InputError, match=r"copy.js' is no igv.js for web pages; expected dist/igv.min.js"):
        igv_js.read_igv_js(tmp_path / "copy.js")


@pytest.mark.parametrize(
    "content",
    [
        GENUINE,
        b"!function(t,e){(t=self).igv=e()}(this,function(){return {createBrowser(){},exported:{}}});\n",
        b"(function (global, factory) { global.igv = factory(); })(this, () => ({createBrowser() {}}));",
    ],
)
def test_builds_for_web_pages_are_taken(tmp_path, content):
    (tmp_path / "copy.js").write_bytes(content)
    assert igv_js.read_igv_js(tmp_path / "copy.js") == content


def test_page_names_the_pinned_version_with_its_digest(tmp_path):
    from small_exports import exported_folder

    page = (exported_folder(tmp_path / "x") / "index.html").read_text()
    assert f"https://cdn.jsdelivr.net/npm/igv@{igv_js.VERSION}/dist/igv.min.js" in page
    assert igv_js.INTEGRITY in page
    assert tuple(map(int, igv_js.VERSION.split("."))) >= (3, 8)
