"""From a store to one bigWig per track."""

from tism_scan.export.exporting import Progress, export_bigwigs
from tism_scan.export.selection import choose_tracks

__all__ = ["Progress", "choose_tracks", "export_bigwigs"]
