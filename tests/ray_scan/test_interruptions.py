"""Scans of a tiny genome that are interrupted at random, as a state machine."""

import errno
import functools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ray_workers import CodesEngine
from serial_scans import scan_with
from small_plans import tracks_of
from stored import whole_objects

from tism_scan.errors import StorageFullError
from tism_scan.genome.fasta import Genome
from tism_scan.plan import scan_plan as plan_module
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.scan.execution import Execution
from tism_scan.scan.verify import verify_store
from tism_scan.store.score_store import ScoreStore

CHROMS = {"chr1": "GATTACANNNacgt" * 9, "../up": "ACGTN" * 7, "s": "A"}
SYSTEM_CALLS = ("fsync", "replace", "link", "unlink", "mkdir")


class Killed(BaseException):
    """The process ends here; nothing of it may run any more."""


class NoisyEngine(CodesEngine):
    """Gives each base a score that depends on nothing but where it stands."""

    def score(self, codes, stretch, wanted):
        scores = super().score(codes, stretch, wanted)
        return scores + np.arange(stretch.block.start, stretch.block.end, dtype=np.float32) / 1024


class Interruptions(RuleBasedStateMachine):
    """A store that is scanned, killed, filled up, damaged and verified, in any order."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))  # it syncs much
        self.was_harmed = False
        self.patches = pytest.MonkeyPatch()

    @initialize(
        block_cores=st.integers(1, 9),
        n_tracks=st.integers(1, 3),
        tracks_per_shard=st.integers(1, 3),
        first=st.integers(0, 100),
    )
    def plan_a_scan(self, block_cores, n_tracks, tracks_per_shard, first):
        fasta = self.root / "genome.fa"
        fasta.write_text("".join(f">{chrom}\n{sequence}\n" for chrom, sequence in CHROMS.items()))
        self.genome = Genome(fasta)
        self.patches.setattr(plan_module, "SHARD_BYTES", tracks_per_shard * 4 * 6 * block_cores)
        wanted = {"chr1": ((first, 126),), "../up": ((0, 5), (20, 35)), "s": ((0, 1),)}
        scoring = Scoring(tracks_of(n_tracks), 24, 6)
        self.plan = ScanPlan(scoring, "genome", "weights", dict(self.genome.chroms), wanted, 6 * block_cores)
        self.engine = NoisyEngine(n_tracks)
        whole = ScoreStore.create(self.root / "whole.zarr", self.plan)
        scan_with(self.genome, self.engine, whole)
        self.whole = whole_objects(whole.path)
        self.path = self.root / "scores.zarr"

    def scan(self):
        # What is killed here is this very process, which would seem to hold the lease still.
        execution = Execution(break_lock=True)
        store = ScoreStore.create(self.path, self.plan, break_lock=True)
        scan_with(self.genome, self.engine, store, execution=execution)

    @rule(call=st.sampled_from(SYSTEM_CALLS), n_calls=st.integers(0, 60), after=st.booleans())
    def kill_it_at_a_system_call(self, call, n_calls, after):
        """End the process before or after one of its calls; none of its clean-up is carried out."""
        left, original, is_dead = n_calls, {name: getattr(os, name) for name in SYSTEM_CALLS}, False

        def counted(name, *arguments, **keywords):
            nonlocal left, is_dead
            if is_dead:
                raise Killed
            is_dead = name == call and left == 0
            left -= name == call
            if is_dead and not after:
                raise Killed
            done = original[name](*arguments, **keywords)
            if is_dead:
                raise Killed
            return done

        with pytest.MonkeyPatch.context() as patch:
            for name in SYSTEM_CALLS:
                patch.setattr(os, name, functools.partial(counted, name))
            try:
                self.scan()
            except Killed:
                return

    @rule(n_calls=st.integers(0, 60))
    def fill_the_disk(self, n_calls):
        left, fsync = n_calls, os.fsync

        def full(descriptor):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", full)
            try:
                self.scan()
            except StorageFullError:
                return

    @precondition(lambda self: self.path.exists())
    @rule(draw=st.data(), how=st.sampled_from(["flip", "cut", "empty", "remove"]))
    def harm_an_object(self, draw, how):
        keys = sorted(key for key in whole_objects(self.path) if "/c/" in key)
        if not keys:
            return
        path = self.path / draw.draw(st.sampled_from(keys))
        content = bytearray(path.read_bytes())
        if how == "flip" and content:
            i_bit = draw.draw(st.integers(0, 8 * len(content) - 1))
            content[i_bit // 8] ^= 1 << i_bit % 8
        elif how == "cut":
            del content[draw.draw(st.integers(0, len(content))) :]
        elif how == "empty":
            content.clear()
        path.write_bytes(content) if how != "remove" else path.unlink()
        self.was_harmed = True

    @precondition(lambda self: (self.path / ".scan/run.json").exists())
    @rule()
    def verify(self):
        verify_store(self.path, full=True, break_lock=True)
        self.was_harmed = False

    @rule()
    def finish(self):
        if (self.path / ".scan/run.json").exists():
            verify_store(self.path, full=True, break_lock=True)
        self.was_harmed = False
        self.scan()
        assert whole_objects(self.path) == self.whole
        assert list(ScoreStore.open(self.path).pending()) == []

    @invariant()
    def finished_blocks_read_back_right(self):
        if self.was_harmed or not hasattr(self, "path") or not (self.path / ".scan/run.json").exists():
            return
        store = ScoreStore.open(self.path)
        done = store.done_blocks()
        for block in store.plan.all_blocks():
            if (block.chrom, block.i_block) in done:
                for address in store.addresses(block):
                    key = store.shard_key(address)
                    assert (self.path / key).read_bytes() == self.whole[key]

    def teardown(self):
        self.patches.undo()
        if hasattr(self, "genome"):
            self.genome.close()
        shutil.rmtree(self.root)


TestInterruptions = Interruptions.TestCase
TestInterruptions.settings = settings(max_examples=6, stateful_step_count=10, deadline=None)


@pytest.mark.slow
class TestMoreInterruptions(Interruptions.TestCase):
    settings = settings(max_examples=25, stateful_step_count=10, deadline=None)

    @pytest.fixture(autouse=True)
    def _often(self, is_full_dose):
        if not is_full_dose:
            pytest.skip("a few are tried above, more with --dose full")
