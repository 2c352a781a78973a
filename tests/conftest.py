"""What several test modules share."""

import logging
import os
import signal
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from scan_models import ScanModel, smooth_model
from sequences import random_sequence
from serial_scans import scan_with
from stand_in_weights import load_narrow_beluga
from torch import nn

from tism_scan.demo.genome import make_genome, write_fasta
from tism_scan.demo.synthesis import OUTPUT_NAMES
from tism_scan.engine.choice import make_engine
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import load_beluga, weights_digest
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.plan.scoring import Scoring
from tism_scan.plan.tracks import select_tracks
from tism_scan.store.score_store import ScoreStore

# For every Ray that a test starts, in this process or a child: no calls home, no tokens on loopback.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
# Tests that a script starts in the background ignore Ctrl-C, and so would the programs that they stop by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
# The models here are small, and threads that wait for a busy core cost more than they bring.
torch.set_num_threads(1)


# The files that take longest, longest first: workers begin with these, and what is left for the end is short,
# so that all of them end together. A file is one worker's. Every other pair starts no Ray, so that few start
# at once.
BEGUN_FIRST = [
    "ray_scan/test_ray_scan",
    "ray_scan/test_cluster_scan",
    "faults/test_failing_calls",
    "scan/test_packed_scan",
    "faults/test_nodes",
    "tests/test_executors",
    "browser/chromium/test_page_zoom",
    "browser/chromium/test_page",
    "ray_scan/test_object_storage_scan",
    "ray_scan/test_drivers",
    "cli/test_cli_attribute",
    "engine/test_gpu_launches",
    "cli/test_cli_verify",
    "cluster/test_slurm",
    "scan/test_estimate",
    "store/test_takeover",
    "faults/test_kills",
    "faults/test_hosts",
    "tests/test_walls",
    "engine/test_trunk_engine",
    "cli/test_cli",
    "faults/test_disks",
    "storage/test_object_folder",
    "tests/test_packaging",
    "tests/test_api",
    "ray_scan/test_nodes",
    "cli/test_cli_export",
    "tests/test_security",
    "cli/test_cli_model",
    "faults/test_races",
]


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(BEGUN_FIRST)}
    here = Path(__file__).parents[1]

    def rank(item):
        parts = item.path.relative_to(here).with_suffix("").parts
        return ranks.get("/".join(parts[1:] if len(parts) > 2 else parts), len(ranks))

    items.sort(key=rank)


def pytest_addoption(parser):
    parser.addoption(
        "--dose",
        choices=("small", "full"),
        default="small",
        help="how often tests that break things at random do so: a few times, or as often as is reported",
    )


def pytest_configure(config):
    if config.option.dose == "full" and config.option.markexpr == "not slow":  # which pyproject.toml asks for
        config.option.markexpr = ""


@pytest.fixture
def is_full_dose(request):
    """Return whether the tests that break things were asked to do so often."""
    return request.config.getoption("dose") == "full"


@pytest.fixture(autouse=True)
def unchanged_log():
    """Put the package's log back as it was: the command line, which a test may call here, sets it up."""
    log = logging.getLogger("tism_scan")
    before = log.handlers, log.propagate, log.level
    yield
    log.handlers, log.propagate = before[:2]
    log.setLevel(before[2])


@pytest.fixture(scope="session")
def tiny_genome(tmp_path_factory):
    """Return a FASTA file: lower case, N runs, IUPAC codes, a chrom shorter than any window, an empty one."""
    records = {
        "chr1": random_sequence(150, 1) + "N" * 130 + random_sequence(90, 2).lower() + "RYKMnacgt",
        "chr2": "NNN" + random_sequence(97, 3),
        "short": "GATTACA",
        "empty": "",
    }
    path = tmp_path_factory.mktemp("genome") / "tiny.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records.items() if sequence))
    with path.open("a") as file:
        file.write(">empty\n")
    return path


@pytest.fixture
def tiny_model():
    """Return a smooth model of 24 bp windows and three outputs, channels in Beluga's order."""
    return smooth_model()


@pytest.fixture
def linear_model():
    """Return a model of 24 bp windows whose TISM equals ISM exactly."""
    layer = nn.Linear(96, 3)
    generator = torch.Generator().manual_seed(3)
    layer.weight.data = torch.randn(3, 96, generator=generator)
    return ScanModel(nn.Sequential(nn.Flatten(), layer))


@pytest.fixture(scope="session")
def narrow_beluga_weights(tmp_path_factory):
    """Return the weights file of Beluga's shape with few channels, seed 7."""
    folder = tmp_path_factory.mktemp("weights")
    load_narrow_beluga(7, folder)
    return folder / "narrow_seed7.pth"


@pytest.fixture
def narrow_beluga(tmp_path):
    """Return Beluga's shape of network with few channels."""
    return load_narrow_beluga(7, tmp_path)


@pytest.fixture(scope="session")
def demo_region():
    """Return the part of the demo's genome that `demo_store` scores: chrom and length."""
    return "chr3", 100_000


@pytest.fixture(scope="session")
def demo_genome():
    """Return the demo's genome."""
    return make_genome()


@pytest.fixture(scope="session")
def demo_sites(demo_genome, demo_region):
    """Return the planted motifs of that part: factor, start, end."""
    chrom, length = demo_region
    return [(site.factor, site.start, site.end) for site in demo_genome[chrom].sites if site.end < length]


@pytest.fixture(scope="session")
def demo_fasta(demo_genome, tmp_path_factory):
    """Return the demo's genome as a file."""
    path = tmp_path_factory.mktemp("demo_genome") / "genome.fa"
    write_fasta(path, demo_genome)
    return path


@pytest.fixture(scope="session")
def demo_store(demo_fasta, demo_region, tmp_path_factory):
    """Return a store with the scores of all the demo model's tracks on a part of its genome."""
    weights, (chrom, length) = Path(str(files("tism_scan.demo") / "demo_beluga.pth")), demo_region
    model = load_beluga(weights)
    scoring = Scoring(select_tracks("all", model.n_outputs, OUTPUT_NAMES), model.input_bp)
    with Genome(demo_fasta) as genome:
        wanted = {chrom: ((0, length),)}
        plan = ScanPlan(scoring, genome.digest(), weights_digest(weights), genome.chroms, wanted, 1 << 15)
        store = ScoreStore.create(tmp_path_factory.mktemp("demo_store") / "s.zarr", plan)
        scan_with(genome, make_engine(model, scoring, device="cpu"), store)
    return store


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Return each device in turn; a GPU that is not there is skipped."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return request.param


@pytest.fixture(scope="session")
def object_server():
    from object_server import BUCKET, ObjectServer  # few tests need moto, which takes long to import

    server = ObjectServer()
    server.boto().create_bucket(Bucket=BUCKET)
    yield server
    server.close()


@pytest.fixture
def server(object_server, monkeypatch, tmp_path):
    """Return the server; this process finds it, and its credentials, as a user's does."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no credentials"))
    for name, value in object_server.environment.items():
        monkeypatch.setenv(name, value)
    object_server.requests.clear()
    return object_server


@pytest.fixture
def prefix(request):
    """Return a prefix that no other test uses."""
    return f"a folder/{abs(hash(request.node.nodeid))}"
