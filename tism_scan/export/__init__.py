"""From a store to bigWigs, the files that browsers load, rows around peaks, and seqlets.

The bigWig format itself is in `tism_scan.bigwig`, the page and its server in `tism_scan.browser`.
"""

from tism_scan.export.bigwigs import ExportProgress, export_bigwigs
from tism_scan.export.browsers import describe_export
from tism_scan.export.regions import export_regions
from tism_scan.export.row_sources import RegionsRequest
from tism_scan.export.seqlet_files import write_seqlets

__all__ = [
    "ExportProgress",
    "RegionsRequest",
    "describe_export",
    "export_bigwigs",
    "export_regions",
    "write_seqlets",
]
