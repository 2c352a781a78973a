"""What a file from a stranger may not do: write elsewhere, or run code."""

import ast
import os
import pickle
from pathlib import Path

import psutil
import pytest
import ray
import torch
from command_line import WEIGHTS, tism_scan
from small_plans import WEIRD_NAMES, publish, random_scores, small_plan

import tism_scan as package
from tism_scan.export import export_bigwigs
from tism_scan.plan.scan_plan import ScanPlan
from tism_scan.ray_scan.cluster import RayOptions, connected
from tism_scan.store.score_store import ScoreStore

SOURCES = sorted(Path(package.__file__).parent.rglob("*.py"))
# These run another program, given as a list of words: a Python of our own, and npm.
RUN_PROGRAMS = ("pybigwig.py", "igv_js.py")
ESCAPES = ["../../x", "a/b", ".", "..", "/tmp/x", "~", "$(touch x)", "-rf", "x;y", "a\\b"]


def calls_in(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_module_runs_code_from_a_file_or_a_shell(path):
    for call in calls_in(path):
        name, keywords = ast.unparse(call.func), {keyword.arg: keyword.value for keyword in call.keywords}
        assert name not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads")
        assert "shell" not in keywords
        if name.partition(".")[0] == "subprocess":
            assert path.name in RUN_PROGRAMS
        if name == "torch.load":
            assert ast.unparse(keywords["weights_only"]) == "True"
        if name in ("np.load", "numpy.load"):
            assert "allow_pickle" not in keywords


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def save_as_pickle(bomb, path):
    path.write_bytes(pickle.dumps(bomb))


@pytest.mark.parametrize(
    ("save", "command"),
    [
        (torch.save, ["run", "--out", "s.zarr"]),
        (save_as_pickle, ["attribute", "--region", "c", "--out", "x.npz"]),
    ],
    ids=["run", "attribute"],
)
def test_weights_that_would_run_code_are_refused_and_do_not(tmp_path, save, command):
    save({"model.0.0.weight": Bomb(tmp_path / "ran")}, tmp_path / "weights.pth")
    (tmp_path / "genome.fa").write_text(">c\nACGT\n")
    arguments = ["--genome", "genome.fa", "--weights", "weights.pth", "--tracks", "0"]
    result = tism_scan(*command, *arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert not (tmp_path / "ran").exists()


def test_names_of_chroms_and_tracks_never_lead_out_of_the_output_folders(tmp_path):
    chroms = {name: 64 + 2 * i for i, name in enumerate(filter(None, [*WEIRD_NAMES, *ESCAPES[4:]]))}
    plan = small_plan(len(ESCAPES), chroms=chroms)
    described = plan.to_json()
    for i, (track, name) in enumerate(zip(described["scoring"]["tracks"], ESCAPES, strict=True)):
        # Half of them groups, whose files bear no number in front.
        track |= {"name": name} | ({"outputs": [0, 1], "weights": [0.5, 0.5]} if i % 2 else {})
    plan = ScanPlan.from_json(described)
    store = ScoreStore.create(tmp_path / "in/store.zarr", plan)
    publish(store, random_scores(plan))
    store.consolidate()
    # bigWig itself cannot bear every name; the files' own names are what matters here.
    export_bigwigs(store, tmp_path / "in/bigwig", chroms=["chr1", "../../x", "a/b"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    bigwigs = [path for path in files if path.suffix == ".bw"]
    assert len(bigwigs) == len(ESCAPES)
    assert {path.parent for path in bigwigs} == {tmp_path / "in/bigwig"}
    assert all(
        tmp_path / "in/store.zarr" in path.parents or path.parent == tmp_path / "in/bigwig" for path in files
    )


def test_run_on_a_genome_with_odd_names_stays_in_its_folder(tmp_path):
    work = tmp_path / "a/b/work"
    work.mkdir(parents=True)
    names = ["../../x", "a/b", ".", ".."]
    (work / "genome.fa").write_text("".join(f">{name}\n{'GATTACA' * 40}\n" for name in names))
    (work / "names.txt").write_text("../../evil\na/b\n..\n.\n/etc/x\n-\nplain\n")
    arguments = ["--genome", "genome.fa", "--weights", WEIGHTS, "--track-names", "names.txt"]
    arguments += ["--tracks", "0-2", "--group", "../up=3-4"]
    done = tism_scan("run", *arguments, "--actors", "1", "--out", "out/s.zarr", cwd=work, is_without_ray=True)
    assert done.returncode == 0, done.stderr
    assert tism_scan("export", "out/s.zarr", "--out", "out/bw", cwd=work).returncode == 0
    locus = ["attribute", *arguments, "--region", "../../x:1-50", "--out", "out/locus.tsv"]
    assert tism_scan(*locus, cwd=work).returncode == 0
    outside = {path for path in tmp_path.rglob("*") if path.is_file() and work / "out" not in path.parents}
    assert {path.name for path in outside} == {"genome.fa", "genome.fa.fai", "names.txt"}
    assert len(list((work / "out/bw").glob("*.bw"))) == 4


def test_ray_that_is_started_here_has_no_dashboard_and_listens_on_loopback_only():
    """The dashboard's job interface runs what it is sent, and so do Ray's other ports."""
    with connected(RayOptions(n_cpus=1)):
        ray.get(ray.remote(lambda: None).remote())  # so that there is a worker
        this = psutil.Process()
        names = {process.pid: process.name() for process in [this, *this.children(recursive=True)]}
        listening = [
            (connection.laddr, names[connection.pid])
            for connection in psutil.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN and connection.pid in names
        ]
    assert len(listening) > 3
    assert not [(port, name) for (_, port), name in listening if port == 8265 or "ashboard" in name]
    assert {address.removeprefix("::ffff:") for (address, _), _ in listening} <= {"127.0.0.1", "::1"}
