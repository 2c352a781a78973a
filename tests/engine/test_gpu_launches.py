"""What engines with a trunk have a GPU do, seen on tensors without values: without a GPU or times."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths

from tism_scan.engine.trunk_engine import PASSES

HELPERS = Path(__file__).parents[1] / "helpers"
TRACKS = {
    "1 track": [([267], [1.0])],
    "16 tracks": [([i], [1.0]) for i in range(16)],
    "groups": [([3, 5, 9], [0.5, 0.25, 0.25]), ([7], [0.5]), ([8], [1.0])],
}
# Both strands take what one takes, twice; many tracks what a few take, in turn.
CASES = [
    *itertools.product(["1 track"], PASSES, ("center", "mean"), ("forward", "both")),
    *itertools.product(["groups"], PASSES, ("center", "mean"), ("forward",)),
    *itertools.product(["16 tracks"], ("mixed", "split"), ("center", "mean"), ("forward",)),
    ("groups", "mixed", "center", "both"),
    ("groups", "mixed", "center", "probability"),
]
BLOCKS = [{"stitch": "center"}, {"stitch": "mean", "strands": "both", "precision": "mixed"}]
# Of a slab of 4,096 windows of one track: kernels, and MB a window, rounded up. What costs more says why.
FIGURES = {
    "fp32": (146, 9.8),
    "tf32": (146, 9.8),
    "mixed": (154, 8.1),
    "bf16": (151, 5.3),
    "split": (179, 12.1),
    "fp16": (156, 6.6),
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Return what was seen of each case, and of variants whose substitutions are followed in turn."""
    if torch.version.cuda is not None:
        pytest.skip("a build of PyTorch with CUDA has guards of its own, which want a GPU")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None or not (Path(include_paths()[0]) / "c10").is_dir():
        pytest.skip("no C++ compiler, or none of PyTorch's headers: fake tensors cannot be on a GPU")
    guard = tmp_path_factory.mktemp("guard") / "guard.so"
    includes = [f"-I{path}" for path in include_paths()]
    libraries = f"-L{Path(torch.__file__).parent / 'lib'}"
    build = [compiler, "-shared", "-fPIC", "-std=c++20", *includes, str(HELPERS / "fake_gpu.cpp"), libraries]
    built = subprocess.run(
        [*build, "-lc10", "-o", str(guard)], capture_output=True, text=True, check=False, timeout=120
    )
    if built.returncode:
        pytest.skip(f"PyTorch's headers do not compile here: {built.stderr.strip()[-300:]}")
    cases = []
    for tracks, precision, stitch, strands in CASES:
        scoring = {"stitch": stitch, "precision": precision}
        scoring |= {"output_space": strands} if strands == "probability" else {"strands": strands}
        n_windows = 1024 if tracks == "16 tracks" else None  # else there is much to trace
        cases.append(
            {
                "is_block": False,
                "tracks": TRACKS[tracks],
                "scoring": scoring,
                "batch_size": n_windows,
            }
        )
    cases += [{"is_block": True, "scoring": scoring} for scoring in BLOCKS]
    done = subprocess.run(
        [sys.executable, str(HELPERS / "fake_gpu.py"), str(guard)],
        input=json.dumps({"slabs": cases, "variants": [16, 4]}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    slabs = dict(zip([*CASES, *map(str, BLOCKS)], seen["slabs"], strict=True))
    return slabs | {"variants": seen["variants"]}


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_slab_on_a_gpu_waits_for_nothing_and_copies_nothing(traces, case):
    seen = traces[case]
    sys.stdout.write(
        f"{seen['n_windows']} windows: {seen['kernels']} kernels, "
        f"{seen['bytes_per_window'] / 1e6:.1f} MB and {seen['flop_per_window'] / 1e9:.2f} GFLOP a window\n"
    )
    assert (seen["mixed"], seen["copies"], seen["waits"]) == ([], [], [])
    assert seen["turned"] == []  # images that cuDNN would copy in each call
    assert (seen["device"], seen["dtype"]) == ("cuda:0", "torch.float32")
    assert seen["shape"][0] == len(TRACKS[case[0]])
    # The rest is what a slab has before and after its cores, and hidden units that only fill up.
    ratio = seen["flop_per_window"] / seen["flop_of_the_method"]
    most = 3.02 if case[1] == "split" else 1.02  # which multiplies most of the forward pass in three parts
    assert 1 <= ratio < most


@pytest.mark.parametrize("precision", FIGURES)
def test_traffic_and_launches_of_a_window_stay_within_their_figures(traces, precision):
    seen = traces["1 track", precision, "center", "forward"]
    for kilobytes, times, kernel in seen["table"]:
        sys.stdout.write(f"{kilobytes:8.1f} KB {times:3d} x {kernel}\n")
    kernels, megabytes = FIGURES[precision]
    assert seen["kernels"] <= kernels
    assert seen["bytes_per_window"] <= 1e6 * megabytes


@pytest.mark.parametrize("scoring", BLOCKS, ids=str)
def test_block_is_queued_without_waiting_for_what_was_queued_before(traces, scoring):
    seen = traces[str(scoring)]
    assert seen["kernels"] > 100
    assert (seen["mixed"], seen["copies"], seen["waits"]) == ([], [], [])
    assert seen["shape"] == [1, 1, 1 << 16]


def test_slab_of_one_track_is_a_mb_of_the_genome(traces):
    assert traces["1 track", "mixed", "center", "forward"]["n_windows"] == 4096


def test_substitutions_on_a_gpu_wait_for_nothing(traces):
    together, in_turn = traces["variants"]
    for seen in (together, in_turn):
        assert (seen["mixed"], seen["copies"], seen["waits"]) == ([], [], [])
