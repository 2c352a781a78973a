"""What was typed, and what to type next: every command that is printed can be pasted into a shell."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

_NAME = "tism-scan"
ONCE = ("--overwrite", "--yes", "--break-lock")  # options that are meant for one time only


def pasteable(*words: object) -> str:
    """Return a command of this program, quoted for a shell, by the name that the program was called by."""
    return f"{this_program()} {shlex.join(map(str, words))}"


def this_program() -> str:
    """Return what to type to call this program as it was called: a name on the PATH, a path, or Python's -m.

    Paths are absolute, since what is pasted may begin with ``cd``.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tism_scan"
    on_path = shutil.which(_NAME)
    is_on_path = on_path is not None and called.exists() and os.path.samefile(on_path, called)
    if called.name != _NAME or not called.exists() or is_on_path:
        return _NAME
    return shlex.quote(str(called.absolute()))


def typed_command() -> dict[str, str]:
    """Return what was typed, and where, for the store's record."""
    return {"command": shlex.join([_NAME, *_typed()]), "folder": str(Path.cwd())}


def typed_again() -> str:
    """Return what was typed, to be pasted in the same folder; without what is meant for one time only."""
    return pasteable(*_typed())


def called_as_now(command: str) -> str:
    """Return a recorded ``cd FOLDER && tism-scan ...`` with this program as it was called now."""
    return command.replace(f"&& {_NAME} ", f"&& {this_program()} ", 1)


def _typed() -> list[str]:
    return [_without_secret(word) for word in sys.argv[1:] if word not in ONCE]


def without_secrets(value: Any) -> Any:
    """Return a value, or one that holds several, with every URL as in `typed_command`."""
    if isinstance(value, dict):
        return {name: without_secrets(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_secrets(each) for each in value]
    return _without_secret(value) if isinstance(value, str) else value


def _without_secret(word: str) -> str:
    """Return what was typed; of a URL, without a password and the query, which may be a signature."""
    scheme, is_url, rest = word.partition("://")
    if not is_url:
        return word
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
