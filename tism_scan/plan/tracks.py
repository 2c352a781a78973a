"""Tracks: outputs of the model, or named weighted groups of them, and how users choose them."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tism_scan.errors import TrackError

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_GLOB_SIGNS = frozenset("*?[")


@dataclass(frozen=True)
class Track:
    """One output of the model, or a weighted sum of several.

    Attributes
    ----------
    name : str
    outputs : tuple of int
        Indices of outputs, 0-based.
    weights : tuple of float
        One for each output.
    """

    name: str
    outputs: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.outputs or len(self.outputs) != len(self.weights):
            raise ValueError(
                f"track {self.name!r} has {len(self.outputs)} outputs and {len(self.weights)} weights; "
                "expected one weight for each of at least one output"
            )

    @property
    def key(self) -> str:
        """The output's index for a single output of weight 1, else the name; names may not be unique."""
        return str(self.outputs[0]) if self.weights == (1.0,) else self.name

    def to_json(self) -> dict[str, Any]:
        """Return the track as a plain dict."""
        return {"name": self.name, "outputs": list(self.outputs), "weights": list(self.weights)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Track":
        """Return the track that `to_json` made a dict of."""
        return cls(
            str(fields["name"]),
            tuple(int(output) for output in fields["outputs"]),
            tuple(float(weight) for weight in fields["weights"]),
        )


def read_track_names(path: str | Path) -> tuple[str, ...]:
    """Return the names of a model's outputs, one a line of a text file: line i (0-based) names output i.

    Names may repeat; blank lines at the end are ignored.

    Raises
    ------
    TrackError
        If the file cannot be read, is not text, holds no name, or has a blank line before its last name.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TrackError(
            f"cannot read the track names {str(path)!r}: {error.strerror}; expected a text file"
        ) from None
    except UnicodeDecodeError:
        raise TrackError(f"{str(path)!r} is not text; expected the outputs' names, one a line") from None
    if "\0" in text:
        raise TrackError(f"{str(path)!r} is not text; expected the outputs' names, one a line")
    names = [line.strip() for line in text.rstrip().split("\n")]
    if names == [""]:
        raise TrackError(f"{str(path)!r} holds no name; expected the outputs' names, one a line")
    blank = [number for number, name in enumerate(names, start=1) if not name]
    if blank:
        raise TrackError(
            f"{str(path)!r} has a blank line, number {blank[0]} ({len(blank)} in all); expected a name for "
            "every output, in order; remove the line, or name the output"
        )
    return tuple(names)


def match_outputs(spec: str, n_outputs: int, names: Sequence[str] | None = None) -> list[int]:
    """Return the outputs that a selection names, in its order, each once.

    Parameters
    ----------
    spec : str
        Comma-separated: an index (``267``), an inclusive range (``300-309``), a name, a glob of names
        (``*CTCF*``), or ``all``. Digits, and digits-digits, are never names. A name or glob selects every
        output that it fits, in upper or lower case; but a text that is a name to the letter selects that
        name only, and is not read as a glob.
    n_outputs : int
    names : sequence of str, optional
        Name of every output, repeats allowed.

    Raises
    ------
    TrackError
        If any part selects nothing; all such parts are named.
    """
    chosen: dict[int, None] = {}
    faults = []
    parts = [part for part in (part.strip() for part in spec.split(",")) if part]
    for part in parts:
        try:
            chosen.update(dict.fromkeys(_match_part(part, n_outputs, names)))
        except TrackError as error:
            faults.append(str(error))
    if not parts:
        faults.append(f"{spec!r} selects no track; expected an index, a range, a name, a glob or 'all'")
    if faults:
        raise TrackError(" | ".join(faults))
    return list(chosen)


def select_tracks(
    spec: str | None, n_outputs: int, names: Sequence[str] | None = None, groups: Sequence[str] = ()
) -> tuple[Track, ...]:
    """Return a track for every selected output, then one for every group, the mean of its outputs.

    Parameters
    ----------
    spec : str or None
        See `match_outputs`; None if there are only groups.
    n_outputs : int
    names : sequence of str, optional
        Name of every output; by default ``output_0``, ``output_1`` and so on.
    groups : sequence of str
        ``NAME=SPEC`` each.

    Raises
    ------
    TrackError
        If nothing is selected, a selection or group cannot be used, two groups share a name, or there are
        not as many names as outputs. All faults are named.
    """
    shown = output_names(n_outputs, names)
    if spec is None and not groups:
        raise TrackError("no track was selected; expected a selection such as 267 or *CTCF*, or a group")
    tracks: list[Track] = []
    faults: list[str] = []
    try:
        outputs = [] if spec is None else match_outputs(spec, n_outputs, names)
        tracks += [Track(shown[i], (i,), (1.0,)) for i in outputs]
    except TrackError as error:
        faults.append(str(error))
    taken: set[str] = set()
    for group in groups:
        try:
            tracks.append(_group_track(group, n_outputs, names, taken))
        except TrackError as error:
            faults.append(str(error))
    faults += [
        f"output {key} is selected more than once; a group of one output is that output; leave one out"
        for key, count in Counter(track.key for track in tracks).items()
        if count > 1
    ]
    if faults:
        raise TrackError(" | ".join(faults))
    return tuple(tracks)


def track_table(pattern: str | None, names: Sequence[str]) -> list[tuple[int, str]]:
    """Return index and name of the outputs that fit a glob, or else contain a text, in either case.

    Without a pattern, all of them. Brackets are common in names, so a glob that fits nothing is tried as a
    plain text.
    """
    folded = (pattern or "").casefold()
    found = _fitting(folded, [name.casefold() for name in names])
    return [(i, names[i]) for i in found] or [
        (i, name) for i, name in enumerate(names) if folded in name.casefold()
    ]


def output_names(n_outputs: int, names: Sequence[str] | None) -> Sequence[str]:
    """Return a name for every output: those given, or ``output_0``, ``output_1`` and so on.

    Raises
    ------
    TrackError
        If there are not as many names as outputs.
    """
    if names is None:
        return [f"output_{i}" for i in range(n_outputs)]
    if len(names) != n_outputs:
        raise TrackError(
            f"{len(names):,} track names were given for a model with {n_outputs:,} outputs; expected one "
            "name for each; give the list that belongs to these weights"
        )
    return names


def _match_part(part: str, n_outputs: int, names: Sequence[str] | None) -> list[int]:
    """Return the outputs of one part of a selection."""
    if part == "all":
        return list(range(n_outputs))
    match = _RANGE.fullmatch(part)
    if match:
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise TrackError(f"{part!r} ends before it starts; expected first-last; swap the two numbers")
        if last >= n_outputs:
            raise TrackError(f"{part!r} is out of range; expected an index in 0-{n_outputs - 1}")
        return list(range(first, last + 1))
    if names is None:
        raise TrackError(
            f"{part!r} is no index, and the outputs have no names here; expected an index in "
            f"0-{n_outputs - 1}; give the names with --track-names"
        )
    return _match_names(part, names)


def _match_names(part: str, names: Sequence[str]) -> list[int]:
    """Return the outputs whose name a part of a selection is or fits, or raise TrackError."""
    found = _named(part, names)
    if found:
        return found
    if _GLOB_SIGNS & set(part):
        raise TrackError(
            f"{part!r} fits no track name; expected a glob such as '*CTCF*'; see 'tism-scan tracks'"
        )
    near = nearest(part, names)
    hint = f"expected a name such as {', '.join(map(repr, near))}" if near else "no name is near"
    raise TrackError(
        f"{part!r} is no track name; {hint}; see 'tism-scan tracks', or use a glob such as '*CTCF*'"
    )


def _named(part: str, names: Sequence[str]) -> list[int]:
    """Return the positions of the names that are `part`, or else are it, or fit it, in either case."""
    exact = [i for i, name in enumerate(names) if name == part]
    return exact or _fitting(part.casefold(), [name.casefold() for name in names])


def nearest(part: str, names: Sequence[str]) -> list[str]:
    """Return the names that are spelled most like `part`, five at most."""
    spelling = {name.casefold(): name for name in names}
    return [spelling[name] for name in difflib.get_close_matches(part.casefold(), spelling, n=5)]


def _fitting(pattern: str, names: Sequence[str]) -> list[int]:
    """Return the positions of the names that are equal to a pattern, or else fit it as a glob."""
    return [i for i, name in enumerate(names) if name == pattern] or [
        i for i, name in enumerate(names) if fnmatchcase(name, pattern)
    ]


def _group_track(group: str, n_outputs: int, names: Sequence[str] | None, taken: set[str]) -> Track:
    """Return the track of one ``NAME=SPEC``, and add its name to those taken."""
    name, sign, spec = (part.strip() for part in group.partition("="))
    if not (name and sign and spec):
        raise TrackError(f"{group!r} is no group; expected NAME=SPEC, such as CTCF=*CTCF*")
    if name.isdecimal():
        raise TrackError(f"group {name!r} is named like an output's index; expected a word; rename it")
    if name in taken:
        raise TrackError(f"two groups are named {name!r}; expected names that differ; rename one")
    taken.add(name)
    try:
        outputs = tuple(match_outputs(spec, n_outputs, names))
    except TrackError as error:
        raise TrackError(f"group {name!r}: {error}") from None
    return Track(name, outputs, (1 / len(outputs),) * len(outputs))


def choose_tracks(tracks: Sequence[Track], spec: str | None) -> list[int]:
    """Return the positions of the tracks that a selection fits, in the store's order.

    Parameters
    ----------
    tracks : sequence of Track
        The store's tracks.
    spec : str or None
        Comma-separated output indices, and names and globs as in `match_outputs`; None fits all.

    Raises
    ------
    TrackError
        If a part of the selection fits no track of the store; the nearest names are listed.
    """
    if spec is None:
        return list(range(len(tracks)))
    chosen: set[int] = set()
    faults = []
    names, position_of = [track.name for track in tracks], {track.key: i for i, track in enumerate(tracks)}
    for part in filter(None, map(str.strip, spec.split(","))):
        found = [position_of[part]] if part in position_of else _named(part, names)
        if not found:
            near = ", ".join(map(repr, nearest(part, names) or names[:3]))
            faults.append(f"{part!r} fits no track of the store; expected a name such as {near}")
        chosen.update(found)
    if faults or not chosen:
        raise TrackError(" | ".join(faults) or f"{spec!r} chooses no track; give indices, names or globs")
    return sorted(chosen)
