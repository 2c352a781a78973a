import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from functools import partial

import psutil
import pytest
from racers import acquire_often, race

from tism_scan.errors import LeaseError
from tism_scan.storage.folder import LocalFolder
from tism_scan.storage.hosts import this_host
from tism_scan.store import lease as lease_module
from tism_scan.store.lease import LEASE, Lease, Owner, current_owner
from tism_scan.store.ledger import RUN_KEY

ELSEWHERE = "elsewhere#boot#pid:[1]"
# Holds the lease of the folder given until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from tism_scan.storage.folder import LocalFolder
from tism_scan.store.lease import Lease

with Lease(LocalFolder(Path(sys.argv[1]))).acquire():
    print("held", flush=True)
    time.sleep(60)
"""


class OvertakenFolder(LocalFolder):
    """Lets something happen just before its first exclusive put."""

    def __init__(self, root, happen):
        super().__init__(root)
        self.happen = happen

    def put_new(self, key, content):
        happen, self.happen = self.happen, lambda: None
        happen()
        return super().put_new(key, content)


@pytest.fixture
def folder(tmp_path):
    return LocalFolder(tmp_path)


@pytest.fixture
def lease_of(folder):
    """Return a function that makes leases of short times, all released in the end."""
    made = []

    def make(*, host=None, **options):
        lease = Lease(folder, **({"heartbeat_s": 0.05, "stale_s": 0.4} | options))
        if host is not None:
            lease.owner = replace(lease.owner, host=host)
        made.append(lease)
        return lease

    yield make
    for lease in made:
        lease.release()


@pytest.fixture
def holder(folder):
    """Return a process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, folder.root], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def put_owner(folder, owner, generation=1):
    folder.put(f".scan/lease/{generation}.json", json.dumps(asdict(owner)).encode())


def this_process():
    return Owner(this_host(), os.getpid(), lease_module._started(os.getpid()))


def wait_until(is_so, patience_s=10.0):
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_nobody_owns_a_new_store(folder):
    assert current_owner(folder) == (0, None)


def test_acquired_lease_names_its_owner(folder, lease_of):
    lease = lease_of().acquire()
    assert lease.is_held()
    generation, owner = current_owner(folder)
    assert (generation, owner.pid, owner.is_gone(folder)) == (1, os.getpid(), False)


def test_lease_can_be_used_as_a_context_manager(folder, lease_of):
    with lease_of() as lease:
        assert lease.is_held()
    assert current_owner(folder)[1].released


def test_lease_that_was_acquired_is_not_acquired_again_by_with(lease_of):
    with lease_of().acquire() as lease:
        assert lease.generation == 1


def test_live_owner_on_this_host_is_refused_at_once(lease_of):
    lease_of().acquire()
    began = time.monotonic()
    with pytest.raises(LeaseError, match=rf"written by process {os.getpid()} on .*; .* add --break-lock"):
        lease_of(stale_s=60).acquire()
    assert time.monotonic() - began < 5


def test_released_lease_is_free_at_once(lease_of):
    lease_of().acquire().release()
    assert lease_of(stale_s=60).acquire().generation == 2


def test_released_lease_of_another_host_is_free_at_once(lease_of):
    lease_of(host=ELSEWHERE).acquire().release()
    assert lease_of(stale_s=60).acquire().generation == 2


def test_lease_can_be_acquired_again_and_keeps_beating(folder, lease_of):
    lease = lease_of()
    lease.acquire().release()
    lease.acquire()
    n_beats = lease.owner.n_beats
    wait_until(lambda: current_owner(folder)[1].n_beats > n_beats)


def test_releasing_twice_is_harmless(folder, lease_of):
    lease = lease_of().acquire()
    lease.release()
    lease.release()
    assert current_owner(folder) == (1, replace(lease.owner, released=True))


def test_one_of_two_drivers_gets_the_lease_in_each_of_fifty_races(folder):
    won = race(acquire_often, 2, folder.root, 50)
    assert sorted(i_round for rounds in won.values() for i_round in rounds) == list(range(50))


def test_killed_owner_on_this_host_is_taken_over_at_once(holder, lease_of):
    with pytest.raises(LeaseError, match=f"written by process {holder.pid} on"):
        lease_of(stale_s=60).acquire()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert lease_of(stale_s=60).acquire().generation == 2


def test_killed_owner_whose_parent_has_not_noticed_is_taken_over_at_once(holder, lease_of):
    os.kill(holder.pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(holder.pid).status() == psutil.STATUS_ZOMBIE)
    assert lease_of(stale_s=60).acquire().generation == 2


def test_process_is_told_from_an_earlier_one_of_its_number(folder, lease_of):
    earlier = replace(this_process(), started=this_process().started - 3600)
    put_owner(folder, earlier)
    assert earlier.is_gone(folder)
    assert lease_of(stale_s=60).acquire().generation == 2


def test_owner_whose_store_was_moved_is_told_so(folder, lease_of, caplog):
    is_lost = threading.Event()
    lease = lease_of(on_lost=is_lost.set).acquire()
    folder.place.rename(folder.place.with_name("moved"))
    with pytest.raises(LeaseError, match=r"is not there any more: it was moved or deleted.*its new place"):
        lease.tenure.check(folder)
    assert is_lost.wait(20)
    assert "another process" not in caplog.text
    lease.release()


def test_owner_stays_alive_when_the_clock_is_set(folder, monkeypatch):
    owner = this_process()
    create_time, boot_time = psutil.Process.create_time, psutil.boot_time
    ahead_s = 3600
    real = create_time(psutil.Process()), boot_time()
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: real[0] + ahead_s)
    monkeypatch.setattr(psutil, "boot_time", lambda: real[1] + ahead_s)
    assert not owner.is_gone(folder)


def test_owner_stays_alive_when_psutil_remembers_an_earlier_clock(folder, monkeypatch):
    owner = this_process()
    process, noted = psutil.Process, [psutil.boot_time()]
    since_boot_s = process().create_time() - noted[0]
    monkeypatch.setattr(psutil, "boot_time", lambda: noted.append(noted[0] - 3600) or noted[-1])

    def remembering(pid=None):  # as releases before 7 do, when the object is made
        made = process(pid)
        made.create_time = partial(float, since_boot_s + noted[-1])
        return made

    monkeypatch.setattr(psutil, "Process", remembering)
    assert not owner.is_gone(folder)


def test_process_that_may_not_be_looked_at_counts_as_alive(folder, monkeypatch):
    def deny(self):
        raise psutil.AccessDenied(self.pid)

    owner = this_process()
    monkeypatch.setattr(psutil.Process, "status", deny)
    assert not owner.is_gone(folder)


def test_process_of_another_container_is_not_looked_up_here(folder):
    host, boot, _ = this_host().split("#")
    neighbour = Owner(f"{host}#{boot}#pid:[1]", 2**22 + 1, 0.0)
    assert not neighbour.is_gone(folder)


def test_host_has_a_name_where_there_is_no_proc(monkeypatch):
    def fail(*_arguments, **_options):
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", fail)
    assert this_host() == this_host()
    assert str(int(psutil.boot_time())) in this_host()


def test_stale_owner_on_another_host_is_taken_over_after_stale_s(folder, lease_of, caplog):
    put_owner(folder, Owner(ELSEWHERE, 7, 0.0))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        lease_of(stale_s=0.4).acquire()
    assert 0.4 <= time.monotonic() - began < 5
    assert "held by process 7 on elsewhere; waiting up to 0 s for a sign of life" in caplog.text


def test_live_owner_on_another_host_is_refused_at_its_heartbeat(lease_of):
    other = lease_of(host=ELSEWHERE).acquire()
    with pytest.raises(LeaseError, match=r"written by process \d+ on elsewhere; wait for it to end"):
        lease_of(stale_s=60).acquire()
    assert other.is_held()


def test_owner_on_another_host_that_ends_while_watched_is_taken_over(lease_of):
    other = lease_of(host=ELSEWHERE, heartbeat_s=60).acquire()
    threading.Timer(0.2, other.release).start()
    assert lease_of(stale_s=60).acquire().generation == 2


def test_copy_of_a_folder_is_not_held_by_who_holds_the_folder(folder, lease_of, tmp_path_factory):
    lease = lease_of().acquire()
    copied = LocalFolder(shutil.copytree(folder.root, tmp_path_factory.mktemp("copy") / "copied"))
    assert current_owner(copied)[1].is_gone(copied)
    assert not current_owner(folder)[1].is_gone(folder)
    with Lease(copied).acquire() as other:
        assert (other.generation, other.is_held(), lease.is_held()) == (2, True, True)


def test_generations_do_not_restart_when_all_else_is_deleted(folder, lease_of):
    folder.put(RUN_KEY, b"")
    first = lease_of().acquire()
    with lease_of().acquire(break_lock=True) as second:
        second.owned().clear(last=(RUN_KEY,), kept=LEASE)
        assert second.is_held()
    assert (second.generation, first.is_held()) == (2, False)


def test_owner_whose_lease_was_removed_by_hand_is_told_from_the_next_of_its_number(folder, lease_of):
    first = lease_of(heartbeat_s=60).acquire()
    shutil.rmtree(folder.root / ".scan")
    assert not first.is_held()
    second = lease_of(heartbeat_s=60).acquire()
    assert (second.generation, second.is_held(), first.is_held()) == (first.generation, True, False)
    first.release()
    assert second.is_held()


def test_lease_changes_hands_more_often_than_a_digit_counts(lease_of):
    for generation in range(1, 13):
        with lease_of(stale_s=60).acquire() as lease:
            assert lease.generation == generation


def test_lock_that_is_broken_changes_hands(lease_of):
    other = lease_of(host=ELSEWHERE, heartbeat_s=60).acquire()
    assert lease_of().acquire(break_lock=True).is_held()
    assert not other.is_held()


def test_one_of_two_who_break_a_lock_at_once_gets_it(folder, lease_of):
    put_owner(folder, Owner(ELSEWHERE, 7, 0.0))
    slow = Lease(OvertakenFolder(folder.root, lambda: lease_of().acquire(break_lock=True)))
    with pytest.raises(LeaseError, match=f"written by process {os.getpid()}"):
        slow.acquire(break_lock=True)
    assert current_owner(folder)[0] == 2


def test_heartbeats_are_counted_in_the_store(folder, lease_of):
    lease_of().acquire()
    wait_until(lambda: current_owner(folder)[1].n_beats >= 2)


def test_owner_is_told_when_the_lease_is_lost(lease_of):
    lost = threading.Event()
    lease_of(on_lost=lost.set).acquire()
    lease_of().acquire(break_lock=True)
    assert lost.wait(10)


def test_lost_lease_is_not_released_for_its_new_owner(lease_of):
    first = lease_of().acquire()
    second = lease_of().acquire(break_lock=True)
    first.release()
    assert second.is_held()
    assert not current_owner(second.folder)[1].released


def test_heartbeat_outlives_a_fault_of_the_disk(folder, lease_of, monkeypatch, caplog):
    lease_of().acquire()
    with monkeypatch.context() as faulty, caplog.at_level(logging.WARNING):
        faulty.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        wait_until(lambda: "no heartbeat could be written: [Errno 5]" in caplog.text)
    n_beats = current_owner(folder)[1].n_beats
    wait_until(lambda: current_owner(folder)[1].n_beats > n_beats)


def test_heartbeat_mends_a_damaged_record(folder, lease_of):
    lease_of().acquire()
    folder.put(".scan/lease/1.json", b"")
    wait_until(lambda: folder.get(".scan/lease/1.json") != b"")
    assert current_owner(folder)[1].pid == os.getpid()


def test_taker_who_slept_while_the_lease_changed_hands_twice_does_not_get_it(folder, lease_of):
    def change_hands_twice():
        lease_of().acquire().release()
        lease_of().acquire()

    put_owner(folder, replace(this_process(), released=True))
    slow = Lease(OvertakenFolder(folder.root, change_hands_twice))
    with pytest.raises(LeaseError, match="the store is being written by"):
        slow.acquire()
    assert current_owner(folder)[0] == 3


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"7", b"[]", b"{}", b'{"host": "x"}', b'{"host": "x", "pid": "seven"}']
)
def test_damaged_record_is_one_clear_error(folder, lease_of, content):
    folder.put(".scan/lease/4.json", content)
    with pytest.raises(LeaseError, match=r"lease/4\.json is damaged: it names no process; .* --break-lock"):
        lease_of().acquire()


def test_damaged_record_can_be_broken(folder, lease_of):
    folder.put(".scan/lease/4.json", b"")
    assert lease_of().acquire(break_lock=True).generation == 5


@pytest.mark.parametrize("name", ["notes.txt", "²", "9.json.bak", ".9.json", "x.json"])
def test_files_that_are_no_leases_are_passed_over(folder, lease_of, name):
    folder.put(f".scan/lease/{name}", b"x")
    assert current_owner(folder) == (0, None)
    assert lease_of().acquire().generation == 1


def test_old_records_are_cleared_away(folder, lease_of):
    for _ in range(5):
        lease_of().acquire().release()
    assert len(folder.sizes(".scan/lease")) == 1


def test_lease_that_keeps_changing_hands_is_given_up(folder, monkeypatch):
    put_owner(folder, this_process())
    monkeypatch.setattr(folder, "get", lambda key: None)
    with pytest.raises(LeaseError, match="the store's lease keeps changing hands"):
        current_owner(folder)


def test_records_that_a_broken_off_taker_left_are_cleared_away_by_the_next(folder, lease_of):
    ended = replace(lease_of().owner, released=True)
    for generation in (2, 3, 4):
        folder.put(f"{LEASE}/{generation}.json", json.dumps(asdict(ended)).encode())
    lease_of().acquire()
    assert list(folder.sizes(LEASE)) == [f"{LEASE}/5.json"]


def test_lease_that_could_not_be_given_back_in_writing_is_free_for_this_process(
    folder, lease_of, monkeypatch
):
    lease = lease_of().acquire()
    with monkeypatch.context() as full:
        full.setattr(LocalFolder, "_write_partial", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        lease.release()
    assert not current_owner(folder)[1].released
    assert lease_of().acquire().generation == 2


def test_lease_that_could_be_given_back_in_writing_the_second_time_says_so(folder, lease_of, monkeypatch):
    lease, write, faults = lease_of().acquire(), LocalFolder._write_partial, [OSError(28, "full")]

    def failing_once(*arguments):
        if faults:
            raise faults.pop()
        return write(*arguments)

    monkeypatch.setattr(LocalFolder, "_write_partial", failing_once)
    lease.release()
    assert not faults
    assert current_owner(folder)[1].released
