"""What browsers load beside exported bigWigs: hubs, sessions, the page and its server, a README.

It reads no store and writes no bigWig; `tism_scan.export` calls it with what it wrote.
"""

from tism_scan.browser.files import (
    browser_files,
    check_browser_options,
    names_of_browser_files,
    write_browser_files,
)
from tism_scan.browser.shown import TrackFile, known_assembly, track_files

__all__ = [
    "TrackFile",
    "browser_files",
    "check_browser_options",
    "known_assembly",
    "names_of_browser_files",
    "track_files",
    "write_browser_files",
]
