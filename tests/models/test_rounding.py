"""The switches of a GPU's rounding, which are the process's own."""

import pytest
import torch

from tism_scan.models.rounding import rounding

if not hasattr(torch.backends, "fp32_precision"):
    pytest.skip(
        "this torch has the older switches, whose state a CPU build does not show", allow_module_level=True
    )

MATMUL, CONVOLUTIONS = torch.backends.cuda.matmul, torch.backends.cudnn.conv


def _switches():
    return [MATMUL.fp32_precision, CONVOLUTIONS.fp32_precision]


@pytest.mark.parametrize("to_tf32", [False, True])
def test_a_gpus_rounding_is_set_while_an_engine_works_and_put_back(to_tf32):
    before = _switches()
    with rounding(torch.device("cuda"), to_tf32=to_tf32):
        assert _switches() == ["tf32" if to_tf32 else "ieee"] * 2
    assert _switches() == before


def test_matrix_products_can_be_left_as_they_are():
    with rounding(torch.device("cuda"), to_tf32=True):
        with rounding(torch.device("cuda"), to_tf32=False, only_convolutions=True):
            assert _switches() == ["tf32", "ieee"]
        assert _switches() == ["tf32", "tf32"]


def test_an_inner_rounding_holds_until_it_ends():
    with rounding(torch.device("cuda"), to_tf32=False, only_convolutions=True):
        with rounding(torch.device("cuda"), to_tf32=True):
            assert _switches() == ["tf32", "tf32"]
        assert CONVOLUTIONS.fp32_precision == "ieee"


def test_the_switches_are_put_back_after_an_error():
    before = _switches()
    with pytest.raises(RuntimeError, match="halfway"), rounding(torch.device("cuda"), to_tf32=True):
        raise RuntimeError("halfway")
    assert _switches() == before


def test_a_cpu_has_nothing_to_switch():
    before = _switches()
    with rounding(torch.device("cpu"), to_tf32=True):
        assert _switches() == before


REDUCTIONS = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")


def test_sums_of_half_precision_products_are_not_rounded_while_an_engine_works():
    before = [getattr(MATMUL, name) for name in REDUCTIONS]
    assert before == [True, True]  # PyTorch's default
    with rounding(torch.device("cuda"), to_tf32=True):
        assert [getattr(MATMUL, name) for name in REDUCTIONS] == [False, False]
        with rounding(torch.device("cuda"), to_tf32=False, only_convolutions=True):
            assert [getattr(MATMUL, name) for name in REDUCTIONS] == [False, False]
    assert [getattr(MATMUL, name) for name in REDUCTIONS] == before


def test_a_user_who_forbids_to_split_sums_finds_it_so_afterwards():
    split = f"{REDUCTIONS[0]}_split_k"
    if not hasattr(MATMUL, split):
        pytest.skip("this torch has no such switch")
    setattr(MATMUL, REDUCTIONS[0], (False, False))
    try:
        with rounding(torch.device("cuda"), to_tf32=False):
            pass
        assert not getattr(MATMUL, split)
    finally:
        setattr(MATMUL, REDUCTIONS[0], (True, True))
