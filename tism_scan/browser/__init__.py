"""What stands beside exported bigWigs so that browsers open them well: hubs, sessions, a page, a README."""

from tism_scan.browser.files import check_browser_options, write_browser_files
from tism_scan.browser.shown import TrackFile, known_assembly, track_files

__all__ = ["TrackFile", "check_browser_options", "known_assembly", "track_files", "write_browser_files"]
