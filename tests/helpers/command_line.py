"""The command line in a process of its own."""

import importlib
import io
import os
import pty
import runpy
import select
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from forking import processes

WEIGHTS = Path(str(files("tism_scan.demo") / "demo_beluga.pth"))


def tism_scan(
    *arguments, cwd=None, environment=None, timeout=200, has_fresh_python=False, is_without_ray=False
):
    """Run ``tism-scan`` to its end, as ``subprocess.run`` does; nothing can be typed into it.

    With a fresh Python, nothing was imported before, as if it were typed. Without Ray, `run` computes in its
    own process, by the executor that keeps the same contract: Ray takes ten times as long to start and end.
    """
    words = [str(word) for word in arguments]
    environment = {**(environment or os.environ), "RAY_USAGE_STATS_ENABLED": "0", "COLUMNS": "200"}
    if has_fresh_python:
        return subprocess.run(
            [sys.executable, "-m", "tism_scan", *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
            check=False,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
        )
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"{folder}/stdout", f"{folder}/stderr"]
        given = (words, environment, cwd or os.getcwd(), outputs, is_without_ray)
        process = processes.Process(target=_run, args=given)
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        stdout, stderr = (Path(path).read_text() for path in outputs)
        return subprocess.CompletedProcess(words, process.exitcode, stdout, stderr)


def shown_by(*arguments, cwd):
    """Run ``tism-scan`` on a terminal to its end, and return its exit code and what the terminal showed."""
    words, environment = [str(word) for word in arguments], {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    screen, line = pty.openpty()
    process = processes.Process(target=_run, args=(words, environment, cwd, [os.ttyname(line)] * 2))
    process.start()
    shown = []
    while process.is_alive() or select.select([screen], [], [], 0)[0]:
        if select.select([screen], [], [], 0.02)[0]:
            shown.append(os.read(screen, 65536))
    process.join()
    os.close(line)
    os.close(screen)
    return process.exitcode, b"".join(shown).decode(errors="replace")


def _run(words, environment, folder, outputs, is_without_ray=False):
    """Be ``python -m tism_scan WORDS`` in a process that was forked."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for descriptor, path in enumerate(outputs, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False))  # noqa: SIM115  # for this process's life
    sys.stderr = io.TextIOWrapper(open(2, "wb", 0, closefd=False), write_through=True)  # noqa: SIM115
    sys.path.insert(0, folder)  # as -m does
    sys.argv = ["tism_scan", *words]
    if is_without_ray:
        importlib.import_module("tism_scan.ray_scan.driver").scan_on_ray = _scan_without_ray
    runpy.run_module("tism_scan", run_name="__main__", alter_sys=True)


def _scan_without_ray(*arguments, options, **settings):
    return importlib.import_module("tism_scan.scan.serial").scan_serially(*arguments, **settings)
