"""Help with headings: each option stands where a reader looks for it."""

import click
import pytest

from tism_scan.cli import cli
from tism_scan.cli.options.headed import Headed

CONTEXT = click.Context(cli)
COMMANDS = {name: cli.get_command(CONTEXT, name) for name in cli.list_commands(CONTEXT)}
HEADED = {name: command for name, command in COMMANDS.items() if isinstance(command, Headed)}
WITHOUT_A_TOPIC = {"config", "log_path", "as_json"}


@pytest.mark.parametrize("command", HEADED.values(), ids=HEADED)
def test_every_option_with_a_topic_is_under_its_heading(command):
    shown = {
        option.name for option in command.params if isinstance(option, click.Option) and not option.hidden
    }
    under_headings = {name for names in command.headings.values() for name in names}
    assert not shown - under_headings - WITHOUT_A_TOPIC
