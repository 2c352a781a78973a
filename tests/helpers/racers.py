"""What several processes do at the same moment, to see which of them wins."""

import os
import subprocess
import sys
from pathlib import Path

from forking import processes

from tism_scan.errors import LeaseError
from tism_scan.storage.folder import LocalFolder, open_folder
from tism_scan.store.lease import Lease

PATIENCE_S = 60


def put_new_often(root, i_racer, n_rounds, barrier, wins):
    """Put under one key after another, and report in which rounds this process was told yes."""
    folder = LocalFolder(Path(root))
    won = []
    for i_round in range(n_rounds):
        barrier.wait(PATIENCE_S)
        if folder.put_new(f"{i_round}", b"%d" % i_racer):
            won.append(i_round)
    wins.put((i_racer, won))


def acquire_often(root, i_racer, n_rounds, barrier, wins):
    """Take one lease after another, and report in which rounds this process got it."""
    won = []
    for i_round in range(n_rounds):
        lease = Lease(open_folder(f"{root}/{i_round}"))
        barrier.wait(PATIENCE_S)
        try:
            lease.acquire()
            won.append(i_round)
        except LeaseError:
            pass
        barrier.wait(PATIENCE_S)
        lease.release()
    wins.put((i_racer, won))


def take_over_often(root, i_racer, n_rounds, barrier, wins):
    """As `acquire_often`, but each lease is held by a process that was killed."""
    for i_round in range(i_racer, n_rounds, 2):
        dead = subprocess.Popen([sys.executable, "-c", _HOLD, f"{root}/{i_round}"], stdout=subprocess.PIPE)
        dead.stdout.readline()
        dead.kill()
        dead.communicate()
    acquire_often(root, i_racer, n_rounds, barrier, wins)


_HOLD = """
import sys, time
from pathlib import Path
from tism_scan.storage.folder import LocalFolder
from tism_scan.store.lease import Lease

Lease(LocalFolder(Path(sys.argv[1]))).acquire()
print("held", flush=True)
time.sleep(60)
"""


def _in_environment(environment, run, *arguments):
    """Call a function with the environment of this moment, which the fork server does not have."""
    os.environ.update(environment)
    run(*arguments)


def race(run, n_racers, *arguments):
    """Run a function in several processes, and return who won each round, as lists by racer."""
    barrier, wins = processes.Barrier(n_racers), processes.Queue()
    root, *others = arguments
    racers = [
        processes.Process(
            target=_in_environment, args=(dict(os.environ), run, str(root), i, *others, barrier, wins)
        )
        for i in range(n_racers)
    ]
    for racer in racers:
        racer.start()
    won = dict(wins.get(timeout=PATIENCE_S) for _ in racers)
    for racer in racers:
        racer.join(PATIENCE_S)
        racer.close()
    wins.close()
    wins.join_thread()
    return won
