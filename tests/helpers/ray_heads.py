"""Ray's nodes, started as users start them."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from drivers import driver_environment

RAY = Path(sys.executable).with_name("ray")


class Head:
    """A head with a node of its own, whose processes all name one folder.

    Parameters
    ----------
    folder : str
        Ray's sockets lie below it, and their paths must be short.
    ip : str
    n_cpus : int
    prefix : sequence of str
        What runs the commands elsewhere, such as ``ip netns exec NAME``.
    """

    def __init__(self, folder, *, ip="127.0.0.1", n_cpus=2, prefix=()):
        self.folder, self.ip, self.n_cpus, self.prefix = folder, ip, n_cpus, prefix
        self.port = 20_000 + os.getpid() % 10_000
        self.address = f"{ip}:{self.port}"

    def start(self):
        arguments = ["--head", f"--port={self.port}", f"--node-ip-address={self.ip}"]
        arguments += [f"--num-cpus={self.n_cpus}", f"--temp-dir={self.folder}", "--include-dashboard=false"]
        ray_start(self.prefix, *arguments)

    def kill(self):
        """Kill the head and every node of it on this machine."""
        for process in psutil.process_iter(["cmdline"]):
            if f"{self.folder}/" in " ".join(process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)


def ray_start(prefix, *arguments):
    """Start a node in the background."""
    command = [*prefix, RAY, "start", "--object-store-memory=100000000", *arguments]
    started = subprocess.run(
        command, capture_output=True, text=True, env=driver_environment(), check=False, timeout=120
    )
    assert started.returncode == 0, started.stdout + started.stderr


@contextlib.contextmanager
def started_head(**settings):
    """Yield a head that was started, and kill it in the end."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        head = Head(folder, **settings)
        try:
            head.start()
            yield head
        finally:
            head.kill()
