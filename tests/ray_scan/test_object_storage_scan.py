"""Scans into object storage, as a user runs them, killed and resumed while the service fails."""

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pybigtools
import pytest
import zarr
from command_line import WEIGHTS, tism_scan
from object_server import BUCKET
from racers import acquire_often, race
from scan_models import TRACKS, plan_of
from sequences import random_sequence
from serial_scans import scan_with

from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import LeaseError, TismScanError
from tism_scan.genome.fasta import Genome
from tism_scan.models.source import ModelSource
from tism_scan.plan.scoring import Scoring
from tism_scan.scan.worker import BlockWorker, WorkerSetup
from tism_scan.storage.places import file_place
from tism_scan.store.lease import Lease
from tism_scan.store.ledger import DONE, RUN_KEY
from tism_scan.store.score_store import ScoreStore
from tism_scan.store.status import store_status

NAMES = "CTCF\nGATA1\nAP-1\nNRF1\nETS\nREST\naccessible\n"
FAULTS = {"errors": 0.08, "slow": 0.08, "lost answers": 0.08}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, object_server):
    """Return the folder of a genome; weights and names of tracks are in the bucket."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "genome.fa").write_text(
        f">chr1\n{random_sequence(19_000, 1)}NNN\n>chr2\n{random_sequence(900, 2)}\n"
    )
    boto = object_server.boto()
    boto.put_object(Bucket=BUCKET, Key="inputs/demo_beluga.pth", Body=WEIGHTS.read_bytes())
    boto.put_object(Bucket=BUCKET, Key="inputs/names.txt", Body=NAMES.encode())
    return folder


@pytest.fixture
def start(inputs, object_server, tmp_path):
    """Return a function that starts ``tism-scan``; what it leaves running is ended, by number."""
    started, below = [], []
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_"))
    }
    environment |= object_server.environment | {"COLUMNS": "200", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def start_command(*arguments):
        command = [sys.executable, "-m", "tism_scan", *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        started.append(process)
        return process

    def kill(process):
        below.extend(psutil.Process(process.pid).children(recursive=True))
        process.kill()
        process.communicate()

    start_command.kill, start_command.environment = kill, environment
    yield start_command
    for process in started:
        if process.poll() is None:
            kill(process)
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def finish(start):
    """Return a function that runs ``tism-scan`` to its end."""

    def run(*arguments, code=0, **settings):
        done = tism_scan(*arguments, environment=start.environment, **settings)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


def scan_of(inputs, out):
    place = f"s3://{BUCKET}/inputs"
    return [
        *("run", "--genome", inputs / "genome.fa", "--weights", f"{place}/demo_beluga.pth"),
        *("--track-names", f"{place}/names.txt", "--tracks", "CTCF,1", "--block-bp", 2048, "--actors", 1),
        *("--out", out),
    ]


def n_marked(server, prefix):
    found = server.boto().list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/{DONE}/")
    return found["KeyCount"]


def without_lease(objects):
    """Return objects but for those that name a process; of the record, the plan without what was typed."""
    kept = {key: content for key, content in objects.items() if "/lease/" not in key and "/probe/" not in key}
    return kept | {RUN_KEY: json.loads(kept[RUN_KEY])["plan"]}


def local_objects(path):
    return without_lease(
        {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    )


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_scan_that_is_killed_and_resumed_equals_the_local_store_to_the_bit(
    inputs, start, finish, server, prefix, tmp_path, is_full_dose
):
    finish(*scan_of(inputs, tmp_path / "local.zarr"), is_without_ray=True)
    chance, n_kills = random.Random(prefix), 0
    for i_scan in range(5 if is_full_dose else 1):
        place = f"{prefix}/{i_scan}"
        with server.failing(shares=FAULTS, slow_s=0.3, chance=random.Random(i_scan)) as faults:
            for _ in range(4 if is_full_dose else 1):
                driver = start(*scan_of(inputs, f"s3://{BUCKET}/{place}"))
                n_wanted = n_marked(server, place) + chance.randrange(1, 3)
                while driver.poll() is None and n_marked(server, place) < n_wanted:
                    time.sleep(0.05)
                if driver.poll() is None:
                    time.sleep(chance.uniform(0, 0.2))
                    start.kill(driver)
                    n_kills += driver.returncode == -signal.SIGKILL
            told = finish(*scan_of(inputs, f"s3://{BUCKET}/{place}"))
        assert f" export {shlex.quote(f's3://{BUCKET}/{place}')} --out {i_scan}_bigwig" in told
        assert faults.counts.total() > 5
        assert without_lease(server.objects(place)) == local_objects(tmp_path / "local.zarr")
        assert "no damage" in finish("verify", f"s3://{BUCKET}/{place}", "--full")
    assert n_kills == (20 if is_full_dose else 1)

    assert store_status(f"s3://{BUCKET}/{place}")["is_complete"]
    finish("export", f"s3://{BUCKET}/{place}", "--out", tmp_path / "bw", "--tracks", "1")
    with pybigtools.open(str(tmp_path / "bw/0001_GATA1.bw")) as bigwig:
        values = bigwig.values("chr1", 0, 19_003, fillna=np.nan).astype(np.float32)
    assert np.array_equal(values, zarr.open_group(tmp_path / "local.zarr")["chr1"][1], equal_nan=True)


def test_bad_places_get_one_line_and_exit_code_2(inputs, finish, prefix):
    told = finish(*scan_of(inputs, "s3://nowhere/x"), code=2)
    assert told.startswith("Error: there is no bucket 'nowhere'")
    assert told.count("\n") == 1
    told = finish(*scan_of(inputs, "az://x/y"), "--weights", f"s3://{BUCKET}/absent.pth", code=2)
    assert told.startswith("Error: 'az://x/y' cannot be used; expected a folder, s3://bucket/prefix")
    told = finish(*scan_of(inputs, f"s3://{BUCKET}/{prefix}"), "--genome", f"s3://{BUCKET}/g.fa", code=2)
    assert "is a URL; expected a FASTA file under a path that every machine can read" in told
    assert told.count("\n") == 1


# In this process


@pytest.fixture
def scoring():
    return Scoring(TRACKS, 24, 6)


@pytest.fixture
def chroms(tiny_genome):
    with Genome(tiny_genome) as genome:
        return {name: genome.fetch(name, 0, length) for name, length in genome.chroms.items()}


@pytest.fixture
def remote(server, prefix, chroms, scoring):
    return ScoreStore.create(f"s3://{BUCKET}/{prefix}", plan_of(scoring, chroms, block_bp=60))


def test_flipped_bit_is_found_by_verify_and_mended_by_the_next_scan(
    tiny_genome, tiny_model, remote, server, prefix, finish
):
    engine = WindowEngine(tiny_model, remote.plan.scoring)
    with Genome(tiny_genome) as genome:
        scan_with(genome, engine, remote)
        whole = without_lease(server.objects(prefix))
        block = next(remote.plan.all_blocks())
        key = remote.shard_key(remote.addresses(block)[0])
        remote.folder.put(key, bytes([whole[key][0] ^ 1]) + whole[key][1:])

        assert "no damage" in finish("verify", remote.path)  # a listing tells sizes only
        told = finish("verify", remote.path, "--full", code=1)
        assert f"{block} is damaged: {key} has CRC-32" in told
        assert "1 block is damaged, and pending again" in told
        assert list(remote.pending()) == [block]

        scan_with(genome, engine, remote)
    assert "no damage" in finish("verify", remote.path, "--full")
    assert without_lease(server.objects(prefix)) == whole


def test_serial_scan_equals_the_local_store_to_the_bit_while_the_service_fails(
    tiny_genome, tiny_model, remote, server, prefix, tmp_path
):
    engine = WindowEngine(tiny_model, remote.plan.scoring)
    local = ScoreStore.create(tmp_path / "s.zarr", remote.plan)
    with Genome(tiny_genome) as genome:
        scan_with(genome, engine, local)
        with server.failing(shares=FAULTS, slow_s=0.05) as faults:
            scan_with(genome, engine, remote)
    assert faults.counts.total() > 3
    assert without_lease(server.objects(prefix)) == local_objects(local.path)


@pytest.mark.faults
def test_of_several_drivers_at_once_one_takes_the_store(server, prefix, is_full_dose):
    n_rounds = 50 if is_full_dose else 5
    won = race(acquire_often, 3, f"s3://{BUCKET}/{prefix}", n_rounds)
    assert sorted(i_round for rounds in won.values() for i_round in rounds) == list(range(n_rounds))


def test_second_driver_does_not_enter_a_store_that_is_being_written(tiny_genome, tiny_model, remote):
    engine = WindowEngine(tiny_model, remote.plan.scoring)
    with (
        Lease(remote.folder).acquire(),
        Genome(tiny_genome) as genome,
        pytest.raises(LeaseError, match="is being written by process"),
    ):
        scan_with(genome, engine, ScoreStore.open(remote.path))


@pytest.fixture
def setup(inputs, server, prefix, monkeypatch, tmp_path):
    """Return what a worker needs, its store and weights in the bucket."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = file_place(f"s3://{BUCKET}/inputs/demo_beluga.pth")
    source = ModelSource(weights=weights)
    with Genome(inputs / "genome.fa") as genome:
        chroms = {name: genome.fetch(name, 0, length) for name, length in genome.chroms.items()}
        digest = genome.digest()
    plan = plan_of(Scoring(TRACKS, 2000, 256), chroms, block_bp=2048)
    plan = replace(plan, genome_digest=digest, weights_digest=source.identity()[1])
    store = ScoreStore.create(f"s3://{BUCKET}/{prefix}", plan)
    return WorkerSetup(store.path, inputs / "genome.fa", source.absolute(), plan.digest(), None)


def test_worker_reads_its_weights_from_the_bucket_and_publishes_there(setup):
    worker = BlockWorker(setup)
    worker.start_on_node()
    block = next(worker.store.pending())
    worker.process(block)
    assert (block.chrom, block.i_block) in ScoreStore.open(setup.store).done_blocks()


def test_weights_are_read_once_per_node(setup, server):
    for _ in range(2):
        BlockWorker(setup).start_on_node()
    asked_for = [path for _, path, _ in server.requests if path.endswith("demo_beluga.pth")]
    assert len(asked_for) == 1  # by what made the plan, on this very node


def test_worker_without_the_bucket_or_its_keys_names_its_node(setup, monkeypatch, server):
    node = os.uname().nodename
    with (
        server.failing(wrong_credentials=True),
        pytest.raises(TismScanError, match=rf"^on node {node}: s3://.* with these credentials"),
    ):
        BlockWorker(setup).start_on_node()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(TismScanError, match=rf"^on node {node}: there are no credentials for s3://"):
        BlockWorker(setup).start_on_node()


def test_worker_refuses_other_weights_at_the_same_url(setup, server, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another node"))
    key = setup.model.weights.key
    server.boto().put_object(Bucket=BUCKET, Key=key, Body=b"other weights")
    try:
        with pytest.raises(
            TismScanError, match=r"^on node .* s3://.*pth holds another file than when the scan"
        ):
            BlockWorker(setup).start_on_node()
    finally:
        server.boto().put_object(Bucket=BUCKET, Key=key, Body=WEIGHTS.read_bytes())
