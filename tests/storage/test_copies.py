import hashlib
import http.server
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tism_scan.errors import AccessError, InputError, StorageError
from tism_scan.storage import copies as local_copies
from tism_scan.storage import web
from tism_scan.storage.copies import local_copy
from tism_scan.storage.places import Url, file_place

CONTENT = b"weights" * 300_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Site(http.server.BaseHTTPRequestHandler):
    """Serves one file; how it goes wrong is told by the query."""

    content = CONTENT
    counts: Counter
    protocol_version = "HTTP/1.1"

    def do_GET(self):  # the library's name
        name, _, fault = self.path.partition("?")
        self.counts[self.path] += 1
        is_first = self.counts[self.path] == 1
        if name != "/deep/weights.pth":
            self.send_error(404)
        elif fault == "busy" and is_first:
            self.send_error(503)
        elif fault == "forbidden":
            self.send_error(403)
        else:
            self.send_response(200)
            self.send_header("ETag", hashlib.md5(self.content).hexdigest())
            self.send_header("Content-Length", str(len(self.content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(self.content[: 1000 if fault == "cut" and is_first else None])
            self.counts["whole"] += 1

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def site(monkeypatch):
    """Return the address of a file, and what counts how often it was asked for."""
    monkeypatch.setattr(local_copies, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(Site, "counts", Counter(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.handle_error = lambda *_: None  # a client that knows the file hangs up
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield file_place(f"http://127.0.0.1:{server.server_port}/deep/weights.pth")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tism-scan"


def test_path_is_its_own_copy(tmp_path):
    assert local_copy(tmp_path / "absent", "any digest") == tmp_path / "absent"


def test_copy_holds_the_content_under_its_digest_and_keeps_the_name(site, home):
    copy = local_copy(site)
    assert copy == home / DIGEST / "weights.pth"
    assert copy.read_bytes() == CONTENT
    assert not [path for path in home.rglob("*") if path.name.endswith(".partial")]


def test_copy_of_a_known_digest_is_used_without_asking(site):
    copy = local_copy(site)
    assert local_copy(site, DIGEST) == copy
    assert local_copy(Url("http", "127.0.0.1:9", "elsewhere"), DIGEST) == copy
    assert Site.counts["/deep/weights.pth"] == 1


def test_file_that_did_not_change_is_read_once(site, monkeypatch):
    copy = local_copy(site)
    with monkeypatch.context() as unread:
        unread.setattr(web.Page, "chunks", lambda page: pytest.fail("it is read again"))
        assert local_copy(site) == copy


def test_file_that_changed_is_read_again(site, monkeypatch):
    local_copy(site)
    monkeypatch.setattr(Site, "content", b"other weights")
    assert local_copy(site).read_bytes() == b"other weights"
    assert local_copy(site, DIGEST).read_bytes() == CONTENT


def test_other_content_than_was_planned_is_refused(site, monkeypatch, home):
    monkeypatch.setattr(Site, "content", b"other weights")
    with pytest.raises(
        AccessError, match=rf"holds another file .* expected {DIGEST[:12]}\); put the planned"
    ):
        local_copy(site, DIGEST)
    assert not (home / DIGEST).exists()


def test_damaged_copy_is_read_again(site):
    copy = local_copy(site)
    copy.write_bytes(CONTENT[:-1])
    assert local_copy(site, DIGEST).read_bytes() == CONTENT


def test_several_at_once_read_it_once(site):
    with ThreadPoolExecutor(8) as threads:
        copies = set(threads.map(lambda _: local_copy(site, DIGEST), range(8)))
    assert len(copies) == 1
    assert Site.counts["whole"] == 1


@pytest.mark.parametrize("fault", ["busy", "cut"])
def test_passing_faults_are_ridden_out(site, fault):
    assert local_copy(file_place(f"{site}?{fault}")).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("?forbidden", r"weights.pth\?forbidden cannot be read \(403"),
        ("er", r"weights.pther cannot be read \(404"),
    ],
)
def test_refusal_is_told_at_once(site, change, message):
    with pytest.raises(AccessError, match=message):
        local_copy(file_place(f"{site}{change}"))
    assert Site.counts.total() == 1


def test_server_that_is_not_there_is_one_clear_error(site):
    with pytest.raises(StorageError, match=r"127.0.0.1:9/w cannot be read \(.*refused\); check the address"):
        local_copy(file_place("http://127.0.0.1:9/w"))


def test_cache_that_cannot_be_written_is_one_clear_error(site, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        AccessError, match=r"cannot be kept in .*file/tism-scan \(.*\); make room there, or set"
    ):
        local_copy(site)


@pytest.mark.parametrize("given", ["ftp://host/w.pth", "https://host", "s3://bucket"])
def test_url_that_names_no_file_is_one_clear_error(given):
    with pytest.raises(
        InputError, match="cannot be used; expected a path, or a URL of s3://, gs:// or https://"
    ):
        file_place(given)
