"""Tracks: outputs of the model, or named weighted groups of them, and how users choose them."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

from tism_scan.errors import TrackError

_RANGE = re.compile(r"([0-9]{1,18})(?: *- *([0-9]{1,18}))?")
_GLOB_SIGNS = frozenset("*?[")
_MOST_SPANS = 8

# Which tracks a user means: "267,*CTCF*", an index, several of these, or none named.
TrackChoice = str | int | Sequence[str | int] | None


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
    def is_output(self) -> bool:
        """Whether this is a single output of weight 1, and no group."""
        return self.weights == (1.0,)

    @property
    def key(self) -> str:
        """The output's index for a single output of weight 1, else the name; names may not be unique."""
        return str(self.outputs[0]) if self.is_output else self.name

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


def match_outputs(spec: TrackChoice, n_outputs: int, names: Sequence[str] | None = None) -> list[int]:
    """Return the outputs that a selection names, in its order, each once.

    Parameters
    ----------
    spec : str, int, or sequence of these
        Comma-separated: an index (``267``), an inclusive range (``300-309``), a name, a glob of names
        (``*CTCF*``), or ``all``. Digits, and digits-digits, are never names. A name or glob selects every
        output that it fits, in upper or lower case; but a text that is a name to the letter, commas and all,
        selects that name only, and is not read as a glob.
    n_outputs : int
    names : sequence of str, optional
        Name of every output, repeats allowed.

    Raises
    ------
    TrackError
        If any part selects nothing; all such parts are named.
    """
    return _Listed("the model", {i: i for i in range(n_outputs)}, names).positions(spec)


def choose_tracks(tracks: Sequence[Track], spec: TrackChoice) -> list[int]:
    """Return the positions of the tracks of a store that a selection names, in the store's order.

    Parameters
    ----------
    tracks : sequence of Track
        The store's tracks.
    spec : str, int, sequence of these, or None
        As in `match_outputs`: a number is the index of the model's output, not the track's position in the
        store. None chooses all.

    Raises
    ------
    TrackError
        If any part selects nothing, or outputs that the store lacks; all such parts are named.
    """
    if spec is None:
        return list(range(len(tracks)))
    outputs = {track.outputs[0]: i for i, track in enumerate(tracks) if track.is_output}
    groups = {track.name: i for i, track in enumerate(tracks) if not track.is_output}
    listed = _Listed("the store", outputs, [track.name for track in tracks], groups)
    return sorted(listed.positions(spec))


def is_one(spec: TrackChoice) -> bool:
    """Return whether a selection is one text or number, and not several of them, or none."""
    return isinstance(spec, str) or not (spec is None or isinstance(spec, Iterable))


def select_tracks(
    spec: TrackChoice, n_outputs: int, names: Sequence[str] | None = None, groups: Sequence[str] = ()
) -> tuple[Track, ...]:
    """Return a track for every selected output, then one for every group, the mean of its outputs.

    Parameters
    ----------
    spec : str, int, sequence of these, or None
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


@dataclass(frozen=True)
class _Listed:
    """What a selection chooses from: the outputs of a model, or the tracks of a store.

    Attributes
    ----------
    whose : str
        "the model" or "the store".
    position_of : mapping from int to int
        Where each output is, by its index.
    names : sequence of str or None
        By position.
    groups : mapping from str to int
        Where each group of outputs is, by its name.
    """

    whose: str
    position_of: Mapping[int, int]
    names: Sequence[str] | None
    groups: Mapping[str, int] = field(default_factory=dict)

    def positions(self, spec: TrackChoice) -> list[int]:
        """Return the positions that a selection names, in its order, each once, or raise TrackError."""
        chosen: dict[int, None] = {}
        faults = []
        parts = list(self._parts(spec))
        for part in parts:
            try:
                chosen.update(dict.fromkeys(self._of_part(part)))
            except TrackError as error:
                faults.append(str(error))
        if not parts:
            faults.append(f"{spec!r} selects no track; expected an index, a range, a name, a glob or 'all'")
        if faults:
            raise TrackError(" | ".join(faults))
        return list(chosen)

    def _parts(self, spec: TrackChoice) -> Iterator[str]:
        """Yield the parts of a selection, without the blanks around them."""
        names = frozenset(self.names or ())
        several = spec if isinstance(spec, Iterable) and not isinstance(spec, str) else [spec]
        for text in map(str, several):
            parts = [text] if text in names else text.split(",")
            yield from filter(None, map(str.strip, parts))

    def _of_part(self, part: str) -> list[int]:
        if part in self.groups:
            return [self.groups[part]]
        if part == "all":
            return list(range(len(self.position_of) + len(self.groups)))
        match = _RANGE.fullmatch(part)
        if match:
            return self._in_range(part, int(match[1]), int(match[2] or match[1]))
        if self.names is None:
            raise TrackError(
                f"{part!r} is no index, and the outputs have no names here; expected {self._indices()}; give "
                "the names with --track-names"
            )
        return _named(part, self.names) or self._refuse_name(part, self.names)

    def _in_range(self, part: str, first: int, last: int) -> list[int]:
        if last < first:
            raise TrackError(f"{part!r} ends before it starts; expected first-last; swap the two numbers")
        for i_output in range(first, last + 1):
            if i_output not in self.position_of:
                raise TrackError(
                    f"{part!r} is out of range: {self.whose} has no output {i_output}; expected "
                    f"{self._indices()}"
                )
        return [self.position_of[i_output] for i_output in range(first, last + 1)]

    def _refuse_name(self, part: str, names: Sequence[str]) -> NoReturn:
        near = ", ".join(map(repr, nearest(part, names)))
        if _GLOB_SIGNS & set(part):
            hint = "a glob such as '*CTCF*'"
        else:
            hint = f"a name such as {near}" if near else f"a name (none is near) or {self._indices()}"
            hint += "; or use a glob such as '*CTCF*'"
        raise TrackError(f"{part!r} fits no track of {self.whose}; expected {hint}; see {self._listing()}")

    def _listing(self) -> str:
        """Return what shows all names."""
        return "`tism-scan tracks`" if self.whose == "the model" else "`tism-scan status`"

    def _indices(self) -> str:
        """Return which indices there are: ``an index in 0-2001``, ``an index in 7,300-309``."""
        ordered = sorted(self.position_of)
        if not ordered:
            return "a name"
        starts = [i for n, i in enumerate(ordered) if not n or ordered[n - 1] != i - 1]
        ends = [i for n, i in enumerate(ordered) if ordered[n + 1 : n + 2] != [i + 1]]
        spans = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
        return f"an index in {','.join(spans[:_MOST_SPANS])}{',...' if len(spans) > _MOST_SPANS else ''}"
