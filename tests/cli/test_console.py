import logging
import re
import sys

import pytest

from tism_scan.cli.console import log_to_console, say, say_error, say_table
from tism_scan.cli.waiting import file_bars
from tism_scan.progress import Progress, count_of


@pytest.mark.parametrize(
    ("counted", "expected"),
    [((1, "window"), "1 window"), ((0, "window"), "0 windows"), ((1200, "locus", "loci"), "1,200 loci")],
)
def test_nouns_agree_with_their_numbers(counted, expected):
    assert count_of(*counted) == expected


@pytest.fixture
def log():
    """Yield this package's log, which gets its handlers back."""
    log = logging.getLogger("tism_scan")
    handlers, propagate, level = log.handlers, log.propagate, log.level
    yield log
    log.handlers, log.propagate = handlers, propagate
    log.setLevel(level)


def test_warning_is_one_line_however_long(log, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    log_to_console(verbose=False)
    words = "a [path] at chr:100:1 that is " + "long and " * 20 + "ends"
    log.warning(words)
    assert capsys.readouterr().err == f"{words}\n"


def test_verbose_log_tells_the_time(log, capsys):
    log_to_console(verbose=True)
    log.info("done")
    assert re.fullmatch(r"\d\d:\d\d:\d\d done\n", capsys.readouterr().err)


class Gone:
    """What the standard error is once its terminal is closed, or its disk full."""

    def write(self, text):
        raise OSError("Input/output error")

    def flush(self):
        raise OSError("Input/output error")


def test_warning_that_nobody_can_read_ends_nothing(log, capsys, monkeypatch):
    log_to_console(verbose=False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Gone())
        log.warning("another process took the store over; stopping")
    log.warning("there is room again")
    assert capsys.readouterr().err.endswith("there is room again\n")


NAMES = ["[/x]", "[red]CTCF", "chr:100:1"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are(capsys, name):
    say(name)
    say_error(name)
    say_table(name, [name], [[name]])
    told = capsys.readouterr()
    assert told.out.count(name) == 4
    assert told.err == f"Error: {name}\n"


def test_names_of_rows_stay_whole_where_the_other_columns_have_to_be_broken(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    block, device = "chr1:248,000,001-249,048,576", "Intel(R) Xeon(R) Processor @ 2.80GHz (AVX512)"
    headers = ["block", "scores", "not equal to the bit", "largest difference", "first computed on"]
    say_table("blocks computed again", headers, [[block, "4,096", "0", "0.0e+00", device]])
    lines = capsys.readouterr().out.splitlines()
    assert sum(block in line for line in lines) == 1
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_bars_tell_names_as_they_are(capsys, monkeypatch, name):
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes a terminal of what is none
    monkeypatch.setenv("COLUMNS", "100")
    with file_bars("export", 2) as update:
        update(Progress(1, 2, "bases", part=name))
    assert name in capsys.readouterr().err
