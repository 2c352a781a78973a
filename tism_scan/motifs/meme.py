"""MEME's minimal motif format, as JASPAR and HOCOMOCO offer it.

References
----------
https://meme-suite.org/meme/doc/meme-format.html
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tism_scan.errors import InputError, RegionError
from tism_scan.genome.intervals import summary_of
from tism_scan.genome.lines import text_lines
from tism_scan.motifs.motif import NO_MOTIF, Motif

_EXPECTED = "motifs as MEME text, plain or gzipped"
_MATRIX = "letter-probability matrix"
_WIDTH = re.compile(r"\bw\s*=\s*(\d+)")
_LETTERS = re.compile(r"\balength\s*=\s*(\d+)")
_NO_ROW = re.compile(r"(?!nan|inf)[A-Za-z-]{3,}", re.IGNORECASE)  # such as URL, or what MEME draws
_SUM_TOLERANCE = 0.02  # files round to two digits or more

_Line = tuple[int, str]


def read_meme(path: Path) -> list[Motif]:
    """Return the motifs of a file, in its order: JASPAR's ``MOTIF MA0139.1 CTCF`` is CTCF_MA0139.1.

    Raises
    ------
    InputError
        If the file cannot be read, is of another format or alphabet, or a motif is at fault.
    """
    try:
        lines = [(number, text.strip()) for number, text in text_lines(path, _EXPECTED)]
    except RegionError as error:
        raise InputError(str(error)) from None
    if not any(text for _, text in lines):
        raise InputError(f"{str(path)!r} is empty; expected {_EXPECTED}")
    if not any(text.startswith("MEME version") for _, text in lines):
        raise InputError(f"{str(path)!r} has no line 'MEME version 4'; expected {_EXPECTED}")
    faults: list[str] = []
    motifs: dict[str, tuple[int, Motif]] = {}
    _check_alphabet(lines, faults)
    for part in () if faults else _parts(lines):
        motif = _motif(part, faults)
        if motif is None:
            continue
        if motif.name in motifs:
            first = motifs[motif.name][0]
            faults.append(f"line {part[0][0]}: {motif.name} comes twice, first in line {first}")
        motifs.setdefault(motif.name, (part[0][0], motif))
    if faults:
        raise InputError(f"{str(path)!r} cannot be used as MEME text: {summary_of(faults)}")
    return [motif for _, motif in motifs.values()]


def meme_text(motifs: Sequence[Motif]) -> str:
    """Return motifs as MEME text."""
    head = (
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
        "Background letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n"
    )
    return head + "".join(map(_text_of, motifs))


def _text_of(motif: Motif) -> str:
    rows = "".join(" ".join(f"{p:.6f}" for p in column) + "\n" for column in motif.probabilities.T)
    return f"\nMOTIF {motif.name}\n{_MATRIX}: alength= 4 w= {len(motif)}\n{rows}"


def _check_alphabet(lines: Sequence[_Line], faults: list[str]) -> None:
    for number, text in lines:
        name = text.removeprefix("ALPHABET").lstrip("= ").split(maxsplit=1)
        if text.startswith("ALPHABET") and (not name or name[0].strip('"') not in ("ACGT", "DNA")):
            faults.append(f"line {number}: {text!r} is not the alphabet of DNA; expected 'ALPHABET= ACGT'")


def _parts(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    """Yield the lines of each motif, from that with its name on."""
    part: list[_Line] = []
    for number, text in lines:
        if text.startswith("MOTIF"):
            if part:
                yield part
            part = [(number, text)]
        elif part:
            part.append((number, text))
    if part:
        yield part


def _motif(part: Sequence[_Line], faults: list[str]) -> Motif | None:
    """Return the motif of some lines; None if its name or matrix is at fault."""
    number, text = part[0]
    # What MEME itself wrote before 4.12 is called by a number: MOTIF  1 width =   11  sites =  25
    name = _plain_name([word for word in text.split()[1:3] if word != "width"])
    i_head = next((i for i, (_, text) in enumerate(part) if text.startswith(_MATRIX)), None)
    if not name or i_head is None:
        lack = f"{name} has no line '{_MATRIX}: ...'" if name else "the motif has no name"
        faults.append(f"line {number}: {lack}")
        return None
    if name == NO_MOTIF:
        faults.append(f"line {number}: a motif is named {name!r}, which tables have for no motif; rename it")
        return None
    n_before = len(faults)
    head_number, head = part[i_head]
    letters, width = _LETTERS.search(head), _WIDTH.search(head)
    if letters is not None and int(letters[1]) != 4:
        faults.append(f"line {head_number}: alength= {letters[1]} of {name}; expected 4, for A, C, G and T")
        return None
    rows: list[list[float]] = []
    for row_number, row in part[i_head + 1 :]:
        if not row:
            if rows:
                break
            continue
        if _NO_ROW.match(row):
            break
        rows.append(_row(row_number, row, name, faults))
    if len(faults) > n_before:
        return None
    if not rows or (width is not None and int(width[1]) != len(rows)):
        wanted = f"w= {width[1]}" if width is not None and int(width[1]) else "at least one"
        faults.append(f"line {head_number}: {name} has {len(rows)} rows of probabilities; expected {wanted}")
        return None
    return Motif(name, np.ascontiguousarray(np.array(rows).T))


def _plain_name(words: Sequence[str]) -> str:
    """Return a motif's name from words, the best known last: that one first, without blanks."""
    return "_".join("_".join(reversed(words)).split())


def _row(number: int, text: str, name: str, faults: list[str]) -> list[float]:
    """Return the probabilities of a position, which add up to 1; a fault is said."""
    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        faults.append(f"line {number}: {text!r} of {name} are not all numbers; expected four probabilities")
        return []
    is_sound = len(found) == 4 and all(0 <= p <= 1 for p in found)
    if not is_sound or abs(sum(found) - 1) > _SUM_TOLERANCE:
        faults.append(
            f"line {number}: {text!r} of {name} are no probabilities; expected four that add up to 1"
        )
        return []
    return [p / sum(found) for p in found]
