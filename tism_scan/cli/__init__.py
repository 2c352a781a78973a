"""The command line: ``tism-scan COMMAND``. Each command parses, calls the library, and prints.

No number is computed here. Options that several commands share are in `tism_scan.cli.options`.
"""

import difflib
import sys
from importlib import import_module

import click

from tism_scan.cli.console import fill_closed_descriptors, log_to_console, say_error
from tism_scan.errors import TismScanError
from tism_scan.version import __version__

# In the order of the work, which is the order of the help.
_COMMANDS = {
    "demo": "Scan a small example genome with a small model.",
    "tracks": "List a model's outputs by index and name.",
    "attribute": "Score and draw one region, or sequences, with any attribution method.",
    "audit": "Compare TISM with exact ISM for a model, and time both.",
    "bench": "Measure a model's speed on a device.",
    "plan": "Estimate a scan's time and disk space before running it.",
    "run": "Scan a genome into a store of scores; run it again to resume.",
    "status": "Show what a store holds, and which blocks are pending.",
    "verify": "Check a store for damage; damaged blocks become pending again.",
    "refine": "Compute exact ISM of the bases with the highest scores of a store.",
    "export": "Write a store's tracks as bigWig files.",
    "view": "Show exported tracks in a web browser.",
    "calibrate": "Rank a store's scores, so that variants get a PHRED.",
    "annotate": "Add the effect of each single-base variant to a VCF.",
    "variants": "Score variants exactly, by the model on both alleles.",
    "seqlets": "Write runs of high-scoring bases (seqlets) as BED.",
    "help": "Show this text, or the help of a command.",
}

# What Click raises if nothing was typed; before 8.2, it shows the help and ends with code 0 instead.
_NOTHING_TYPED = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _Commands(click.Group):
    """Commands that are imported when they are asked for: help stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"tism_scan.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], _COMMANDS, n=3)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "expected one of the commands"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="tism-scan")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each block; type it before COMMAND.")
def cli(*, verbose: bool) -> None:
    """Score every base of a genome with a sequence-to-function model.

    Exit codes: 0 done, 1 something is missing (run the same command again), 2 the input cannot be used, 75
    try again later, 130 stopped by a signal.
    """
    log_to_console(verbose=verbose)


def _all_missing(context: click.Context) -> str:
    """Return what was not typed and is required; Click stops at the first, after it took what was typed."""
    missing = [
        parameter.human_readable_name if isinstance(parameter, click.Argument) else parameter.opts[-1]
        for parameter in context.command.params
        if parameter.required
        and parameter.name not in context.params
        and parameter.value_is_missing(parameter.consume_value(context, {})[0])
    ]
    return f"missing {' and '.join(filter(None, [', '.join(missing[:-1]), missing[-1]]))}"


def main() -> None:
    """Run the command line; every error that a user can mend is one line."""
    fill_closed_descriptors()
    try:
        code = cli.main(standalone_mode=False, complete_var="_TISM_SCAN_COMPLETE")
    except TismScanError as error:
        say_error(str(error))
        code = error.exit_code
    except _NOTHING_TYPED as error:
        error.show()
        code = error.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "tism-scan"
        is_missing = isinstance(error, click.MissingParameter) and error.ctx is not None
        words = _all_missing(error.ctx) if is_missing and error.ctx else error.format_message().rstrip(".")
        say_error(f"{words}; see `{where} --help`")
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say_error("stopped; what is finished is kept")
        code = 130
    except BrokenPipeError:
        code = 1
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        say_error(f"the system refused to use{where}: {error.strerror or error}; what is finished is kept")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
