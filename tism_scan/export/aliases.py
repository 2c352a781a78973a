"""Names that a browser, or another file, has for a genome's chroms."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tism_scan.errors import ExportError

_SHOWN = 5


def read_aliases(path: str | Path | None, chroms: Iterable[str]) -> dict[str, str]:
    """Return the other name of every chrom; what the table does not name keeps its own.

    Parameters
    ----------
    path : str, Path or None
        A table of two columns, apart by a tab or blanks: a chrom's name in the store, its other name. Lines
        that begin with ``#`` are ignored, and so are names of chroms that are not in the store. Without a
        table, all chroms keep their own names.
    chroms : iterable of str
        The store's chroms.

    Raises
    ------
    ExportError
        If the file cannot be read, a line has not two columns, no line names a chrom of the store, a chrom is
        given two names, or two chroms the same one; all faults of the file are named.
    """
    if path is None:
        return {chrom: chrom for chrom in chroms}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}; expected a table of two columns") from None
    except UnicodeDecodeError:
        raise ExportError(f"{path} is no text in UTF-8; expected a table of two columns") from None
    given: dict[str, str] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or line.startswith("#"):
            continue
        if len(columns) != 2 or not all(map(str.strip, columns)):
            problems.append(f"line {number} has {len(columns)} columns, expected 2: {line[:60]!r}")
            continue
        chrom, alias = map(str.strip, columns)
        if given.setdefault(chrom, alias) != alias:
            problems.append(f"line {number} names {chrom!r} {alias!r}, an earlier line {given[chrom]!r}")
    aliases = {chrom: given.get(chrom, chrom) for chrom in chroms}
    if not problems and not given.keys() & aliases.keys():
        near = f"such as {next(iter(aliases))!r}, in the first column" if aliases else "in the first column"
        problems.append(f"it names no chrom of the store; expected their names, {near}")
    counts = Counter(aliases.values())
    problems += [
        f"{' and '.join(repr(chrom) for chrom in aliases if aliases[chrom] == alias)} would both be {alias!r}"
        for alias, count in counts.items()
        if count > 1
    ]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ExportError(f"{path} cannot be used: {'; '.join(problems[:_SHOWN])}{more}; correct these lines")
    return aliases
