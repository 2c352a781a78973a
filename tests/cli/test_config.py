"""Options from a file, and the help that lists them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tism_scan.cli import cli
from tism_scan.cli.plan import command as plan_command
from tism_scan.cli.run import command as run_command
from tism_scan.errors import InputError
from tism_scan.scan.result import ScanResult
from tism_scan.store.score_store import ScoreStore

NAMES = ["stride", "strands", "tracks", "groups", "regions", "keep_bits", "ships_package", "out", "n_actors"]


def parsed(*arguments):
    """Return some of the values that the command gets."""
    with run_command.make_context("run", list(map(str, arguments))) as context:
        return {name: context.params[name] for name in NAMES}


@pytest.fixture
def config(tmp_path):
    """Return a function that writes a file of options."""

    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return write


REQUIRED = "genome = 'g.fa'\nout = 's.zarr'\n"


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("stride = 64\nstrands = 'both'", ["--stride", 64, "--strands", "both"]),
        ("tracks = 267\ngroup = 'a=1,2'", ["--tracks", "267", "--group", "a=1,2"]),
        ("tracks = [267, '*CTCF*']", ["--tracks", "267,*CTCF*"]),
        ("group = ['a=1', 'b=2,3']", ["--group", "a=1", "--group", "b=2,3"]),
        ("region = ['c:1-2', 'd']", ["--region", "c:1-2", "--region", "d"]),
        (
            "keep_bits = 7\nship-package = true\nactors = 3",
            ["--keep-bits", "7", "--ship-package", "--actors", "3"],
        ),
    ],
)
def test_file_gives_what_the_command_line_gives(config, text, typed):
    from_file = parsed("--config", config(REQUIRED + text))
    assert from_file == parsed("--genome", "g.fa", "--out", "s.zarr", *typed)
    assert from_file != parsed("--genome", "g.fa", "--out", "s.zarr")


def test_what_is_typed_has_precedence_wherever_it_stands(config):
    path = config(REQUIRED + "stride = 64\nregion = ['a', 'b']\nstrands = 'both'")
    for typed in (["--stride", 32, "--region", "c", "--config", path], ["--config", path, "--stride", 32]):
        values = parsed(*typed)
        assert (values["stride"], values["strands"]) == (32, "both")
    assert values["regions"] == ("a", "b")


def test_plan_takes_the_file_of_a_run(config):
    path = config(REQUIRED + "stride = 64\nactors = 2\nlog = 'l.txt'")
    with plan_command.make_context("plan", ["--config", str(path)]) as context:
        assert (context.params["stride"], context.params["genome"]) == (64, Path("g.fa"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stryde = 64", r"sets 'stryde': there is no such option; expected an option such as stride"),
        ("config = 'x'", r"sets 'config': there is no such option"),
        ("yes = true", r"sets 'yes': that is meant for one time only; expected it on the command line"),
        ("ship_package = 'no'", r"sets 'ship_package' to 'no'; expected true or false"),
        ("[run]\nstride = 64", r"sets 'run': there is no such option"),
        ("[stride]\nof = 64", r"sets 'stride' to {'of': 64}; expected a value or a list of them"),
        ("stride: 64", r"run.toml' is not TOML: .*line 1.*; expected lines such as stride = 256"),
    ],
)
def test_file_at_fault_says_where(config, text, message):
    with pytest.raises(InputError, match=message):
        parsed("--config", config(text))


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read '.*gone.toml': No such file"):
        parsed("--config", tmp_path / "gone.toml")


def test_value_of_the_wrong_kind_is_told_as_on_the_command_line(config):
    with pytest.raises(click.UsageError, match="'wide' is not a valid integer"):
        parsed("--config", config(REQUIRED + "stride = 'wide'"))


def test_store_records_what_the_file_said_without_secrets(
    config, monkeypatch, tiny_genome, narrow_beluga_weights, tmp_path
):
    monkeypatch.setattr("tism_scan.ray_scan.driver.scan_on_ray", lambda store, *_, **__: ScanResult())
    out = tmp_path / "s.zarr"
    path = config(
        f"genome = '{tiny_genome}'\nweights = '{narrow_beluga_weights}'\ntracks = [0, 1]\nout = '{out}'\n"
        "stage-genome = 'https://me:secret@host/x?sig=1'\n"
    )
    done = CliRunner().invoke(cli, ["run", "--config", str(path)])
    assert done.exception is None, done.output
    recorded = json.loads(json.dumps(ScoreStore.open(out).ledger.provenance()))["config"]
    assert recorded["tracks"] == [0, 1]
    assert recorded["stage-genome"] == "https://host/x"


def text_of(*arguments):
    done = CliRunner().invoke(cli, list(arguments), terminal_width=110)
    assert done.exception is None
    return done.output


@pytest.mark.parametrize("command", [run_command, plan_command])
def test_every_option_stands_once_in_the_help_under_a_heading(command):
    text = text_of(command.name, "--help")
    shown = [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    for parameter in shown:
        assert text.count(f"\n  {parameter.opts[0]} ") == 1, parameter.opts
    _, _, rest = text.partition("Other options:\n")
    assert len(rest.partition("\n\n")[0].splitlines()) <= 6
    assert [heading for heading in command.headings if f"\n{heading}:\n" not in text] == []


@pytest.mark.parametrize("command", ["refine", "variants"])
def test_an_argument_is_not_among_the_options(command):
    _, _, rest = text_of(command, "--help").partition("Other options:\n")
    assert [
        line for line in rest.partition("\n\n")[0].splitlines() if not line.startswith(("  -", "   "))
    ] == []


def test_help_gives_an_example_that_can_be_parsed():
    for example in run_command.examples:
        words = [word.strip("'") for word in example.split()]
        assert words[:2] == ["tism-scan", "run"]
        if "--config" not in words:
            assert parsed(*words[2:])["tracks"] == "*CTCF*"


def test_help_is_a_command_too():
    assert text_of("help") == text_of("--help")
    assert text_of("help", "run") == text_of("run", "--help")
    assert text_of("help", "help") == text_of("help", "--help")


def test_mistyped_command_gets_a_suggestion():
    for words in (["exprot"], ["help", "exprot"]):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 2
        assert "there is no command 'exprot'; did you mean 'export'?" in done.output


def test_shell_can_complete_commands_and_options():
    def completed(*words):
        done = subprocess.run(
            [sys.executable, "-m", "tism_scan"],
            env=os.environ
            | {
                "_TISM_SCAN_COMPLETE": "bash_complete",
                "COMP_WORDS": " ".join(words),
                "COMP_CWORD": str(len(words) - 1),
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert completed("tism-scan", "ex") == ["export"]
    assert "exprot" not in completed("tism-scan", "exprot", "")  # and no error in the middle of a line
    assert {"--strands", "--stride"} <= set(completed("tism-scan", "run", "--str"))
