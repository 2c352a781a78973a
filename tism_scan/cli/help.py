"""``tism-scan help``: what ``--help`` shows."""

import click


@click.command(name="help")
@click.argument("name", required=False, metavar="[COMMAND]")
@click.pass_context
def command(context: click.Context, *, name: str | None) -> int:
    """Show which commands there are, or the help of COMMAND."""
    parent = context.find_root()
    if name is None:
        click.echo(parent.get_help())
        return 0
    if isinstance(parent.command, click.Group):
        _, found, _ = parent.command.resolve_command(parent, [name])
        if found is not None:
            with click.Context(found, info_name=name, parent=parent) as of_command:
                click.echo(found.get_help(of_command))
    return 0
