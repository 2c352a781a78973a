"""What is asked for: tracks, windows, cores and blocks, which number, and the whole identity of a scan.

Values and arithmetic only: nothing here reads a genome, loads a model or writes a file, and
none of it needs torch.
"""

from tism_scan.plan.methods import MethodSettings
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.selection import Selection
from tism_scan.plan.tiling import Block, Lattice
from tism_scan.plan.tracks import Track, read_track_names, select_tracks

__all__ = [
    "Block",
    "Lattice",
    "MethodSettings",
    "ScanPlan",
    "Scoring",
    "Selection",
    "Track",
    "read_track_names",
    "select_tracks",
]
