"""Records with their scores, as text: fields of a VCF's INFO, columns of a table, and what heads them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tism_scan.plan.labels import one_line
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import path_text
from tism_scan.variants.alleles import ScoredBatch
from tism_scan.variants.files import Layout
from tism_scan.variants.naming import PHRED, mismatch_id, quantity_of
from tism_scan.version import __version__

Ranks = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Return the PHRED of each TISM of one track."""

_ID = re.compile(rb"##(?:INFO|tism_scan)=<ID=([^,>]+)")
_LONGEST_NAME = 500
SIGN = "negative where the substitution lowers the output"


@dataclass(frozen=True)
class Field:
    """The scores of one track in a file.

    Attributes
    ----------
    id : str
    name : str
        The track's.
    ranks : Ranks or None
    background : str
        What PHRED is a rank among, and among how many; empty without.
    """

    id: str
    name: str
    ranks: Ranks | None = None
    background: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the scores, and of their PHRED if there is one."""
        return (self.id,) if self.ranks is None else (self.id, self.id + PHRED)


def header_lines(plan: ScanPlan, fields: Sequence[Field]) -> list[str]:
    """Return the lines that tell a file's readers what its scores are, without line ends."""
    scoring, quantity = plan.scoring, quantity_of(plan)
    own, change = "annotate", "about the change"
    if plan.selection is not None:
        own, change = "annotate_ism", "the change"
    about = (
        f'##tism_scan=<ID={own},Version="{__version__}",Store="{plan.digest()}",'
        f'Model="{quoted(plan.model)}",Output="{scoring.output_space}",Stitch="{scoring.stitch}",'
        f'Strands="{scoring.strands}",Path="{path_text(scoring.path)}",Sign="{SIGN}">'
    )
    lines = [about]
    for field in fields:
        name = quoted(one_line(field.name, _LONGEST_NAME))
        lines.append(
            f"##INFO=<ID={field.id},Number=A,Type=Float,Description="
            f'"{quantity} of track {name}: {change} of the {scoring.output_space} if ALT replaces the '
            f"base of the store's genome; {SIGN}\">"
        )
        if field.ranks is not None:
            lines.append(
                f"##INFO=<ID={field.id}{PHRED},Number=A,Type=Float,Description="
                f'"-10 log10(rank / N) of the magnitude of {field.id} among {field.background}">'
            )
    lines.append(
        f"##INFO=<ID={mismatch_id(plan)},Number=0,Type=Flag,Description="
        f'"REF is not the base of the store\'s genome: {quantity} of REF is not 0">'
    )
    return lines


def merged_header(header: Sequence[bytes], layout: Layout, plan: ScanPlan, fields: Sequence[Field]) -> bytes:
    """Return a file's header with ours in it; what an earlier annotation said under the same names goes."""
    lines, names = header_with(header, header_lines(plan, fields)), header[-1]
    if layout.kind == "TSV":
        columns = [*(key for field in fields for key in field.keys), mismatch_id(plan)]
        names = names.rstrip(b"\n") + b"\t" + "\t".join(columns).encode() + b"\n"
    return b"".join([*lines, names])


def header_with(header: Sequence[bytes], lines: Sequence[str]) -> list[bytes]:
    """Return a header with some lines of ours in place of those of the same ids; but for its last line."""
    ours = [line.encode() + b"\n" for line in lines]
    own = {found[1] for found in map(_ID.match, ours) if found}
    theirs = [line for line in header[:-1] if not ((found := _ID.match(line)) and found[1] in own)]
    return [*theirs, *ours]


def record_lines(scored: ScoredBatch, layout: Layout, plan: ScanPlan, fields: Sequence[Field]) -> bytes:
    """Return a batch's records with their scores, each line as it was but for these."""
    columns = [texts for i, field in enumerate(fields) for texts in _values(scored, i, field)]
    if layout.kind == "TSV":
        flags = [b"1" if flag else b"0" for flag in scored.is_mismatch.tolist()]
        rows = zip(scored.fields, zip(*columns, flags, strict=True), strict=True)
        return b"".join(b"\t".join([*row, *(text or b"." for text in texts)]) + b"\n" for row, texts in rows)
    keys = [key.encode() for field in fields for key in field.keys]
    flag = mismatch_id(plan).encode()
    own = frozenset([*keys, flag])
    lines = []
    for row, texts, is_mismatch in zip(
        scored.fields, zip(*columns, strict=True), scored.is_mismatch.tolist(), strict=True
    ):
        added = [key + b"=" + text for key, text in zip(keys, texts, strict=True) if text]
        if is_mismatch:
            added.append(flag)
        row[7] = info_with(row[7], added, own)
        lines.append(b"\t".join(row))
    lines.append(b"")
    return b"\n".join(lines)


def info_with(info: bytes, added: Sequence[bytes], own: frozenset[bytes]) -> bytes:
    """Return an INFO with some fields added; those of our own names that were there go."""
    parts = [] if info in (b".", b"") else info.split(b";")
    return b";".join([*(part for part in parts if part.partition(b"=")[0] not in own), *added]) or b"."


def _values(scored: ScoredBatch, i_track: int, field: Field) -> list[list[bytes]]:
    """Return the text of each record for each column of a track: a number for each allele, or a dot."""
    records = [i for i, codes in enumerate(scored.codes) for _ in codes]
    codes = [code for codes in scored.codes for code in codes]
    values = scored.tism[i_track, np.array(codes, dtype=np.int64), np.array(records, dtype=np.int64)]
    tables = [b"%.6g"], [values]
    if field.ranks is not None:
        tables[0].append(b"%.2f")
        tables[1].append(field.ranks(values))
    columns = []
    for form, numbers in zip(*tables, strict=True):
        texts = [
            form % number if code >= 0 else b"." for number, code in zip(numbers.tolist(), codes, strict=True)
        ]
        columns.append(_joined(texts, scored.codes))
    return columns


def _joined(texts: list[bytes], codes: Sequence[Sequence[int]]) -> list[bytes]:
    """Return the texts of each record's alleles with commas between; empty for a record without any."""
    if len(texts) == len(codes) and all(len(each) == 1 for each in codes):
        return texts
    joined, i = [], 0
    for each in codes:
        joined.append(b",".join(texts[i : i + len(each)]))
        i += len(each)
    return joined


def quoted(text: str) -> str:
    """Return a text as it stands between the quotes of a VCF's header."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
