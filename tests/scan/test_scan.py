import logging
import time

import numpy as np
import pytest
import torch
import zarr
from ready_engine import ReadyEngine
from scan_models import INPUT_BP, TRACKS, ScanModel, mean_of, naive_scores, plan_of
from serial_scans import scan_with

from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import LeaseError, ScanError, StorageFullError
from tism_scan.genome.alphabet import is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.plan.scoring import Scoring
from tism_scan.scan import serial
from tism_scan.scan.blocks import check_genome, fetch_block, score_block
from tism_scan.scan.claim import finish
from tism_scan.scan.execution import Execution
from tism_scan.store.lease import Lease
from tism_scan.store.score_store import ScoreStore

SCORING = Scoring(TRACKS, INPUT_BP, 6)


@pytest.fixture
def genome(tiny_genome):
    with Genome(tiny_genome) as genome:
        yield genome


@pytest.fixture
def chroms(genome):
    """Return the codes of every chrom."""
    return {name: genome.fetch(name, 0, length) for name, length in genome.chroms.items()}


@pytest.fixture
def store(tmp_path, chroms):
    return ScoreStore.create(tmp_path / "scores.zarr", plan_of(SCORING, chroms, block_bp=60))


def read(store, chrom):
    tracks = range(len(store.plan.scoring.tracks))
    return np.stack([store.read_track(chrom, 0, store.plan.chroms[chrom], i_track) for i_track in tracks])


def assert_close(scores, expected, tolerance=1e-5):
    np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance * np.nanmax(np.abs(expected)))


class NanAfter(torch.nn.Module):
    """Gives NaN from some window on."""

    def __init__(self, body, n_good):
        super().__init__()
        self.body, self.n_good = body, n_good

    def forward(self, X):
        self.n_good -= len(X)
        return self.body(X) * (1 if self.n_good >= 0 else torch.nan)


def test_scan_scores_every_base_as_a_loop_over_all_windows_does(genome, chroms, store, tiny_model):
    scan_with(genome, WindowEngine(tiny_model, SCORING), store)
    for chrom in ("chr1", "chr2", "short"):
        assert_close(read(store, chrom), mean_of(naive_scores(tiny_model, SCORING, chroms[chrom])))


def test_scores_are_missing_exactly_where_a_base_is_not_acgt_or_not_wanted(
    tmp_path, genome, chroms, tiny_model
):
    wanted = {"chr1": ((10, 20), (140, 300)), "short": ((0, 7),)}
    store = ScoreStore.create(tmp_path / "s.zarr", plan_of(SCORING, chroms, wanted=wanted, block_bp=60))
    scan_with(genome, WindowEngine(tiny_model, SCORING), store)
    for chrom, codes in chroms.items():
        is_wanted = np.zeros(len(codes), bool)
        for start, end in wanted.get(chrom, ()):
            is_wanted[start:end] = True
        expected = np.broadcast_to(is_wanted & is_acgt(codes), (2, len(codes)))
        np.testing.assert_array_equal(np.isfinite(read(store, chrom)), expected)


def test_block_size_does_not_change_the_scores(tmp_path, genome, chroms, store, tiny_model):
    engine = WindowEngine(tiny_model, SCORING)
    scan_with(genome, engine, store)
    for block_bp in (6, 1000):
        other = ScoreStore.create(tmp_path / f"{block_bp}.zarr", plan_of(SCORING, chroms, block_bp=block_bp))
        scan_with(genome, engine, other)
        for chrom in ("chr1", "chr2", "short"):
            assert_close(read(other, chrom), read(store, chrom), tolerance=1e-6)


def test_order_of_the_blocks_does_not_change_the_scores(genome, store, tiny_model):
    plan, engine = store.plan, WindowEngine(tiny_model, SCORING)
    forwards = {block: score_block(engine, fetch_block(genome, plan, block)) for block in store.pending()}
    for block in reversed(forwards):
        scores = score_block(engine, fetch_block(genome, plan, block))
        np.testing.assert_array_equal(scores, forwards[block])


def test_all_of_tism_is_stored_in_acgt_order(tmp_path, genome, chroms, tiny_model):
    scoring = Scoring(TRACKS, INPUT_BP, 6, values="tism")
    store = ScoreStore.create(tmp_path / "tism.zarr", plan_of(scoring, chroms))
    scan_with(genome, WindowEngine(tiny_model, scoring), store)
    expected = naive_scores(tiny_model, scoring, chroms["chr2"])
    assert_close(np.asarray(store._array("chr2")[:]), expected)
    assert_close(read(store, "chr2"), mean_of(expected))


def test_scan_counts_the_bases_that_got_a_score(genome, chroms, store, tiny_model):
    n_scored = scan_with(genome, WindowEngine(tiny_model, SCORING), store).n_scored
    assert n_scored == sum(is_acgt(codes).sum() for codes in chroms.values())


def test_each_block_is_reported_and_logged_with_its_interval(genome, store, tiny_model, caplog):
    seen = []
    with caplog.at_level(logging.INFO, logger="tism_scan.scan.serial"):
        scan_with(genome, WindowEngine(tiny_model, SCORING), store, on_progress=seen.append)
    blocks = list(store.plan.all_blocks())
    assert [progress.n_blocks for progress in seen] == list(range(len(blocks) + 1))
    assert [progress.n_total for progress in seen] == [sum(map(len, blocks))] * len(seen)
    assert seen[-1].fraction == 1
    lines = [record.getMessage() for record in caplog.records if record.name == "tism_scan.scan.serial"]
    assert sorted(line.partition(": ")[0] for line in lines) == sorted(map(str, blocks))
    assert any(line.startswith("chr1:1-60: 60 bases in ") for line in lines)


def test_finished_blocks_are_not_computed_again(genome, store, tiny_model):
    engine = WindowEngine(tiny_model, SCORING)

    def stop_after_three(progress):
        if progress.n_blocks == 3:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        scan_with(genome, engine, store, on_progress=stop_after_three)
    assert len(store.done_blocks()) == 3
    n_bp, n_bp_done = (
        sum(map(len, blocks))
        for blocks in (store.plan.all_blocks(), (store.plan.block(*place) for place in store.done_blocks()))
    )
    seen = []
    rest = scan_with(genome, engine, ScoreStore.open(store.path), on_progress=seen.append)
    first, last = seen[0], seen[-1]
    assert (first.n_done, first.n_before, first.n_total) == (n_bp_done, n_bp_done, n_bp)
    assert (last.n_done, last.n_before, last.n_total) == (n_bp, n_bp_done, n_bp)
    assert rest.n_blocks == rest.n_blocks_total == len(list(store.plan.all_blocks())) - 3


def test_finished_store_is_consolidated_and_an_unfinished_one_is_not(genome, store, tiny_model):
    assert not finish(store)
    assert zarr.open_group(store.path, mode="r").metadata.consolidated_metadata is None
    scan_with(genome, WindowEngine(tiny_model, SCORING), store)
    gathered = zarr.open_group(store.path, mode="r").metadata.consolidated_metadata
    assert set(gathered.metadata) == {*store.plan.wanted, "track"}


def test_block_that_failed_is_tried_again_if_asked_and_its_failure_forgotten(genome, store, tiny_model):
    first = next(store.pending())
    store.mark_failed(first, "it was dark", 3)
    engine = WindowEngine(tiny_model, SCORING)
    scan_with(genome, engine, store)
    assert list(store.pending(retry_failed=True)) == [first]
    scan_with(genome, engine, store, execution=Execution(retry_failed=True))
    assert store.ledger.failures() == []
    assert list(store.pending()) == []


def test_nan_from_the_model_names_the_position_and_the_scan_goes_on(genome, store, tiny_model):
    engine = WindowEngine(ScanModel(NanAfter(tiny_model.body, 10)), SCORING, batch_size=1)
    result = scan_with(genome, engine, store)
    assert store.done_blocks() == {("chr1", 0), ("chr1", 3)}  # the first, and the one of N alone
    assert result.n_blocks == 2
    assert len(result.failed) == result.n_blocks_total - 2
    assert result.failed["chr1:61-120"].startswith(
        "the model gives NaN or infinity at chr1:61; check the weights"
    )
    assert {failure.n_attempts for failure in store.ledger.failures()} == {3}


def test_nan_is_no_error_where_no_score_is_due(genome, store, tiny_model):
    class OfNAlone(ReadyEngine):
        def score(self, codes, stretch, wanted):
            own = codes[stretch.block.start - stretch.start :][: len(wanted)]
            return np.where(is_acgt(own), np.float32(1), np.float32(np.nan))[None]

    (block,) = [block for block in store.plan.blocks("chr1") if block.start == 120]
    scores = score_block(OfNAlone(), fetch_block(genome, store.plan, block))
    assert np.isfinite(scores).sum() == 30


def slow_model(body, seconds):
    def forward(X):
        time.sleep(seconds)
        return body(X)

    model = ScanModel(body)
    model.forward = forward
    return model


def test_progress_moves_inside_a_block_that_takes_long(tmp_path, genome, chroms, tiny_model, monkeypatch):
    monkeypatch.setattr(serial, "SHOW_EVERY_S", 0.01)
    wanted = {"chr2": ((0, 60),)}
    store = ScoreStore.create(tmp_path / "s.zarr", plan_of(SCORING, chroms, wanted=wanted, block_bp=60))
    engine = WindowEngine(slow_model(tiny_model.body, 0.04), SCORING, batch_size=1)
    shown = []
    result = scan_with(genome, engine, store, on_progress=lambda progress: shown.append(progress.n_done))
    assert shown == sorted(shown)
    assert len(set(shown)) > 4
    assert shown[-1] == result.n_bp == 60
    assert engine.share_done == 0


def test_scan_that_its_watcher_ends_publishes_nothing_more(genome, store, tiny_model, monkeypatch):
    monkeypatch.setattr(serial, "SHOW_EVERY_S", 0.01)

    def end_it(progress):
        if progress.n_done:
            raise ValueError("enough")

    engine = WindowEngine(slow_model(tiny_model.body, 0.04), SCORING, batch_size=1)
    with pytest.raises(ValueError, match="enough"):
        scan_with(genome, engine, store, on_progress=end_it)
    assert not store.done_blocks()
    assert store.ledger.failures() == []


def test_full_disk_stops_the_scan_and_keeps_what_is_finished(genome, store, tiny_model, monkeypatch):
    publish = ScoreStore.publish_block

    def publish_until_full(store, block, *scores):
        if block.i_block == 2:
            raise StorageFullError("no room left")
        publish(store, block, *scores)

    monkeypatch.setattr(ScoreStore, "publish_block", publish_until_full)
    with pytest.raises(StorageFullError, match="no room left"):
        scan_with(genome, WindowEngine(tiny_model, SCORING), store)
    assert store.done_blocks() == {("chr1", 0), ("chr1", 1)}


@pytest.mark.parametrize("n_bp", [4, 380])
def test_genome_of_another_length_is_refused(tmp_path, store, n_bp):
    chroms = {chrom: n_bp if chrom == "chr1" else length for chrom, length in store.plan.chroms.items()}
    (tmp_path / "other.fa").write_text("".join(f">{chrom}\n{'A' * n}\n" for chrom, n in chroms.items()))
    with (
        Genome(tmp_path / "other.fa") as other,
        pytest.raises(
            ScanError,
            match=rf"other.fa does not fit the plan: chr1 has {n_bp} bp in it, expected 379; put the same",
        ),
    ):
        check_genome(other, store.plan)


def test_block_is_fetched_with_the_sequence_under_its_windows(genome, store):
    first = next(store.plan.blocks("chr2"))
    fetched = fetch_block(genome, store.plan, first)
    stretch = store.plan.stretch(first)
    np.testing.assert_array_equal(fetched.codes, genome.fetch("chr2", stretch.start, stretch.end))
    assert stretch.start == -9
    assert fetched.wanted.all()


def test_serial_scan_does_not_enter_a_store_that_another_process_writes(genome, store, tiny_model):
    with Lease(store.folder).acquire(), pytest.raises(LeaseError, match="is being written by process"):
        scan_with(genome, WindowEngine(tiny_model, SCORING), store)
