"""What the commands print for users to paste."""

import os
import shlex
import subprocess
import sys

import pytest

from tism_scan.cli.typed import called_as_now, pasteable, this_program, typed_again


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return a script of the program's name, which is not on the PATH."""
    path = tmp_path / "my venv" / "tism-scan"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", os.defpath)
    return path


def test_a_name_on_the_path_is_enough(program, monkeypatch):
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert this_program() == "tism-scan"


def test_a_program_off_the_path_is_named_by_its_path_from_wherever_it_is_pasted(program, monkeypatch):
    monkeypatch.chdir(program.parent)
    monkeypatch.setattr(sys, "argv", ["./tism-scan"])
    assert shlex.split(this_program()) == [str(program)]


def test_a_program_off_the_path_is_told_from_another_one_that_is_on_it(program, tmp_path, monkeypatch):
    other = tmp_path / "bin" / "tism-scan"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert shlex.split(this_program()) == [str(program)]


def test_a_module_that_python_ran_is_run_by_it_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/tism_scan/__main__.py", "run"])
    assert shlex.split(this_program()) == [sys.executable, "-m", "tism_scan"]


@pytest.mark.parametrize("name", ["my scores.zarr", "süß ö", "a'b\"c", "$HOME", "a;b", "*"])
def test_a_shell_takes_a_printed_command_as_it_was_meant(program, monkeypatch, name):
    monkeypatch.setattr(sys, "argv", [str(program), "run", "--out", name, "--yes"])
    for command, words in ((pasteable("status", name), ["status", name]), (typed_again(), sys.argv[1:-1])):
        pasted = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        assert pasted.stdout.splitlines() == words


def test_a_recorded_command_is_called_as_this_one_is(program, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(program)])
    recorded = "cd 'my folder' && tism-scan run --out 'tism-scan run'"
    assert called_as_now(recorded) == f"cd 'my folder' && '{program}' run --out 'tism-scan run'"
