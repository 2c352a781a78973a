"""Small disks for tests that fill them or cut them off."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def mounted(source, target, *options):
    """Mount something, or skip the test where that is not allowed."""
    target.mkdir(exist_ok=True)
    tried = subprocess.run(["mount", *options, source, target], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"nothing may be mounted here: {tried.stderr.strip()}")
    try:
        yield target
    finally:
        subprocess.run(["umount", "--lazy", target], check=True)
