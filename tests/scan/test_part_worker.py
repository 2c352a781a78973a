"""The scan's loop on the parts of a list, in this process."""

import os
import signal

import pytest

from tism_scan.errors import ScanError
from tism_scan.genome.fasta import Genome
from tism_scan.models.source import ModelSource
from tism_scan.plan.parts import PartsPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.scan.part_worker import PartWorker
from tism_scan.scan.serial import scan_serially
from tism_scan.scan.work import Plan
from tism_scan.store.parts import PartStore


class SumWorker(PartWorker[float, list[int], bytes]):
    """Adds up the numbers of a part."""

    def make_engine(self, plan: Plan) -> float:
        return 0.5

    def engine_of(self, model, plan):
        raise NotImplementedError

    def fetch(self, part):
        numbers = self.store.read_input("numbers").split()[part.start : part.end]
        return [int(number) for number in numbers]

    def compute(self, fetched):
        return str(sum(fetched)).encode(), len(fetched)

    def publish(self, part, results):
        self.store.publish(part, results, self.device)


class StoppedWorker(SumWorker):
    """Is interrupted while it computes its first part."""

    def compute(self, fetched):
        os.kill(os.getpid(), signal.SIGINT)
        return super().compute(fetched)


class FailingWorker(SumWorker):
    def compute(self, fetched):
        if 3 in fetched:
            raise ValueError("three")
        return super().compute(fetched)


@pytest.fixture
def work(tmp_path):
    """Return a list of ten numbers in parts of four, and the genome that its plan names."""
    fasta = tmp_path / "g.fa"
    fasta.write_text(">chr1\nGATTACA\n")
    with Genome(fasta) as genome:
        scoring = Scoring((Track("a", (0,), (1.0,)),), 24, 24)
        digest, chroms = genome.digest(), dict(genome.chroms)
    plan = PartsPlan("numbers", 10, 4, scoring, digest, "w" * 64, "none", chroms)
    numbers = " ".join(map(str, range(10))).encode()
    return PartStore.create(tmp_path / "s", plan, [("numbers", numbers)]), fasta, ModelSource("none:none")


def results(store):
    return [content for _, content in store.results()]


def test_parts_are_computed_and_counted_in_the_words_of_the_list(work):
    shown = []
    result = scan_serially(*work, worker_class=SumWorker, on_progress=shown.append)
    assert (result.n_blocks, result.n_bp, result.n_scored) == (3, 10, 10)
    assert {(progress.unit, progress.n_total) for progress in shown} == {("numbers", 10)}
    assert results(work[0]) == [b"6", b"22", b"17"]
    assert scan_serially(*work, worker_class=SumWorker).n_blocks == 0


def test_interrupted_parts_go_on_where_they_were(work):
    result = scan_serially(*work, worker_class=StoppedWorker)
    assert result.was_stopped
    assert [part.i_part for part in work[0].pending()] == [1, 2]
    assert scan_serially(*work, worker_class=SumWorker).n_blocks == 2
    assert results(work[0]) == [b"6", b"22", b"17"]


def test_failing_part_is_recorded_and_the_others_are_computed(work):
    result = scan_serially(*work, worker_class=FailingWorker)
    assert result.failed == {"numbers 1-4": "ValueError: three"}
    assert results(work[0]) == [None, b"22", b"17"]


def test_another_genome_is_refused(work):
    store, fasta, model = work
    other = fasta.with_name("other.fa")
    other.write_text(">chr1\nGATTAC\n")
    with pytest.raises(ScanError, match="does not fit the plan"):
        scan_serially(store, other, model, worker_class=SumWorker)
