"""Work on a list, such as variants or peaks, in parts of consecutive items: its whole identity."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tism_scan.errors import PlanError
from tism_scan.plan.probes import Probes
from tism_scan.plan.scoring import Scoring

FORMAT = "parts 1"


@dataclass(frozen=True)
class Part:
    """Consecutive items of a list: what is computed, written and resumed as one unit.

    Attributes
    ----------
    i_part : int
    start, end : int
        Its items, counted from 0, half-open.
    items : str
        What they are, in the plural.
    """

    i_part: int
    start: int = field(compare=False)
    end: int = field(compare=False)
    items: str = field(default="items", compare=False)

    @property
    def size(self) -> int:
        """Number of items."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.items} {self.start + 1:,}-{self.end:,}"


@dataclass(frozen=True)
class PartsPlan:
    """The identity of work on a list: two runs with an equal plan give the same results.

    Attributes
    ----------
    items : str
        What the list is of, in the plural: ``"variants"``.
    n_items, items_per_part : int
    scoring : Scoring
        Tracks, windows and strands.
    genome_digest, weights_digest : str
        SHA-256 of the two files.
    model : str
        Name of the network.
    chroms : dict of str to int
        Every chrom of the genome and its length.
    options : dict
        What else the results depend on, as JSON: above all the digest of the list.
    probes : Probes or None
        What the model computes on two fixed windows; beside the identity, since rounding changes it.
    """

    items: str
    n_items: int
    items_per_part: int
    scoring: Scoring
    genome_digest: str
    weights_digest: str
    model: str
    chroms: Mapping[str, int]
    options: Mapping[str, Any] = field(default_factory=dict)
    probes: Probes | None = field(default=None, compare=False, repr=False)

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return -(-self.n_items // self.items_per_part)

    def parts(self) -> Iterator[Part]:
        """Yield the parts in the list's order; together they hold every item once."""
        for i_part in range(self.n_parts):
            start = i_part * self.items_per_part
            yield Part(i_part, start, min(start + self.items_per_part, self.n_items), self.items)

    def with_probes(self, probes: Probes) -> "PartsPlan":
        """Return the same plan, with what the model computes on two fixed windows."""
        return replace(self, probes=probes)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain lists, dicts, strings and numbers; but not the probes."""
        return {
            "format": FORMAT,
            "items": self.items,
            "n_items": self.n_items,
            "items_per_part": self.items_per_part,
            "scoring": self.scoring.to_json(),
            "genome_digest": self.genome_digest,
            "weights_digest": self.weights_digest,
            "model": self.model,
            "chroms": [[name, length] for name, length in self.chroms.items()],
            "options": dict(self.options),
        }

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "PartsPlan":
        """Return the plan that `to_json` described.

        Raises
        ------
        PlanError
            If the description is of another format.
        """
        settings = dict(described)
        found = settings.pop("format", None)
        if found != FORMAT:
            raise PlanError(
                f"the plan has format {found!r}, expected {FORMAT!r}; use the release that wrote it"
            )
        settings["scoring"] = Scoring.from_json(settings["scoring"])
        settings["chroms"] = dict(settings["chroms"])
        return cls(**settings)

    def digest(self) -> str:
        """Return the SHA-256 of the plan's canonical JSON."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def differences(self, other: "PartsPlan") -> list[str]:
        """Return a phrase for each field in which another plan differs: its name and both values."""
        mine, theirs = self._summary(), other._summary()
        shown = {name: (mine.get(name, "nothing"), theirs.get(name, "nothing")) for name in mine | theirs}
        return [f"{name} {one}, not {another}" for name, (one, another) in shown.items() if one != another]

    def _summary(self) -> dict[str, str]:
        """Return each field in a few characters."""
        described = self.to_json()
        del described["format"]
        summary = described.pop("scoring") | described.pop("options") | described
        for name in summary.keys() & {"tracks", "chroms", "names"}:
            text = json.dumps(summary[name])
            summary[name] = f"{len(summary[name]):,} (#{hashlib.sha256(text.encode()).hexdigest()[:8]})"
        return {
            name: value[:12] if name.endswith("digest") else str(value) for name, value in summary.items()
        }
