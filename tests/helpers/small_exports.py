"""Folders as `tism-scan export` leaves them, without the work of an export."""

from pathlib import Path

from small_plans import small_plan

from tism_scan.browser import TrackFile, write_browser_files
from tism_scan.plan.scan_plan import ScanPlan


def track_file(path, name="CTCF", limit=0.5, **numbers):
    return TrackFile(
        Path(path),
        name,
        limit,
        **({"minimum": -1.5, "maximum": 2.5, "total": 7.25, "n_bases": 900} | numbers),
    )


def exported_folder(folder, plan: ScanPlan | None = None, names=("CTCF", "GATA1"), **options):
    """Return a folder with the browsers' files of some tracks, and a few bytes in place of each bigWig."""
    folder.mkdir(exist_ok=True)
    files = [track_file(folder / f"{i:04d}_track.bw", name) for i, name in enumerate(names)]
    for file in files:
        file.path.write_bytes(bytes(range(256)) * 4)
    write_browser_files(folder, files, plan or small_plan(), {"torch": "2.6"}, **options)
    return folder
