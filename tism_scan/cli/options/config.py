"""``--config``: options from a TOML file, by their names on the command line."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tism_scan.cli.options.common import PATH
from tism_scan.cli.typed import ONCE, without_secrets
from tism_scan.errors import InputError

_KEY = "tism_scan.config"


def used_config() -> dict[str, Any]:
    """Return, for the store's record, what the running command took from a file: nothing without one."""
    context = click.get_current_context(silent=True)
    read = None if context is None else context.meta.get(_KEY)
    return {} if read is None else {"config": without_secrets(read)}


def _read(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Let the options of a file be this command's defaults."""
    if path is None:
        return
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}; expected a TOML file") from None
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} is not TOML: {error}; expected lines such as stride = 256 or tracks = '*CTCF*'"
        ) from None
    context.default_map = _defaults(path, read, context.command)
    context.meta[_KEY] = read


def _defaults(path: Path, read: Mapping[str, Any], command: click.Command) -> dict[str, Any]:
    """Return the values of a file by the names of a command's parameters."""
    options = {
        name.removeprefix("--"): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name != "config"
        for name in parameter.opts
        if name.startswith("--") and name not in ONCE
    }
    defaults = {}
    for key, value in read.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            raise InputError(f"{str(path)!r} sets {key!r}: {_why_not(key, list(options))}")
        if isinstance(value, dict) or (option.is_flag and not isinstance(value, bool)):
            expected = "true or false" if option.is_flag else "a value or a list of them"
            raise InputError(f"{str(path)!r} sets {key!r} to {value!r}; expected {expected}")
        defaults[str(option.name)] = _value(option, value)
    return defaults


def _why_not(key: str, names: list[str]) -> str:
    """Return why a key is none that a file may have."""
    if f"--{key.replace('_', '-')}" in ONCE:
        return "that is meant for one time only; expected it on the command line"
    near = difflib.get_close_matches(key, names, n=3)
    hint = f"expected an option such as {', '.join(near)}" if near else "expected an option of the command"
    return f"there is no such option; {hint}, without the dashes in front"


def _value(option: click.Option, value: Any) -> Any:
    """Return a value as the command line would have it: text, several of them, or a flag."""
    if option.is_flag:
        return value
    several = [str(each) for each in value] if isinstance(value, list) else [str(value)]
    return several if option.multiple else ",".join(several)


config_option = click.option(
    "--config",
    type=PATH,
    is_eager=True,
    expose_value=False,
    callback=_read,
    help="TOML file of options, such as stride = 256; what is typed has precedence.",
)
