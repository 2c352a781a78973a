"""What a scan will take: counts that hold, and sizes that come true."""

import json

import numpy as np
import pytest
from command_line import tism_scan
from scan_models import INPUT_BP, TRACKS, plan_of
from serial_scans import scan_with

from tism_scan.bigwig import write_bigwig
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.genome.alphabet import is_acgt
from tism_scan.genome.fasta import Genome
from tism_scan.plan.scoring import Scoring
from tism_scan.scan.estimate import count_work, estimate_scan
from tism_scan.store.score_store import ScoreStore

RNG = np.random.default_rng(4)


@pytest.fixture
def genome(tmp_path):
    """Return a genome with a long run of N, and codes that are no base."""
    sequence = "".join(RNG.choice(list("ACGT"), 12_000))
    sequence = sequence[:3000] + "N" * 4000 + sequence[7000:11_990] + "RYKMSWNNNN"
    path = tmp_path / "genome.fa"
    path.write_text(f">chr1\n{sequence}\n>chr2\n{sequence[7000:9500]}\n>n\n{'N' * 500}\n")
    with Genome(path) as opened:
        yield opened


def plan_for(genome, *, block_bp=3000, wanted=None, **scoring):
    chroms = {name: genome.fetch(name, 0, length) for name, length in genome.chroms.items()}
    return plan_of(Scoring(TRACKS, INPUT_BP, 6, **scoring), chroms, block_bp=block_bp, wanted=wanted)


@pytest.mark.parametrize("stitch", ["center", "mean"])
@pytest.mark.parametrize("wanted", [None, {"chr1": ((2_990, 3_010), (9_000, 9_001)), "n": ((0, 500),)}])
def test_windows_and_bases_are_counted_as_a_scan_computes_them(genome, tiny_model, tmp_path, stitch, wanted):
    plan = plan_for(genome, stitch=stitch, wanted=wanted)
    work = count_work(genome, plan)
    store = ScoreStore.create(tmp_path / "scores.zarr", plan)
    n_scored = scan_with(genome, WindowEngine(tiny_model, plan.scoring, batch_size=16), store).n_scored
    assert work.n_windows == tiny_model.n_windows_seen
    assert work.n_bases == n_scored
    assert work.n_blocks == len(store.done_blocks())


def test_progress_of_counting_adds_up_to_the_blocks(genome):
    plan, seen = plan_for(genome), []
    count_work(genome, plan, on_progress=seen.append)
    n_bp = sum(len(block) for block in plan.all_blocks())
    assert [progress.n_total for progress in seen] == [n_bp] * len(list(plan.all_blocks()))
    assert sorted({progress.n_done for progress in seen})[-1] == n_bp


def test_sample_holds_as_many_bases_to_score_as_its_block_has_in_a_row(genome):
    sample = count_work(genome, plan_for(genome, block_bp=6000)).sample
    assert sample.start % 6 == 0
    assert is_acgt(genome.fetch(sample.chrom, sample.start, sample.end)).all()


@pytest.mark.parametrize("values", ["mean", "tism"])
def test_sizes_come_true_within_a_fifth(genome, tiny_model, tmp_path, values):
    plan = plan_for(genome, values=values)
    engine = WindowEngine(tiny_model, plan.scoring)
    result = estimate_scan(genome, plan, count_work(genome, plan), engine, seconds=0.01)
    store = ScoreStore.create(tmp_path / "scores.zarr", plan)
    scan_with(genome, engine, store)
    shards = [path for path in store.path.rglob("c/*/**/*") if path.is_file()]
    assert result.zarr_objects == len(shards)
    assert result.zarr_bytes == pytest.approx(sum(path.stat().st_size for path in shards), rel=0.2)
    bigwigs = []
    for i_track in range(len(TRACKS)):
        path = tmp_path / f"{i_track}.bw"
        write_bigwig(path, plan.chroms, lambda *place, i=i_track: store.read_track(*place, i))
        bigwigs.append(path.stat().st_size)
    assert result.bigwig_bytes == pytest.approx(sum(bigwigs), rel=0.3)


def test_time_follows_from_a_given_rate(genome, tiny_model):
    plan = plan_for(genome)
    engine, work = WindowEngine(tiny_model, plan.scoring), count_work(genome, plan)
    result = estimate_scan(genome, plan, work, engine, bases_per_s=600.0)
    assert result.windows_per_s == 100
    assert result.seconds == work.n_windows / 100
    assert result.flop == work.n_windows * engine.flop_per_window() > 0


def test_a_scan_of_n_alone_takes_nothing(genome, tiny_model):
    plan = plan_for(genome, wanted={"n": ((0, 500),)})
    work = count_work(genome, plan)
    result = estimate_scan(genome, plan, work, WindowEngine(tiny_model, plan.scoring))
    assert (work.n_windows, work.n_bases, work.sample) == (0, 0, None)
    assert (result.seconds, result.flop, result.zarr_bytes, result.bigwig_bytes) == (0, 0, 0, 0)


def test_plan_takes_the_command_line_of_run(genome, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from tism_scan.models.beluga import Beluga\n"
        "def load(weights=None):\n"
        "    import torch\n"
        "    torch.manual_seed(0)\n"
        "    return Beluga((8, 8, 8, 8, 8, 8), 8, 5)\n"
    )
    options = ["--model", "mine:load", "--genome", str(genome.path), "--tracks", "0,3", "--out", "new.zarr"]

    def planned(*more):
        done = tism_scan("plan", *options, "--seconds", "0.01", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    figures = json.loads(planned("--json", "--gpus", "4"))
    assert figures["seconds_on_all"] == pytest.approx(figures["seconds"] / 4)
    assert figures["n_bases"] == 10_490
    words = planned("--address", "auto", "--actors", "8", "--retry-failed")
    assert "10,490 of 15,000 wanted bases get a score in 2 tracks" in words
    assert f"{figures['n_windows']:,} windows at stride 256" in words
    assert not (tmp_path / "new.zarr").exists()
