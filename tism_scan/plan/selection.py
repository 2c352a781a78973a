"""Which bases of a scan are refined by exact ISM: chosen once, and kept in the refinement's plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Selection:
    """How the bases of a refinement were chosen; the bases themselves are the plan's `wanted`.

    Attributes
    ----------
    scan : str
        The digest of the scan's plan.
    rule : str
        What was asked for, such as ``"quantile 0.997"``, or ``"bed"`` with the digest of its bases.
    thresholds : tuple of float
        For a quantile, the lowest |score| that was chosen of each track.
    """

    scan: str
    rule: str
    thresholds: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the selection as plain lists, strings and numbers."""
        return {"scan": self.scan, "rule": self.rule, "thresholds": list(self.thresholds)}

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> "Selection":
        """Return the selection that `to_json` described."""
        return cls(str(described["scan"]), str(described["rule"]), tuple(map(float, described["thresholds"])))
