"""What a model gives for two windows that are the same everywhere and always."""

import numpy as np
import torch
from numpy.typing import NDArray

from tism_scan.errors import ModelError
from tism_scan.genome.alphabet import one_hot
from tism_scan.models.contract import Model
from tism_scan.models.failures import one_line
from tism_scan.models.frozen import frozen

N_PROBES = 2


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
    # RandomState, since its numbers stay the same in every release of NumPy.
    codes = np.random.RandomState(0).randint(4, size=(N_PROBES, model.input_bp)).astype(np.uint8)
    windows = torch.from_numpy(one_hot(codes, model.alphabet))
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


def is_half(model: torch.nn.Module) -> bool:
    """Return whether a model computes in bfloat16 or float16, at least in part."""
    tensors = (*model.parameters(), *model.buffers())
    return any(tensor.dtype in (torch.bfloat16, torch.float16) for tensor in tensors)
