"""The command line in a process of its own."""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

WEIGHTS = Path(str(files("tism_scan.demo") / "demo_beluga.pth"))


def tism_scan(*arguments, **kwargs):
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "COLUMNS": "200"}
    command = [sys.executable, "-m", "tism_scan", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=200, check=False, **kwargs
    )
