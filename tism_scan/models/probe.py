"""What a model gives for two windows that are the same everywhere and always, alone and together."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tism_scan.errors import ModelError
from tism_scan.genome.alphabet import one_hot
from tism_scan.models.contract import LoadedModel, Model
from tism_scan.models.failures import is_out_of_memory, one_line
from tism_scan.models.frozen import frozen

N_PROBES = 2
# Of the largest output. Both batches have the same shape, and so the same kernels: other rounding is rare.
_LARGEST_DIFFERENCE = 1e-3


def probe_outputs(model: Model, device: str | None = None) -> NDArray[np.float32]:
    """Return a model's outputs, float32 (2, n_outputs), on two fixed random windows.

    What the model draws at random is drawn alike each time.

    Parameters
    ----------
    model : Model
    device : str, optional
        Where to compute them; by default where the model is, which is the CPU once it is loaded.

    Raises
    ------
    ModelError
        If the model fails.
    """
    windows = _windows(model)
    try:
        with frozen(model, device) as home, torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outputs = torch.cat(
                [model(window[None].to(home)) for window in windows]
            )  # one by one, for memory
    except Exception as error:  # a user's forward may fail in any way
        raise ModelError(
            f"the model fails on a random window of {model.input_bp:,} bp: {one_line(error)}; look at its "
            "forward"
        ) from None
    found: NDArray[np.float32] = outputs.float().cpu().numpy()
    return found


def check_windows_apart(
    model: Model, batch_size: int | None = None, device: str | torch.device | None = None
) -> None:
    """Raise unless a user's model computes each window of a batch by itself: it is tried on two.

    Memory that does not hold two windows is not refused here: engines say more of it.

    Parameters
    ----------
    model : Model
    batch_size : int, optional
        Windows that are to be computed together; if only one is, nothing is tried.
    device : str or torch.device, optional
        Where it is to be computed; by default where it is.

    Raises
    ------
    ModelError
        If it fails on two windows, does not return a row for each, or mixes them.
    """
    if batch_size == 1 or not any(isinstance(module, LoadedModel) for module in model.modules()):
        return
    try:
        with frozen(model, device) as home, torch.no_grad(), torch.random.fork_rng(devices=[]):
            one, other = _windows(model).to(home)
            beside_another, beside_itself = (
                _drawn_alike(model, torch.stack([first, other])) for first in (one, other)
            )
    except Exception as error:  # a user's forward may fail in any way
        if is_out_of_memory(error):
            return
        raise ModelError(
            f"the model fails on two windows together, float32 (2, 4, {model.input_bp:,}), and not on one: "
            f"{one_line(error)}; expected outputs (N, n_outputs) of N windows; look at its forward"
        ) from None
    if beside_another.shape != (2, model.n_outputs):
        raise ModelError(
            f"the model returns {tuple(beside_another.shape)} for two windows together; expected a row for "
            f"each, (2, {model.n_outputs:,}); look for squeeze, reshape or a transposition in its forward"
        )
    beside_another, beside_itself = (each.nan_to_num(0, 0, 0) for each in (beside_another, beside_itself))
    apart = (beside_another[1] - beside_itself[1]).abs().max()
    if apart > _LARGEST_DIFFERENCE * beside_another.abs().max():
        raise ModelError(
            "the model's outputs for a window depend on the other windows of its batch; expected outputs of "
            "each window by itself; look for BatchNorm with track_running_stats=False, or an LSTM or a "
            "Transformer without batch_first=True; or compute one window at a time, with --batch-size 1"
        )


def _windows(model: Model) -> Tensor:
    """Return the two windows, float32 (2, 4, input_bp)."""
    # RandomState, since its numbers stay the same in every release of NumPy.
    codes = np.random.RandomState(0).randint(4, size=(N_PROBES, model.input_bp)).astype(np.uint8)
    return torch.from_numpy(one_hot(codes, model.alphabet))


def _drawn_alike(model: Model, X: Tensor) -> Tensor:
    torch.manual_seed(0)
    outputs: Tensor = model(X)
    return outputs


def is_half(model: torch.nn.Module) -> bool:
    """Return whether a model computes in bfloat16 or float16, at least in part."""
    tensors = (*model.parameters(), *model.buffers())
    return any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in tensors)
