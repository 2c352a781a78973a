"""Who may read what `tism-scan view` serves, and how many at once; all through real sockets."""

import http.client
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from serving import serving

from tism_scan.browser.origins import origins_of
from tism_scan.browser.server import FolderServer
from tism_scan.errors import InputError

GENOME = "/_view/genome.fa"
CORS = "Access-Control-Allow-Origin"
UCSC = "https://genome.ucsc.edu"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.bw").write_bytes(b"scores")
    (tmp_path / "index.html").write_text("<p>page</p>")
    return tmp_path


@contextmanager
def asking(folder, **options):
    """Serve a folder and a genome, and yield a function that asks: status, headers, and body."""
    server = FolderServer(folder, {GENOME[1:]: b">chr1\nGATTACA\n"}, 0, **options)
    with serving(server):

        def ask(path, method="GET", **headers):
            connection = http.client.HTTPConnection(*server.server_address, timeout=10)
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            body = response.read()
            connection.close()
            return response.status, response.headers, body

        yield ask


@pytest.mark.parametrize("origin", ["https://evil.example", UCSC, "null"])
def test_the_genome_is_for_the_servers_own_page_alone(folder, origin):
    with asking(folder, origins=origins_of(["ucsc"])) as ask:
        status, headers, body = ask(GENOME, Origin=origin)
        assert (status, body) == (200, b">chr1\nGATTACA\n")
        assert CORS not in headers
        assert CORS not in ask(GENOME, "OPTIONS", Origin=origin)[1]


def test_tracks_may_be_read_by_pages_of_named_origins_alone(folder):
    with asking(folder, origins=origins_of(["ucsc"])) as ask:
        assert ask("/a.bw", Origin=UCSC)[1][CORS] == UCSC
        for origin in ("https://evil.example", "null", f"{UCSC}.evil.example", "http://genome.ucsc.edu"):
            status, headers, _ = ask("/a.bw", Origin=origin)
            assert (status, headers[CORS]) == (200, None)
            assert headers["Vary"] == "Origin"


def test_without_named_origins_no_other_page_reads_anything(folder):
    with asking(folder) as ask:
        for path in ("/a.bw", "/", GENOME, "/absent"):
            for method in ("GET", "HEAD", "OPTIONS"):
                headers = ask(path, method, Origin=UCSC)[1]
                assert not [name for name in headers if name.startswith("Access-Control-")]
                assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_named_origin_may_ask_for_ranges_of_a_private_network(folder):
    with asking(folder, origins=origins_of(["ucsc"])) as ask:
        status, headers, _ = ask("/a.bw", "OPTIONS", Origin=UCSC, Access_Control_Request_Headers="range")
    assert status == 204
    assert "Range" in headers["Access-Control-Allow-Headers"]
    assert headers["Access-Control-Allow-Private-Network"] == "true"
    assert headers[CORS] == UCSC


@pytest.mark.parametrize("path", [GENOME, "/a.bw", "/"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[::1", "0"]
)
def test_name_that_leads_to_this_machine_from_outside_is_refused(folder, path, host):
    with asking(folder) as ask:
        status, _, body = ask(path, Host=host)
        assert status == 403
        assert b"GATTACA" not in body
        assert b"scores" not in body
        assert ask(path)[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "LOCALHOST", "[::1]:8765", "127.0.0.2:80"])
def test_every_name_of_this_machine_is_served(folder, host):
    with asking(folder) as ask:
        assert ask(GENOME, Host=host)[0] == 200


@pytest.mark.parametrize(
    ("word", "host"),
    [("ucsc", "ucsc.edu"), ("igv", "igv.org"), ("jbrowse", "jbrowse.org"), ("WashU", "wustl.edu")],
)
def test_known_words_stand_for_addresses_of_their_browsers(word, host):
    assert origins_of([word])
    assert all(origin.startswith("https://") and origin.endswith(host) for origin in origins_of([word]))


def test_origin_is_taken_as_browsers_send_it():
    assert origins_of(["HTTPS://My.Example:8443/", "http://localhost:3000"]) == {
        "https://my.example:8443",
        "http://localhost:3000",
    }
    assert origins_of(["https://my.example:443", "http://my.example:80"]) == {
        "https://my.example",
        "http://my.example",
    }


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "usc",
        "my.example",
        "https://",
        "ftp://x.example",
        "https://x.example/page",
        "https://x:y",
    ],
)
def test_what_is_no_origin_is_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"is no origin; expected .*ucsc.* or an address such as"):
        origins_of([text])


def whole_answer(raw):
    return b"".join(iter(lambda: raw.recv(65536), b""))


def n_answering():
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_many_silent_clients_neither_kill_the_server_nor_keep_others_out(folder):
    server, n_before = FolderServer(folder, port=0, most_connections=8), n_answering()
    with serving(server), ExitStack() as held:
        for _ in range(60):
            held.enter_context(socket.create_connection(server.server_address, timeout=10))
        for _ in range(20):
            raw = held.enter_context(socket.create_connection(server.server_address, timeout=10))
            raw.sendall(b"GET /a.bw HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert whole_answer(raw).endswith(b"scores")
        assert n_answering() - n_before <= 8


def test_connections_beyond_the_cap_get_503_while_all_are_busy(folder):
    server = FolderServer(folder, port=0, most_connections=2)
    with serving(server), ExitStack() as held:
        busy = [held.enter_context(socket.create_connection(server.server_address)) for _ in range(2)]
        for raw in busy:
            raw.sendall(b"GET /a.bw HTTP/1.1\r\n")  # half a request
        time.sleep(0.3)
        raw = held.enter_context(socket.create_connection(server.server_address, timeout=10))
        raw.sendall(b"GET /a.bw HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = whole_answer(raw)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        for raw in busy:
            raw.sendall(b"Host: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert whole_answer(raw).endswith(b"scores")
        raw = held.enter_context(socket.create_connection(server.server_address, timeout=10))
        raw.sendall(b"GET /a.bw HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert whole_answer(raw).endswith(b"scores")
