"""From a store to bigWigs, the files that browsers load, and seqlets.

The bigWig format itself is in `tism_scan.bigwig`, the page and its server in `tism_scan.browser`.
"""

from tism_scan.export.bigwigs import ExportProgress, export_bigwigs
from tism_scan.export.browsers import describe_export
from tism_scan.export.seqlet_files import write_seqlets

__all__ = ["ExportProgress", "describe_export", "export_bigwigs", "write_seqlets"]
