"""What the tests that break things have in common, and no fixture is needed for."""

import collections
import time


def lines_of_log(store):
    """Return the log beside a store as (event, block, process, node)."""
    path = store.path.parent / "log"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


def repeated_without_reason(lines, depth=2):
    """Return the blocks that were computed again although they were done, and not in flight at any kill.

    A block is in flight when something is killed if it is among the last two that its process has begun:
    the driver may not have heard yet that it is done. Without a kill, only a block that is not done may have
    a second worker, when it is late at the end of a scan.
    """
    last_of_process = collections.defaultdict(lambda: collections.deque(maxlen=depth))
    excused, done, repeated = set(), set(), []
    for event, block, process, *_ in lines:
        if event == "kill":
            excused |= {block for blocks in last_of_process.values() for block in blocks}
        elif event == "done":
            done.add(block)
        else:
            if block in done and block not in excused:
                repeated.append(block)
            excused.discard(block)
            last_of_process[process].append(block)
    return repeated


def wait_until(is_so, patience_s=120.0):
    """Wait until something is so, and return whether it became so in time."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
