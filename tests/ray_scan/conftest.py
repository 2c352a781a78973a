"""A scan of real scores that several files interrupt, each in its way, and what it should give."""

import pytest
import torch
from file_scans import plan_of_files, scan_alone
from sequences import random_sequence
from stored import scores_in

from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import Track
from tism_scan.store.score_store import ScoreStore

BELUGA_BP = 6_000
BELUGA_TRACKS = (Track("a", (3,), (1.0,)), Track("g", (1, 7), (0.5, 0.5)))


@pytest.fixture(scope="session")
def beluga_genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(
        f">chr1\n{random_sequence(BELUGA_BP, 4)}NNNNN\n>chr2\n{random_sequence(700, 5).lower()}\n"
    )
    return path


@pytest.fixture(scope="session")
def beluga_plan(beluga_genome, narrow_beluga_weights):
    return plan_of_files(beluga_genome, narrow_beluga_weights, Scoring(BELUGA_TRACKS, 2000, 256), 512)


@pytest.fixture(scope="session")
def serial_scores(beluga_genome, beluga_plan, narrow_beluga_weights, tmp_path_factory):
    """Return the scores that one process computes with one thread, by chrom."""
    store = ScoreStore.create(tmp_path_factory.mktemp("serial") / "scores.zarr", beluga_plan)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    scan_alone(store, beluga_genome, narrow_beluga_weights)
    torch.set_num_threads(n_threads)
    return scores_in(store)


@pytest.fixture
def beluga_store(tmp_path, beluga_plan):
    return ScoreStore.create(tmp_path / "scores.zarr", beluga_plan)
