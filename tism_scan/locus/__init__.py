"""One locus, or sampled windows: scores by any method, their files and pictures, and how methods agree.

The methods themselves are in `tism_scan.attribution`.
"""

from tism_scan.locus.auditing import audit
from tism_scan.locus.scores import LocusScores, score_region, score_sequence

__all__ = ["LocusScores", "audit", "score_region", "score_sequence"]
