"""A small genome with planted motifs, a small Beluga that knows them, and the script that trained it.

The command that scans it is in `tism_scan.cli.demo`; nothing else depends on this package.
"""
