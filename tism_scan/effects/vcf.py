"""Exact scores of variants as fields of a VCF's INFO, each record else as it was."""

from collections.abc import Iterator, Sequence

import numpy as np

from tism_scan.effects.haplotypes import REASONS
from tism_scan.effects.results import NO_MATCH, Results
from tism_scan.effects.tables import MISSING, kinds_of, origin_of, texts
from tism_scan.plan.labels import names_apart, one_line
from tism_scan.plan.parts import PartsPlan
from tism_scan.variants.naming import info_ids
from tism_scan.variants.records import header_with, info_with, quoted

QUANTITY = "EFFECT"
_OWN = ("REFMISMATCH", "N", "REASON")
MISMATCH, N_IN_WINDOW, REASON = (f"{QUANTITY}_{name}" for name in _OWN)
_LONGEST_NAME = 500
_ABOUT = {
    "REF": "on the reference window",
    "ALT": "on the window with ALT",
    "DIFF": "on the window with ALT, less that on the reference; negative where ALT lowers it",
    "LOG2FC": "as log2 of the probability with ALT over that on the reference",
}


def header(lines: Sequence[bytes], plan: PartsPlan) -> bytes:
    """Return a file's header with ours in it."""
    scoring = plan.scoring
    origin = ",".join(f'{key}="{quoted(text)}"' for key, text in origin_of(plan).items())
    ours = [f"##tism_scan=<ID=variants,{origin}>"]
    for name, track_name in zip(_ids(plan), names_apart(scoring.tracks), strict=True):
        called = quoted(one_line(track_name, _LONGEST_NAME))
        ours += [
            f"##INFO=<ID={name}_{kind.upper()},Number=A,Type=Float,Description="
            f'"Output {called} {_ABOUT[kind.upper()]}">'
            for kind in kinds_of(has_log2fc=plan.options["log2fc"])
        ]
    ours += [
        f'##INFO=<ID={MISMATCH},Number=0,Type=Flag,Description="REF is not the genome\'s">',
        f"##INFO=<ID={N_IN_WINDOW},Number=A,Type=Integer,Description="
        '"Bases of the reference window that are N or past the end of the chrom">',
        f'##INFO=<ID={REASON},Number=A,Type=String,Description="Why there is no score">',
    ]
    return b"".join([*header_with(lines, ours), lines[-1]])


class RecordWriter:
    """Puts results into records, which are those of their alleles, in the same order.

    Parameters
    ----------
    plan : PartsPlan
    """

    def __init__(self, plan: PartsPlan) -> None:
        self._kinds = kinds_of(has_log2fc=plan.options["log2fc"])
        self._keys = [f"{name}_{kind.upper()}" for name in _ids(plan) for kind in self._kinds]
        self._own = frozenset(key.encode() for key in (*self._keys, MISMATCH, N_IN_WINDOW, REASON))

    def record(self, line: bytes, alleles: Sequence[tuple[Results, int]]) -> bytes:
        """Return a record with the results of its alleles; each is given as a row of some results."""
        fields = line.rstrip(b"\n").split(b"\t", 8)
        added = list(self._added(alleles)) if fields[4].strip() not in (b".", b"") else []
        fields[7] = info_with(fields[7], added, self._own)
        return b"\t".join(fields) + b"\n"

    def _added(self, alleles: Sequence[tuple[Results, int]]) -> Iterator[bytes]:
        rows = [np.stack([getattr(each, kind)[i] for kind in self._kinds], axis=1) for each, i in alleles]
        columns = zip(*(texts(row.ravel()) for row in rows), strict=True)
        for key, column in zip(self._keys, columns, strict=True):
            if any(text != MISSING for text in column):
                yield f"{key}={','.join('.' if text == MISSING else text for text in column)}".encode()
        counts = [int(each.n_in_window[i]) for each, i in alleles]
        if any(count >= 0 for count in counts):
            yield f"{N_IN_WINDOW}={','.join('.' if n < 0 else str(n) for n in counts)}".encode()
        if any(each.ref_match[i] == NO_MATCH for each, i in alleles):
            yield MISMATCH.encode()
        reasons = [REASONS[each.reason[i]] for each, i in alleles]
        if any(reasons):
            shown = (reason.replace(" ", "_").replace(",", "") or "." for reason in reasons)
            yield f"{REASON}={','.join(shown)}".encode()


def _ids(plan: PartsPlan) -> tuple[str, ...]:
    return info_ids(plan.scoring.tracks, QUANTITY, _OWN)
