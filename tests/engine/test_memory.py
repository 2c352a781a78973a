"""Memory that runs out, in all the words that it is told in."""

import os

import numpy as np
import pytest
import torch
from scan_models import TRACKS, blocks_scored_by

from tism_scan.engine import limits
from tism_scan.engine.window_engine import WindowEngine
from tism_scan.errors import ScanError
from tism_scan.models.failures import is_out_of_memory
from tism_scan.plan.scoring import Scoring

CODES = np.random.default_rng(5).integers(0, 4, 100).astype(np.uint8)
SCORING = Scoring(TRACKS, 24, 6)
FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:40])
def test_batch_is_halved_however_a_full_memory_is_told(tiny_model, error):
    expected = blocks_scored_by(WindowEngine(tiny_model, SCORING, batch_size=2), CODES)

    def forward(model, inputs):
        if len(inputs[0]) > 2:
            raise error

    tiny_model.register_forward_pre_hook(forward)
    engine = WindowEngine(tiny_model, SCORING, batch_size=8)
    np.testing.assert_allclose(blocks_scored_by(engine, CODES), expected, atol=1e-6)
    assert engine.batch_size == 2


def test_block_whose_first_tensor_does_not_fit_is_tried_again(tiny_model, monkeypatch):
    engine, real, n_left = WindowEngine(tiny_model, SCORING, batch_size=8), torch.zeros, [1]

    def zeros(*shape, **settings):
        if n_left[0]:
            n_left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*shape, **settings)

    expected = blocks_scored_by(WindowEngine(tiny_model, SCORING, batch_size=8), CODES)
    monkeypatch.setattr(torch, "zeros", zeros)
    np.testing.assert_allclose(blocks_scored_by(engine, CODES), expected, atol=1e-6)
    assert engine.batch_size == 4


def test_other_errors_are_no_matter_of_memory(tiny_model):
    def forward(model, inputs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    tiny_model.register_forward_pre_hook(forward)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        blocks_scored_by(WindowEngine(tiny_model, SCORING), CODES)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_last_words_of_a_device_are_in_the_error(tiny_model):
    def forward(model, inputs):
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    tiny_model.register_forward_pre_hook(forward)
    with pytest.raises(ScanError, match=r"does not fit the memory of cpu \(GET was unable to find an engine"):
        blocks_scored_by(WindowEngine(tiny_model, SCORING), CODES)


def test_slabs_on_a_cpu_take_a_share_of_the_memory_and_of_it_what_falls_to_their_threads(monkeypatch):
    """Several scans share a machine as its CPUs are shared among them."""
    page, n_pages = 4096, 1_000_000
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": page, "SC_PHYS_PAGES": n_pages}.get)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    found = {}
    for n_threads in (2, 8, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        found[n_threads] = limits.memory_of(torch.device("cpu"))
    assert found[8] == found[16] == limits.SHARE_OF_MEMORY * page * n_pages
    assert found[2] == found[8] / 4
