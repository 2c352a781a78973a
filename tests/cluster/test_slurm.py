"""cluster/slurm.sbatch, carried out under stand-ins for Slurm's commands that start its steps right here."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from serial_scans import scan_with

from tism_scan.demo.genome import make_genome, write_fasta
from tism_scan.demo.synthesis import OUTPUT_NAMES
from tism_scan.engine.choice import make_engine
from tism_scan.genome.fasta import Genome
from tism_scan.models.beluga import load_beluga
from tism_scan.store.score_store import ScoreStore

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sbatch"

# A step starts its tasks as processes, passes a TERM on to them, and ends with them.
SRUN = """#!/usr/bin/env bash
n=1
while [[ $1 == --* ]]; do
  if [[ $1 == --ntasks=* ]]; then n=${1#*=}; fi
  shift
done
tasks=()
trap 'kill -TERM "${tasks[@]}"' TERM
for ((i = 0; i < n; i++)); do "$@" & tasks+=($!); done
for task in "${tasks[@]}"; do
  while kill -0 "$task" 2>/dev/null; do wait "$task"; done
done
"""
SCONTROL = """#!/usr/bin/env bash
case "$1 $2" in
  "show hostnames") printf 'localhost\\nlocalhost\\n' ;;
  "show job")
    printf 'JobId=%s JobName=tism-scan\\n   JobState=%s Reason=None\\n   Command=%s\\n' \\
      "$3" "${SLURM_STATE:-RUNNING}" "$SLURM_SCRIPT${SLURM_ENDING-}" ;;
  requeue*) if [[ -e $SLURM_FOLDER/no-requeue ]]; then exit 1; fi; echo "$2" >>"$SLURM_FOLDER/requeued" ;;
esac
"""
SBATCH = """#!/usr/bin/env bash
echo "$*" >>"$SLURM_FOLDER/submitted"
"""
# A scan that ends as it is told to, after finishing so many blocks; and a Ray that only listens.
SCAN = """#!/usr/bin/env bash
blocks=$SLURM_FOLDER/blocks
if [[ $1 == status ]]; then
  if [[ ! -e $blocks ]]; then exit 2; fi
  echo "{\\"total\\": {\\"blocks_done\\": $(<"$blocks")}}"
else
  echo "$*" >>"$SLURM_FOLDER/commands"
  echo $(($(cat "$blocks" 2>/dev/null || echo 0) + SCAN_BLOCKS)) >"$blocks"
  exit "$SCAN_CODE"
fi
"""
RAY = """#!/usr/bin/env python
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if "--head" in sys.argv:
    port = next(int(a.partition("=")[2]) for a in sys.argv if a.startswith("--port="))
    server = socket.create_server(("127.0.0.1", port))
signal.pause()
"""
# The script waits a second for a head that is there in a tenth of it.
SLEEP = """#!/bin/sh
exec /bin/sleep 0.1
"""


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def edited(script, **values):
    """Return the script with lines marked for it edited, as a user does: `name=VALUE`, or `(...)`."""
    for name, value in values.items():
        pattern = rf"^{name}=(\((\n.*?)*?\n\)|[^\n]*# EDIT[^\n]*)$"
        script, n_found = re.subn(pattern, lambda _, line=f"{name}={value}": line, script, flags=re.MULTILINE)
        assert n_found == 1, name
    return script


@pytest.fixture
def job(tmp_path):
    """Return a function that starts the job, with real or stand-in programs in `environment/bin`."""
    programs, environment = tmp_path / "slurm", tmp_path / "environment"
    for folder in (programs, environment / "bin"):
        folder.mkdir(parents=True)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH}.items():
        write_program(programs / name, text)
    write_program(environment / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    started = []

    def start(scan, *, environment=environment, n_nodes=2, n_restarts=0, name="slurm.sbatch", **variables):
        script = tmp_path / name
        values = {"environment": environment, "store": tmp_path / "scores.zarr", "scan": f"({scan})"}
        script.write_text(edited(SCRIPT.read_text(), **values))
        ports = 1 + os.getpid() % 10_000
        settings = {
            "SLURM_JOB_ID": ports,
            "SLURM_JOB_NODELIST": "two-nodes",
            "SLURM_JOB_NUM_NODES": n_nodes,
            "SLURM_CPUS_PER_TASK": 1,
            "SLURM_RESTART_COUNT": n_restarts,
            "SLURM_FOLDER": tmp_path,
            "SLURM_SCRIPT": script,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **variables,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        process = subprocess.Popen(
            ["bash", str(script)],
            cwd=tmp_path,
            env=inherited | {name: str(value) for name, value in settings.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    start.folder, start.bin = tmp_path, environment / "bin"
    yield start
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.communicate()


@pytest.fixture
def quick_job(job):
    """Return a function that carries the job out with a scan that ends as told."""
    for name, text in {"tism-scan": SCAN, "ray": RAY, "sleep": SLEEP}.items():
        write_program(job.bin / name, text)

    def run(code, n_blocks, **settings):
        process = job("--genome g.fa", SCAN_CODE=code, SCAN_BLOCKS=n_blocks, **settings)
        output, _ = process.communicate(timeout=120)
        noted = {
            name: (job.folder / name).read_text().splitlines() if (job.folder / name).exists() else []
            for name in ("requeued", "submitted", "commands")
        }
        return process.returncode, output, noted

    run.folder = job.folder
    return run


def test_complete_scan_ends_the_job(quick_job):
    code, output, noted = quick_job(0, 5)
    assert code == 0, output
    assert "complete: 5 blocks" in output
    assert (noted["requeued"], noted["submitted"]) == ([], [])
    (command,) = noted["commands"]
    assert re.fullmatch(
        r"run --genome g.fa --out \S+/scores.zarr --address 127.0.0.1:\d+ --retry-failed", command
    )


@pytest.mark.parametrize("code", [1, 130])
def test_scan_that_got_on_is_put_back_into_the_queue(quick_job, code):
    returned, output, noted = quick_job(code, 5)
    assert returned == code
    assert len(noted["requeued"]) == 1
    assert "5 blocks finished in this run" in output


@pytest.mark.parametrize("code", [1, 130])
def test_scan_that_finishes_nothing_is_not_repeated(quick_job, code):
    quick_job(code, 5)
    (quick_job.folder / "requeued").unlink()
    returned, output, noted = quick_job(code, 0, n_restarts=1)
    assert returned == code
    assert (noted["requeued"], noted["submitted"]) == ([], [])
    assert "a run that finishes nothing is not repeated" in output


def test_store_that_another_run_writes_is_tried_again_later(quick_job):
    returned, _, noted = quick_job(75, 0)
    assert returned == 75
    assert len(noted["requeued"]) == 1


def test_input_that_cannot_be_used_ends_the_job(quick_job):
    code, _, noted = quick_job(2, 0)
    assert code == 2
    assert (noted["requeued"], noted["submitted"]) == ([], [])


@pytest.mark.parametrize(
    ("name", "ending"), [("slurm.sbatch", ""), ("my scan, v=2.sbatch", " WorkDir=/somewhere")]
)
def test_where_jobs_may_not_be_requeued_a_new_one_goes_on(quick_job, name, ending):
    (quick_job.folder / "no-requeue").touch()
    code, _, noted = quick_job(130, 5, name=name, SLURM_ENDING=ending)
    assert code == 0
    (submitted,) = noted["submitted"]
    assert re.fullmatch(rf"--dependency=afterany:\d+ {quick_job.folder}/{name}", submitted)


@pytest.mark.parametrize(("state", "may_requeue"), [("CANCELLED", True), ("COMPLETING", False)])
def test_job_that_was_cancelled_does_not_come_back(quick_job, state, may_requeue):
    if not may_requeue:
        (quick_job.folder / "no-requeue").touch()
    code, output, noted = quick_job(1, 5, SLURM_STATE=state)  # its nodes, and so its cluster, were ended
    assert code == 1
    assert (noted["requeued"], noted["submitted"]) == ([], [])
    assert f"the job is {state}, so it is not repeated" in output


def test_head_that_does_not_start_is_told_of(job, quick_job):
    write_program(job.bin / "ray", "#!/bin/sh\nexit 1\n")
    code, output, noted = quick_job(0, 5)
    assert code == 1
    assert "Ray's head does not start; see ray-head-" in output
    assert noted["commands"] == []


def n_done(store):
    return len(list((store / ".scan" / "done").glob("*")))


def wait_for_blocks(process, store, n_blocks):
    deadline = time.monotonic() + 180
    while n_done(store) < n_blocks:
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"no block was finished: {process.communicate()[0]}")
        time.sleep(0.05)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_job_that_meets_its_time_limit_goes_on_in_the_next_to_the_same_bits(job):
    folder, store = job.folder, job.folder / "scores.zarr"
    write_fasta(folder / "genome.fa", make_genome())
    weights = files("tism_scan.demo") / "demo_beluga.pth"
    scan = (
        f"--genome {folder / 'genome.fa'} --weights {weights} --tracks {OUTPUT_NAMES.index('CTCF')} "
        f"--region chr1:1-81920 --block-bp 4096 --stage-genome {folder / 'node'}"
    )
    settings = {"environment": sys.prefix, "OMP_NUM_THREADS": 1}

    process = job(scan, **settings)
    wait_for_blocks(process, store, 3)
    children = psutil.Process(process.pid).children(recursive=True)
    assert sum("raylet" in child.name() for child in children) == 2
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 130, output
    assert "back in the queue" in output
    assert 3 <= n_done(store) < 20
    _, alive = psutil.wait_procs(children, timeout=60)
    assert [child for child in alive if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []

    process = job(scan, n_restarts=1, **settings)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert "complete: 20 blocks" in output
    assert len(list((folder / "node").rglob("genome.fa"))) == 1

    made = ScoreStore.open(store)
    alone = ScoreStore.create(folder / "alone.zarr", made.plan)
    torch.set_num_threads(1)
    with Genome(folder / "genome.fa") as genome:
        scan_with(genome, make_engine(load_beluga(weights), made.plan.scoring), alone)
    scores, expected = (each.read_track("chr1", 0, 81_920, 0) for each in (made, alone))
    np.testing.assert_array_equal(scores.view(np.uint32), expected.view(np.uint32))
