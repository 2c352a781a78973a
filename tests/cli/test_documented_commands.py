"""What README and the pages tell a reader to type."""

import re
import shlex
from pathlib import Path

import click
import pytest

from tism_scan.cli import cli

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / ".github" / "docs").glob("*.md"))]
FOREIGN = {"--dist", "--dose", "--apart"}  # of pytest and of a benchmark


def typed_commands(page):
    """Return the words after ``tism-scan`` of each command in a page's blocks for the shell."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [re.search(r"(?:^ *|[/ ])tism-scan (?!--)(.*?)(?: && .*)?$", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


COMMANDS = [
    (page.name, words) for page in [*DOCS, ROOT / "cluster" / "README.md"] for words in typed_commands(page)
]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: " ".join(value)[:60])
def test_every_command_of_the_pages_is_accepted(page, words):
    context = click.Context(cli, info_name="tism-scan")
    command = cli.get_command(context, words[0])
    assert command is not None, words[0]
    command.make_context(words[0], words[1:], parent=context)  # raises, and runs nothing


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_option_that_a_page_names_exists(page):
    context = click.Context(cli)
    commands = [cli, *(cli.get_command(context, name) for name in cli.list_commands(context))]
    known = {text for command in commands for option in command.params for text in option.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", page.read_text()))
    assert named - known - FOREIGN - {"--help"} == set()
