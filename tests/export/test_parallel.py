import os
import subprocess
import sys
import time

import pytest

from tism_scan.errors import ScanError
from tism_scan.export.parallel import Workers

SLEEPERS = """
import os, time
from tism_scan.export.parallel import Workers

def make():
    return sleep

def sleep(_):
    print(os.getpid(), flush=True)
    time.sleep(120)

if __name__ == "__main__":
    with Workers(2, make) as workers:
        list(workers.results([1, 2]))
"""


def doubling():
    return lambda task: 2 * task


def dying():
    return os._exit


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_are_in_the_order_of_the_tasks(jobs):
    with Workers(jobs, doubling) as workers:
        assert list(workers.results(range(9))) == list(range(0, 18, 2))


def test_process_that_dies_is_said():
    with Workers(2, dying) as workers, pytest.raises(ScanError, match="a process died, which mostly means"):
        list(workers.results([3]))


def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as driver:
        pids = [int(driver.stdout.readline()) for _ in range(2)]
        driver.kill()
        end = time.monotonic() + 30
        while any(map(is_alive, pids)) and time.monotonic() < end:
            time.sleep(0.05)
    assert not any(map(is_alive, pids))
