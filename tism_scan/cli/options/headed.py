"""A command whose help has its options under headings, and its examples beneath."""

from collections.abc import Mapping, Sequence
from typing import Any

import click


class Headed(click.Command):
    """A command with many options.

    Parameters
    ----------
    headings : mapping from str to sequence of str
        The names of the parameters under each heading, in the order of the help; the rest comes last.
    examples : sequence of str
        Commands as they are typed.
    """

    def __init__(
        self, *args: Any, headings: Mapping[str, Sequence[str]], examples: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.headings, self.examples = headings, examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, then the examples."""
        records = {
            str(parameter.name): record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)  # new releases of Click list arguments, too
            and (record := parameter.get_help_record(ctx)) is not None
        }
        for heading, names in self.headings.items():
            rows = [records.pop(name) for name in names if name in records]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
        with formatter.section("Other options"):
            formatter.write_dl(list(records.values()))
        with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
