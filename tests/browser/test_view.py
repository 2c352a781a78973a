import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import pytest
import small_plans
from hypothesis import given
from hypothesis import strategies as st
from serving import serving
from small_exports import exported_folder
from small_plans import small_plan

from tism_scan.browser.server import FolderServer, _Handler, file_within, requested_span
from tism_scan.browser.view import make_server, page_address, read_locus
from tism_scan.errors import GenomeError, InputError, RegionError
from tism_scan.genome.fasta import Genome
from tism_scan.plan.scan_plan import ScanPlan

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tracks"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bw").write_bytes(CONTENT)
    (folder / "index.html").write_text("<p>page</p>")
    (folder / "sub" / "b.txt").write_text("b")
    (folder / ".hidden").write_text("secret")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "inner.bw").symlink_to(folder / "a.bw")
    (folder / "up").symlink_to(tmp_path)
    return folder


@pytest.fixture
def connection(folder):
    with serving(FolderServer(folder, {"_view/x.json": b"{}"}, 0)) as address:
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        yield connection
        connection.close()


def ask(connection, path, method="GET", **headers):
    connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
    response = connection.getresponse()
    return response, response.read()


@pytest.mark.parametrize(
    ("header", "status", "start", "end"),
    [
        (None, 200, 0, 1000),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=990-", 206, 990, 1000),
        ("bytes=990-5000", 206, 990, 1000),
        ("bytes=-10", 206, 990, 1000),
        ("bytes=-5000", 206, 0, 1000),
        ("Bytes = 1 - 2", 206, 1, 3),
        ("bytes=1000-", 416, 0, 0),
        ("bytes=5000-6000", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=20-10", 200, 0, 1000),
        ("bytes=-", 200, 0, 1000),
        ("bytes=a-b", 200, 0, 1000),
        ("bytes=0-1,5-6", 200, 0, 1000),
        ("lines=0-1", 200, 0, 1000),
        ("bytes=\u0661-\u0662", 200, 0, 1000),
    ],
)
def test_range_is_read_as_the_standard_says(header, status, start, end):
    assert requested_span(header, 1000) == (HTTPStatus(status), start, end)


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_every_satisfiable_range_gives_its_bytes(size, first, last):
    content = bytes(range(size))
    status, start, end = requested_span(f"bytes={first}-{last}", size)
    if first <= last:
        assert content[start:end] == content[first : last + 1]
        assert (status == HTTPStatus.PARTIAL_CONTENT) == (first < size)


def test_range_is_answered_with_its_bytes(connection):
    response, body = ask(connection, "/a.bw", Range="bytes=10-19")
    assert (response.status, body) == (206, CONTENT[10:20])
    assert response.headers["Content-Range"] == f"bytes 10-19/{len(CONTENT)}"
    response, body = ask(connection, "/a.bw", Range="bytes=-4")
    assert (response.status, body) == (206, CONTENT[-4:])


def test_impossible_range_is_refused_with_the_length(connection):
    response, body = ask(connection, "/a.bw", Range="bytes=9999-")
    assert (response.status, body) == (416, b"")
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_one_connection_serves_many_requests(connection):
    _, body = ask(connection, "/a.bw")
    first = connection.sock
    for path, expected in (("/", b"<p>page</p>"), ("/sub/b.txt", b"b"), ("/_view/x.json", b"{}")):
        response, body = ask(connection, path)
        assert (response.status, body) == (200, expected)
    assert connection.sock is first


def test_head_tells_what_get_would_send(connection):
    response, body = ask(connection, "/a.bw", "HEAD")
    assert (response.status, body) == (200, b"")
    assert response.headers["Content-Length"] == str(len(CONTENT))
    assert response.headers["Accept-Ranges"] == "bytes"
    assert ask(connection, "/a.bw")[1] == CONTENT


def test_head_sends_no_body(folder):
    with serving(FolderServer(folder, {}, 0)) as address:
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(b"HEAD /a.bw HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1


def test_file_that_is_cut_while_it_is_served_ends_the_connection():
    answer = object.__new__(_Handler)
    answer.wfile, answer.close_connection = io.BytesIO(), False
    answer._copy(io.BytesIO(CONTENT), 24, len(CONTENT))
    assert (answer.wfile.getvalue(), answer.close_connection) == (CONTENT[24:], False)
    answer._copy(io.BytesIO(CONTENT), 0, len(CONTENT) + 1)
    assert answer.close_connection


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "//secret.txt",
        "/%2fetc/passwd",
        "/link.txt",
        "/up/secret.txt",
        "/.hidden",
        "/a.bw%00.txt",
        "/sub",
        "/sub/",
        "/absent",
        "/" + "x" * 3000,
    ],
)
def test_what_is_not_a_file_of_the_folder_is_not_found(connection, path):
    response, body = ask(connection, path)
    assert response.status == 404
    assert b"secret" not in body.replace(path.encode(), b"")
    assert ask(connection, "/")[0].status == 200


def test_link_within_the_folder_is_followed(connection):
    assert ask(connection, "/inner.bw")[1] == CONTENT


@given(st.lists(st.sampled_from(["..", ".", "", "sub", "up", "b.txt", "secret.txt", "\\"]), max_size=6))
def test_no_path_leads_out(tmp_path_factory, parts):
    root = tmp_path_factory.getbasetemp() / "root"
    (root / "inside" / "sub").mkdir(parents=True, exist_ok=True)
    (root / "secret.txt").write_text("secret")
    (root / "inside" / "sub" / "b.txt").write_text("b")
    found = file_within((root / "inside").resolve(), "/".join(parts))
    assert found is None or found == (root / "inside" / "sub" / "b.txt").resolve()


def test_request_with_a_body_does_not_upset_the_next(folder):
    with serving(FolderServer(folder, port=0)) as address:
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            raw.sendall(
                b"GET /a.bw HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30\r\n\r\n"
                b"GET /sub/b.txt HTTP/1.1\r\n\r\n...."
            )
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 ") == 1


def test_taken_port_is_refused_but_only_if_it_was_asked_for(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} cannot be used: .*choose another --port"):
            FolderServer(folder, port=port)
    with pytest.raises(InputError, match="port 99999 cannot be used"):
        FolderServer(folder, port=99999)
    with FolderServer(folder) as one, FolderServer(folder) as two:
        assert one.server_address[1] != two.server_address[1]


@pytest.fixture
def genome_folder(tiny_genome, tmp_path):
    """Return a folder whose tracks stand on the tiny genome, and a copy of its FASTA."""
    fasta = tmp_path / "tiny.fa"
    shutil.copy(tiny_genome, fasta)
    with Genome(fasta) as genome:
        chroms = dict(genome.chroms)
    plan = ScanPlan(**plan_settings(), chroms=chroms, wanted={"chr1": ((0, chroms["chr1"]),)})
    return exported_folder(tmp_path / "tracks", plan), fasta


def plan_settings():
    return {"scoring": small_plan(2).scoring, "genome_digest": "g" * 64, "weights_digest": "w" * 64}


def test_genome_is_served_with_its_index(genome_folder):
    folder, fasta = genome_folder
    with serving(make_server(folder, genome=fasta, port=0)) as address:
        reference = json.load(urllib.request.urlopen(f"{address}_view/settings.json"))["genome"]
        for key, path in (("fastaURL", fasta), ("indexURL", f"{fasta}.fai")):
            with urllib.request.urlopen(f"{address}{reference[key]}") as response, open(path, "rb") as file:
                assert response.read() == file.read()


def test_genome_is_served_under_the_tracks_names_of_its_chroms(tiny_genome, tmp_path):
    fasta = shutil.copy(tiny_genome, tmp_path)
    with Genome(fasta) as genome:
        chroms = dict(genome.chroms)
    plan = ScanPlan(**plan_settings(), chroms=chroms, wanted={"chr1": ((0, chroms["chr1"]),)})
    aliases = {f"NC_{chrom}": length for chrom, length in chroms.items()}
    folder = exported_folder(tmp_path / "tracks", plan, chroms=aliases)
    with serving(make_server(folder, genome=Path(fasta), port=0)) as address:
        index = urllib.request.urlopen(f"{address}_view/genome.fa.fai").read().decode()
    rows = [line.split("\t") for line in index.splitlines()]
    assert {name: int(length) for name, length, *_ in rows} == aliases
    original = [line.split("\t", 1)[1] for line in Path(f"{fasta}.fai").read_text().splitlines()]
    assert ["\t".join(rest) for _, *rest in rows] == original


def test_compressed_genome_is_served_with_both_indexes(genome_folder):
    from Bio import bgzf

    folder, fasta = genome_folder
    with bgzf.open(f"{fasta}.gz", "wb") as packed:
        packed.write(fasta.read_bytes())
    with serving(make_server(folder, genome=fasta.with_suffix(".fa.gz"), port=0)) as address:
        reference = json.load(urllib.request.urlopen(f"{address}_view/settings.json"))["genome"]
        assert reference["fastaURL"].endswith(".gz")
        for key in ("fastaURL", "indexURL", "compressedIndexURL"):
            assert urllib.request.urlopen(f"{address}{reference[key]}").read()


def test_page_of_an_earlier_release_finds_the_genome(genome_folder):
    folder, fasta = genome_folder
    with serving(make_server(folder, genome=fasta, port=0)) as address:
        former = json.load(urllib.request.urlopen(f"{address}_view/genome.json"))
        assert former == json.load(urllib.request.urlopen(f"{address}_view/settings.json"))["genome"]


def test_a_file_of_the_folder_comes_before_what_is_served_beside_it(folder):
    with serving(FolderServer(folder, {"index.html": b"another"}, 0)) as address:
        assert urllib.request.urlopen(f"{address}index.html").read() == b"<p>page</p>"


def test_without_a_genome_the_page_is_told_so(genome_folder):
    with serving(make_server(genome_folder[0], port=0)) as address:
        assert json.load(urllib.request.urlopen(f"{address}_view/settings.json"))["genome"] is None


def test_another_genome_is_refused(genome_folder, tmp_path):
    other = tmp_path / "other.fa"
    other.write_text(">chr1\nACGT\n>chr2\nACGT\n")
    with pytest.raises(GenomeError, match=r"not the genome of these .*chr1 has 4 bp, not 379; .*missing"):
        make_server(genome_folder[0], genome=other, port=0)


def test_folder_without_a_page_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no index.html; expected a folder that `tism-scan export`"):
        make_server(tmp_path, port=0)


def test_locus_must_lie_on_a_chrom(genome_folder):
    folder = genome_folder[0]
    assert page_address("http://h/", read_locus(folder, "chr1:10-20")) == "http://h/?locus=chr1:10-20"
    with pytest.raises(RegionError, match="ends past the end"):
        read_locus(folder, "chr1:1-1,000")


def start_view(*arguments, environment=None):
    command = [sys.executable, "-m", "tism_scan", "view", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
        # A shell's background job ignores Ctrl-C, and so would the child of one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture
def stand_in_igv_js(tmp_path):
    path = tmp_path / "igv.min.js"
    path.write_text("var igv = {createBrowser() {}};")
    return path


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_command_prints_the_address_serves_and_ends_cleanly(genome_folder, stand_in_igv_js, stop):
    folder, fasta = genome_folder
    arguments = ("--genome", fasta, "--locus", "chr1:10-20", "--igv-js", stand_in_igv_js, "--port", "0")
    process = start_view(folder, *arguments, "--no-browser")
    try:
        assert process.stdout.readline() == f"serving {folder}, stop with Ctrl-C\n"
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?locus=chr1:10-20", address)
        assert b"<!DOCTYPE html>" in urllib.request.urlopen(address).read()
        root = address.partition("?")[0]
        assert urllib.request.urlopen(f"{root}igv.min.js").read() == stand_in_igv_js.read_bytes()
        process.send_signal(stop)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_command_opens_the_address_in_the_users_browser(genome_folder, stand_in_igv_js, tmp_path):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    process = start_view(
        genome_folder[0], "--igv-js", stand_in_igv_js, "--port", "0", environment={"BROWSER": f"{browser} %s"}
    )
    try:
        process.stdout.readline()
        address = process.stdout.readline()
        for _ in range(200):
            if opened.exists():
                break
            threading.Event().wait(0.05)
        assert opened.read_text() == address
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--locus", "chr9:1-2"], "'chr9' is no chrom"),
        (["--genes", "absent.gtf"], "cannot read 'absent.gtf'"),
        (["--annotation", "absent.bed"], "cannot read 'absent.bed'"),
        (["--genome", "absent.fa"], "absent.fa"),
        (["--igv-js", Path(small_plans.__file__)], "is no igv.js for web pages"),
        (["--igv-js", "absent.js"], "cannot read 'absent.js'"),
        (["--port", "99999"], "99999 is not in the range 0<=x<=65535"),
        (["--allow-origin", "*"], "'*' is no origin; expected ucsc, "),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(genome_folder, stand_in_igv_js, arguments, message):
    process = start_view(genome_folder[0], "--no-browser", "--igv-js", stand_in_igv_js, *arguments)
    try:
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 2
    assert message in err
    assert err.count("\n") == 1
