"""What a process leaves that is killed while it writes a file."""

import signal
import subprocess
import sys

_WRITER = """
import os, signal, sys
from pathlib import Path
from tism_scan.storage.partials import folder_beside
with folder_beside(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("unfinished")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by_killed_writer(path):
    """Return the folder that a process left beside a file, killed while it wrote it."""
    command = [sys.executable, "-c", _WRITER, str(path)]
    writer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert writer.returncode == -signal.SIGKILL
    left = type(path)(writer.stdout.strip())
    assert left.is_dir()
    return left
