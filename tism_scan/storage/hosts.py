"""Which machine a process runs on, for records that other machines read."""

import os
import platform
from pathlib import Path

import psutil


def this_host() -> str:
    """Return a name for this machine since it was started, and for the container that we are in.

    Containers may share the machine's name and yet number their processes apart, so that a process of one
    would look dead to another.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux; if the clock was set in between, the owner is watched as on another host
        boot, numbering = str(int(psutil.boot_time())), ""
    return f"{platform.node()}#{boot}#{numbering}"
