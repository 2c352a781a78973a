import functools
import http.server
import json
import re
import shlex
import threading

import numpy as np
import pybigtools
import pytest
from command_line import WEIGHTS, tism_scan

import tism_scan as ts
from tism_scan.cli.console import base_count
from tism_scan.cli.typed import typed_command
from tism_scan.genome.alphabet import is_acgt
from tism_scan.store.slopes import kept_slopes

NAMES = ("CTCF", "GATA1", "AP-1", "NRF1", "ETS", "REST", "accessible")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(3)
    sequence = "".join(rng.choice(list("ACGTacgt"), 9_000)) + "N" * 3_000 + "RYACGTTGCA"
    (folder / "genome.fa").write_text(f">chr1 first\n{sequence}\n>chr2\n{sequence[:4_000]}\n>chr_alt\nACGT\n")
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    return folder


@pytest.fixture(scope="module")
def scan_arguments(inputs):
    return [
        *(
            "run",
            "--genome",
            inputs / "genome.fa",
            "--weights",
            WEIGHTS,
            "--track-names",
            inputs / "names.txt",
        ),
        *("--tracks", "CTCF,1", "--group", "both=0-1", "--exclude-chroms", "*_alt", "--actors", "1"),
        *("--block-bp", "4096"),
    ]


@pytest.fixture(scope="module")
def scanned(scan_arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scanned")
    log = ("--log", folder / "run.log")
    result = tism_scan(*scan_arguments, "--out", folder / "s.zarr", *log, has_fresh_python=True)
    assert result.returncode == 0, result.stderr
    return folder / "s.zarr", result


def test_run_scores_every_wanted_base_and_only_these(scanned, inputs):
    store = ts.ScoreStore.open(scanned[0])
    with ts.Genome(inputs / "genome.fa") as genome:
        for chrom in ("chr1", "chr2"):
            n_bp = genome.chroms[chrom]
            expected = is_acgt(genome.fetch(chrom, 0, n_bp))
            assert np.array_equal(np.isfinite(store.read_track(chrom, 0, n_bp, 0)), expected)
    assert "chr_alt" not in store.plan.wanted


def test_run_says_what_was_done_skipped_and_is_next(scanned):
    assert "scanned 4 blocks, 16,010 bases" in scanned[1].stdout
    assert "13,008 bases got a score, 3,002 did not" in scanned[1].stdout
    assert "skipped 1 chrom without a wanted base: chr_alt" in scanned[1].stdout
    beside = scanned[0].parent / "s_bigwig"
    _, _, next_words = scanned[1].stdout.partition("next: ")
    assert shlex.split(next_words)[1:] == ["-m", "tism_scan", "export", str(scanned[0]), "--out", str(beside)]


def test_run_prints_nothing_but_its_own_lines(scanned):
    assert all(line.startswith("scan: ") for line in scanned[1].stderr.splitlines())


def test_log_has_the_command_every_step_and_every_line_with_its_time(scanned):
    lines = (scanned[0].parent / "run.log").read_text().splitlines()
    assert all(re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \S", line) for line in lines)
    words = [line[20:] for line in lines]
    assert re.match(r"cd \S+ && .* -m tism_scan run --genome ", words[0])
    steps = ["loading the model", "starting Ray", "computing the first blocks", "chr2:1-4,000: "]
    positions = [next(i for i, line in enumerate(words) if line.startswith(step)) for step in steps]
    assert positions == sorted(positions)
    printed = (scanned[1].stdout + scanned[1].stderr).splitlines()
    assert set(printed) <= set(words)


def test_log_grows_and_has_the_error_too(scan_arguments, tmp_path):
    log = tmp_path / "run.log"
    log.write_text("before\n")
    result = tism_scan(*scan_arguments, "--out", tmp_path / "s.zarr", "--genome", "absent.fa", "--log", log)
    assert result.returncode == 2
    assert log.read_text().startswith("before\n20")
    assert log.read_text().endswith(result.stderr)


def test_group_is_the_mean_of_its_outputs(scanned):
    store = ts.ScoreStore.open(scanned[0])
    ctcf, gata1, both = (store.read_track("chr1", 0, 9_000, i) for i in range(3))
    np.testing.assert_allclose(both, (ctcf + gata1) / 2, atol=1e-5 * np.abs(ctcf).max())


def test_run_again_has_nothing_to_do(scanned, scan_arguments):
    result = tism_scan(*scan_arguments, "--out", scanned[0])
    assert result.returncode == 0
    assert "resumed: 4 blocks were already done" in result.stdout
    assert "nothing is pending" in result.stdout
    assert "scanned 0" not in result.stdout


def test_status_as_json_counts_blocks_and_bases(scanned):
    status = json.loads(tism_scan("status", scanned[0], "--json").stdout)
    assert status["is_complete"] is True
    assert status["total"]["bases_done"] == 16_010
    assert status["lease"] is None
    assert status["provenance"]["torch"]


def test_status_shows_a_table(scanned):
    result = tism_scan("status", scanned[0])
    assert result.returncode == 0
    assert "12,010" in result.stdout


def test_exported_bigwig_equals_the_store_in_an_independent_reader(scanned, inputs, tmp_path):
    audit = ("audit", "--genome", inputs / "genome.fa", "--weights", WEIGHTS, "--n", "2", "--core-bp", "8")
    chosen = ("--track-names", inputs / "names.txt", "--tracks", "CTCF,ETS")
    refused = tism_scan(*audit, *chosen, "--store", scanned[0], "--path", "0.5")
    assert refused.returncode == 2
    assert "was scanned along the path 1; expected one that is audited; add it as another" in refused.stderr
    audited = tism_scan(*audit, *chosen, "--store", scanned[0])
    assert audited.returncode == 0, audited.stderr
    (tmp_path / "other.fa").write_text((inputs / "genome.fa").read_text().replace("N" * 3_000, "A" * 3_000))
    foreign = tism_scan(*audit, *chosen, "--store", scanned[0], "--genome", tmp_path / "other.fa")
    assert foreign.returncode == 2
    assert "other.fa is another genome" in foreign.stderr
    (slope,) = kept_slopes(ts.ScoreStore.open(scanned[0])).values()  # ETS is none of the store's tracks
    result = tism_scan("export", scanned[0], "--out", tmp_path / "bw")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "bw").glob("*.bw")) == [
        "0000_CTCF.bw",
        "0001_GATA1.bw",
        "both.bw",
    ]
    store = ts.ScoreStore.open(scanned[0])
    with pybigtools.open(str(tmp_path / "bw" / "0001_GATA1.bw")) as bigwig:
        values = bigwig.values("chr1", 0, 12_010, fillna=np.nan)
        assert list(bigwig.chroms()) == ["chr1", "chr2", "chr_alt"]
    assert np.array_equal(values.astype(np.float32), store.read_track("chr1", 0, 12_010, 1), equal_nan=True)
    assert (
        f"is TISM times\n         about {slope:.2f} (CTCF)." in (tmp_path / "bw" / "README.txt").read_text()
    )


@pytest.mark.parametrize(
    "words", [["status", ""], ["seqlets", "s.zarr", "--out", ""], ["plan", "--tracks", "0", "--genome", ""]]
)
def test_empty_path_is_not_the_working_folder(words):
    done = tism_scan(*words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the path is empty, as from a shell variable that is not set" in done.stderr


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("run", "--out and --genome"),
        ("run --out s.zarr", "--genome"),
        ("annotate", "VARIANTS, --store and --out"),
        ("annotate --out x.vcf.gz", "VARIANTS and --store"),
        ("export", "STORE and --out"),
        ("refine s.zarr --quantile 0.9", "--genome"),
        ("view", "FOLDER"),
    ],
)
def test_all_that_is_required_and_missing_is_in_one_line(words, missing):
    done = tism_scan(*words.split())
    assert done.returncode == 2
    (command, *_) = words.split()
    assert done.stderr.startswith(f"Error: missing {missing}; see `")
    assert done.stderr.endswith(f" {command} --help`\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("plan --seconds -1", "x>0"),
        ("plan --seconds 0", "x>0"),
        ("bench --seconds -1", "x>0"),
        ("audit --seed -1", "x>=0"),
        ("audit --core-bp -1", "x>=1"),
        ("attribute --seed -1", "x>=0"),
    ],
)
def test_number_below_what_is_possible_is_refused(words, expected):
    done = tism_scan(*words.split())
    assert done.returncode == 2
    assert f"is not in the range {expected};" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_a_config_file_gives_is_not_missing(tmp_path):
    (tmp_path / "run.toml").write_text("genome = 'g.fa'\n")
    done = tism_scan("run", "--config", "run.toml", cwd=tmp_path)
    assert "missing --out; see" in done.stderr


def test_export_of_an_unfinished_store_is_refused(scanned, tmp_path):
    store = ts.ScoreStore.open(scanned[0])
    marker = next((scanned[0] / ".scan" / "done").iterdir())
    hidden = marker.rename(scanned[0] / "hidden")
    try:
        result = tism_scan("export", scanned[0], "--out", tmp_path)
    finally:
        hidden.rename(marker)
    assert result.returncode == 2
    assert "is not complete" in result.stderr
    assert next(store.pending(), None) is None


def test_other_settings_are_refused_with_both_values(scanned, scan_arguments):
    result = tism_scan(*scan_arguments, "--out", scanned[0], "--stride", "512", "--path", "0.5,1")
    assert result.returncode == 2
    assert "stride 256, not 512" in result.stderr
    assert "path 1, not 1,0.5" in result.stderr


def test_overwrite_without_a_terminal_wants_yes(scanned, scan_arguments):
    result = tism_scan(*scan_arguments, "--out", scanned[0], "--overwrite")
    assert result.returncode == 2
    assert "--yes" in result.stderr
    assert scanned[0].exists()


def test_overwrite_starts_anew_on_a_region_only(scan_arguments, inputs, tmp_path):
    out = tmp_path / "s.zarr"
    ts.scan(ts.plan_scan(inputs / "genome.fa", WEIGHTS, tracks="0", regions="chr1:101-200"), out)
    again = tism_scan(
        *scan_arguments,
        "--out",
        out,
        "--region",
        "chr1:5,001-5,100",
        "--overwrite",
        "--yes",
        is_without_ray=True,
    )
    assert again.returncode == 0, again.stderr
    scores = ts.ScoreStore.open(out).read_track("chr1", 0, 9_000, 0)
    assert np.array_equal(np.flatnonzero(np.isfinite(scores)), np.arange(5_000, 5_100))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--genome", "absent.fa"], "absent.fa.*No such file"),
        (["--weights", "absent.pth"], "cannot read the weights absent.pth"),
        (["--weights", __file__], "not a plain state dict"),
        (["--tracks", "CTCQ"], "'CTCQ' fits no track of the model.*CTCF"),
        (["--tracks", "7"], "expected an index in 0-6"),
        (["--region", "chr9:1-100"], "'chr9' is no chrom"),
        (["--region", "chr1:5000-4000"], "ends before it starts"),
        (["--region", "chr1:12,000-13,000"], "ends past the end"),
        (["--stride", "255"], "stride 255 does not fit"),
        (["--stride", "many"], "'many' is not a valid integer"),
        (["--log", "gone/run.log"], "cannot write the log 'gone/run.log': No such file"),
        (["--gpus-per-actor", "1"], "--gpus-per-actor is 1, and PyTorch can use no GPU of this machine"),
        (["--block-bp", "0"], r"0 is not in the range x>=1"),
        (["--memory-gb", "0.001"], r"0.001 is not in the range x>=0.1"),
        (["--out", __file__], "is a file; expected a folder"),
        (["--out", "/proc/scores"], "cannot write to /proc/scores"),
        (["--path", "1,0"], "path 1,0 is none; expected different numbers above 0 and up to 1"),
        (["--keep-bits", "30"], "30 is not in the range 1<=x<=23"),
        (["--address", "nowhere"], "cannot reach a Ray cluster at 'nowhere'"),
        (["--address", "127.0.0.1:1"], r"cannot reach a Ray cluster at '127.0.0.1:1' \(Connection refused\)"),
        (["--address", "ray://127.0.0.1:1"], r"at 'ray://127.0.0.1:1' \(Connection refused\)"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(scan_arguments, tmp_path, arguments, message):
    result = tism_scan(*scan_arguments, "--out", tmp_path / "s.zarr", *arguments)
    assert result.returncode == (75 if "--address" in arguments else 2)
    assert result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["demo", "tracks", "run", "status", "verify", "export"])
def test_each_command_has_help(command):
    result = tism_scan(command, "--help")
    assert result.returncode == 0
    assert "Usage:" in result.stdout
    assert " RANGE" not in result.stdout  # a number is called N, or by its unit


@pytest.mark.parametrize("command", ["plan", "run", "variants", "refine", "attribute"])
def test_help_has_a_heading_for_each_option_of_the_computing(command):
    _, _, others = tism_scan(command, "--help").stdout.partition("Other options:")
    named = re.findall(r"^  (?:-h, )?--([a-z-]+)", others.partition("Example")[0], re.MULTILINE)
    assert set(named) <= {"config", "log", "json", "help"}


def test_help_lists_commands_in_the_order_of_the_work():
    text = tism_scan("--help").stdout
    positions = [
        text.index(f"\n  {command} ") for command in ("demo", "tracks", "run", "status", "verify", "export")
    ]
    assert positions == sorted(positions)


def test_tracks_lists_index_and_name(inputs):
    result = tism_scan("tracks", "*a*1", "--track-names", inputs / "names.txt")
    assert result.stdout.splitlines() == ["1\tGATA1", "2\tAP-1"]


def test_tracks_reads_names_from_a_url(inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=inputs)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/names.txt"
        result = tism_scan("tracks", "*a*1", "--track-names", url)
        server.shutdown()
    assert result.stdout.splitlines() == ["1\tGATA1", "2\tAP-1"]


def test_tracks_pattern_that_fits_nothing_is_an_error(inputs):
    result = tism_scan("tracks", "zzz", "--track-names", inputs / "names.txt")
    assert result.returncode == 2
    assert "'zzz' fits none of the 7 names" in result.stderr


@pytest.mark.parametrize(
    ("n_bp", "text"),
    [(0, "0 bp"), (950, "950 bp"), (12_345, "12.3 kb"), (425_984, "426 kb"), (3_101_804_739, "3.10 Gb")],
)
def test_bases_are_counted_in_few_characters(n_bp, text):
    assert base_count(n_bp) == text


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("https://host/w.pth?X-Amz-Signature=abc&b=1", "https://host/w.pth"),
        ("https://me:secret@host:8443/a/w.pth", "https://host:8443/a/w.pth"),
        ("--weights=https://host/w.pth?token=abc", "--weights=https://host/w.pth"),
        ("s3://bucket/a@b/w.pth", "s3://bucket/a@b/w.pth"),
        ("*CTCF?", "*CTCF?"),
    ],
)
def test_secrets_in_urls_are_not_recorded(monkeypatch, word, kept):
    monkeypatch.setattr("sys.argv", ["tism-scan", "run", "--weights", word, "--yes"])
    assert shlex.split(typed_command()["command"]) == ["tism-scan", "run", "--weights", kept]


@pytest.mark.parametrize("once", ["--overwrite", "--yes", "--break-lock"])
def test_recorded_command_resumes_and_neither_deletes_nor_takes_again(monkeypatch, once):
    monkeypatch.setattr("sys.argv", ["tism-scan", "run", once, "--out", "s.zarr"])
    assert shlex.split(typed_command()["command"]) == ["tism-scan", "run", "--out", "s.zarr"]
