"""Drivers that are run a step at a time, in any order: a step is one thing that a folder does."""

import contextlib
import threading

from tism_scan.errors import TismScanError
from tism_scan.storage import folder as folder_module
from tism_scan.storage.folder import LocalFolder

PATIENCE_S = 30


class Driver:
    """A function in a thread of its own, which stands still before each step until it is let go on."""

    def __init__(self, run):
        self.n_steps, self.has_ended, self.error = 0, False, None
        self._may_go, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._is_killed = False
        self._thread = threading.Thread(target=self._follow, args=(run,), daemon=True)
        self._thread.start()
        assert self._stands.acquire(timeout=PATIENCE_S)

    def step(self, n_steps):
        """Take so many steps, or fewer if it ends before."""
        for _ in range(n_steps):
            if self.has_ended:
                return
            self.n_steps += 1
            self._may_go.release()
            assert self._stands.acquire(timeout=PATIENCE_S)

    def finish(self):
        """Take all steps that are left, and return how many it took in all."""
        self.step(10_000)
        assert self.has_ended
        return self.n_steps

    def kill(self):
        """Take no step any more."""
        self._is_killed = True
        self._may_go.release()
        self._thread.join(PATIENCE_S)

    def stand(self):
        """Stand still until the next step is asked for, if this is the driver's thread."""
        if threading.current_thread() is self._thread and not self._is_killed:
            self._stands.release()
            self._may_go.acquire()
            if self._is_killed:
                raise SystemExit

    def _follow(self, run):
        try:
            self.stand()
            run()
        except TismScanError as error:
            self.error = error
        finally:
            self.has_ended = True
            self._stands.release()


@contextlib.contextmanager
def stepping(monkeypatch):
    """Yield a function that starts a driver; all are killed in the end."""
    drivers = []

    def stepped(done):
        def step(*arguments, **options):
            for driver in drivers:
                driver.stand()
            return done(*arguments, **options)

        return step

    def start(run):
        drivers.append(Driver(run))
        return drivers[-1]

    with monkeypatch.context() as patched:
        for name in ("_write_partial", "get", "sizes", "remove", "sweep"):
            patched.setattr(LocalFolder, name, stepped(getattr(LocalFolder, name)))
        for name in ("put_in_place", "link_in_place", "_remove_whole"):
            patched.setattr(folder_module, name, stepped(getattr(folder_module, name)))
        yield start
        for driver in drivers:
            driver.kill()
