import logging
import re

import pytest

from tism_scan.cli.console import count_of, log_to_console


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
    words = "a [path] that is " + "long and " * 20 + "ends"
    log.warning(words)
    assert capsys.readouterr().err == f"{words}\n"


def test_verbose_log_tells_the_time(log, capsys):
    log_to_console(verbose=True)
    log.info("done")
    assert re.fullmatch(r"\d\d:\d\d:\d\d done\n", capsys.readouterr().err)
