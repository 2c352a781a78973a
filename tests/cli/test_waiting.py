"""What is shown while a user waits."""

import io
import re
import subprocess
import sys
import time

import pytest
from command_line import shown_by
from rich.console import Console

from tism_scan.cli import waiting as waiting_module
from tism_scan.cli.waiting import file_bars, progress_bar, waiting
from tism_scan.progress import Progress, steps


@pytest.fixture(autouse=True)
def quiet_log(monkeypatch):
    """Let steps be told, as the command line does."""
    monkeypatch.setattr(steps, "level", 20)
    steps.manager._clear_cache()
    yield
    steps.manager._clear_cache()


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that has everything shown on a terminal of so many columns, and returns its text."""
    monkeypatch.setenv("TERM", "xterm")

    def of(n_columns):
        shown = io.StringIO()
        screen = Console(file=shown, force_terminal=True, force_interactive=True, width=n_columns)
        monkeypatch.setattr(waiting_module, "err", screen)
        return shown.getvalue

    return of


@pytest.fixture
def impatient(monkeypatch):
    for name in ("LINE_EVERY_S", "STEP_EVERY_S"):
        monkeypatch.setattr(waiting_module, name, 0.02)


def frames(text):
    """Return what a terminal showed, one after the other."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [frame.strip() for frame in re.split(r"[\r\n]+", plain) if frame.strip()]


def told_lines(capsys, n_lines):
    """Return the lines on the standard error once there are so many."""
    told, deadline = [], time.monotonic() + 20
    while len(told) < n_lines and time.monotonic() < deadline:
        told += capsys.readouterr().err.splitlines()
        time.sleep(0.01)
    return told


def test_terminal_shows_each_step_at_once_and_nothing_in_the_end(terminal):
    shown_text = terminal(80)
    with waiting("loading PyTorch"):
        time.sleep(0.15)
        steps.info("reading the genome")
        time.sleep(0.15)
    told = shown_text()
    shown = frames(told)
    assert shown[0] == "loading PyTorch"
    assert shown[-1].startswith("reading the genome")
    assert told.endswith("\x1b[2K")  # the line is cleared


def test_without_a_terminal_a_long_step_gets_a_line(impatient, capsys):
    with waiting("loading PyTorch"):
        assert "loading PyTorch" in told_lines(capsys, 1)
        steps.info("reading the genome")
        assert told_lines(capsys, 3)[-1].startswith("reading the genome")


def test_without_a_terminal_a_short_wait_says_nothing(capsys):
    with waiting("loading PyTorch"), progress_bar("scan") as show:
        show(Progress(1, 2))
    assert capsys.readouterr().err == ""


def test_scan_says_the_step_until_its_first_base_is_done(impatient, capsys):
    with progress_bar("scan") as show:
        steps.info("waiting for a node with 1 GPU: none is in the cluster")
        show(Progress(0, 100))
        assert told_lines(capsys, 2)[-1].startswith("scan: waiting for a node with 1 GPU: none is in")
        show(Progress(20, 100, note="1 worker"))
        line = told_lines(capsys, 3)[-1]
    assert re.fullmatch(r"scan: 20\.0 %, 20 bp of 100 bp, [\d.]+ \wb?p?/s, 1 worker, [\d.]+ s left", line), (
        line
    )


def test_resumed_bar_counts_the_whole_and_its_speed_is_of_this_run(monkeypatch, impatient, capsys):
    now = [0.0]
    monkeypatch.setattr(waiting_module, "time", type("Clock", (), {"monotonic": lambda: now[0]}))
    with progress_bar("scan") as show:
        steps.info("starting Ray")
        show(Progress(40, 100, n_before=40))
        now[0] = 50.0
        steps.info("computing the first blocks")
        now[0] = 54.0
        show(Progress(60, 100, n_before=40))
        line = told_lines(capsys, 2)[-1]
    assert line == "scan: 60.0 %, 60 bp of 100 bp, 5 bp/s, 8.0 s left"


def test_what_is_complete_keeps_its_speed(monkeypatch, impatient, capsys):
    now = [0.0]
    monkeypatch.setattr(waiting_module, "time", type("Clock", (), {"monotonic": lambda: now[0]}))
    with progress_bar("scan") as show:
        show(Progress(0, 100))
        now[0] = 4.0
        show(Progress(100, 100))
        now[0] = 99.0
        assert told_lines(capsys, 2)[-1] == "scan: 100.0 %, 100 bp of 100 bp, 25 bp/s"


@pytest.mark.parametrize("n_columns", [70, 160])
def test_bars_take_the_width_of_the_terminal(terminal, n_columns):
    shown_text = terminal(n_columns)
    with progress_bar("scan") as show:
        show(Progress(10, 100))
    with file_bars("export", 2) as show:
        show(Progress(10, 100, part="a"))
    widths = {len(frame) for frame in frames(shown_text())}
    assert n_columns - 3 <= min(widths) <= max(widths) <= n_columns


def test_first_words_wait_for_no_large_library():
    code = "import sys, tism_scan.cli.run as _; sys.exit({'ray', 'torch', 'zarr'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "set()\n")


@pytest.mark.parametrize(
    ("command", "steps_shown"),
    [
        (["attribute", "--sequence", "ACGT", "--out", "a.tsv"], ["loading PyTorch and the model"]),
        (["audit", "--n", "1", "--core-bp", "2"], ["loading PyTorch and the model"]),
        (["bench", "--seconds", "0.01"], ["loading PyTorch and the model", "scoring random sequence"]),
        (["plan", "--seconds", "0.01"], ["loading PyTorch", "scoring a sample of the genome"]),
    ],
    ids=lambda value: value[0],
)
def test_command_that_loads_a_model_says_on_a_terminal_what_it_waits_for(
    tiny_genome, narrow_beluga_weights, tmp_path, command, steps_shown
):
    inputs = ["--weights", str(narrow_beluga_weights)]
    if command[0] in ("audit", "plan"):
        inputs += ["--genome", str(tiny_genome)]
    tracks = ["--tracks", "1"]
    code, shown = shown_by(*command, *inputs, *tracks, cwd=tmp_path)
    assert code == 0, shown
    told = "\n".join(frames(shown))
    where = [told.index(step) for step in steps_shown]
    assert where == sorted(where)
    assert where[0] == 0, told
