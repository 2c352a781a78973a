"""What `torch.save` wrote, read without ever running code from it."""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from tism_scan.errors import WeightsError


class Part:
    """A module of a network that was saved whole: what its file says of it, and none of its code.

    Attributes
    ----------
    class_name : str
        Full name of the class that it was, set by a subclass.
    """

    class_name = ""


def tensors_of(part: Part) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a part, and those of its parts, by the names of a state dict.

    Nothing that the file says of a part is called, and a part that stands in several places is taken once.
    """
    seen = {id(part)}
    pending = [("", part)]
    while pending:
        prefix, here = pending.pop()
        said = vars(here)
        for kind in ("_parameters", "_buffers"):
            for name, tensor in said.get(kind, {}).items():
                if isinstance(tensor, Tensor):
                    yield f"{prefix}{name}", tensor.detach()
        for name, inner in said.get("_modules", {}).items():
            if isinstance(inner, Part) and id(inner) not in seen:
                seen.add(id(inner))
                pending.append((f"{prefix}{name}.", inner))


def fault_of(tensor: Tensor) -> str | None:
    """Return why a tensor of a file cannot be a weight, or None if it can."""
    is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not is_plain or tensor.is_nested:
        return "holds no plain numbers"
    if not tensor.is_floating_point():
        return f"holds {str(tensor.dtype).removeprefix('torch.')}, expected floating-point numbers"
    # Written out, what repeats a few bytes may fill any memory.
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        return "is longer than what the file holds of it"
    return None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict, on the CPU.

    Raises
    ------
    WeightsError
        If the file cannot be read, is damaged, is packed, would run code, or holds something else.
    """
    loaded = _loaded(path)
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(
            f"{path} holds a {type(loaded).__name__}, not a state dict (a mapping from key to tensor); "
            "save it with torch.save(model.state_dict(), ...)"
        )
    return dict(loaded)


def read_parts(path: Path, class_names: Sequence[str]) -> Part | dict[str, Tensor]:
    """Return a network that was saved whole, as inert parts, or a state dict.

    Parameters
    ----------
    path : Path
    class_names : sequence of str
        Full names of the classes that the file may name; none of them is imported.

    Raises
    ------
    WeightsError
        As `read_state_dict`.
    """
    stubs = [(type("Part", (Part,), {"class_name": name}), name) for name in class_names]
    loaded = _loaded(path, stubs)
    return loaded if isinstance(loaded, Part) else read_state_dict(path)


def unreadable(path: Path, error: OSError) -> WeightsError:
    """Return the error for a file that cannot be read."""
    return WeightsError(f"cannot read the weights {path}: {error.strerror}; expected a file; check --weights")


def _loaded(path: Path, stubs: Sequence[tuple[type, str]] = ()) -> Any:
    """Return what a file holds, in which some names are taken for others."""
    try:
        with open(path, "rb") as file:
            _refuse_packed(path, file)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(list(stubs)) if stubs else nullcontext(),
        ):
            # PyTorch warns about pickles that it then refuses, or loads in spite of the warning.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} was refused: it is not a plain state dict of tensors (a pickle can run code when it is "
            "loaded); save it again with torch.save(model.state_dict(), ...)"
        ) from None
    except Exception as error:  # a damaged pickle may end in any error at all
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines and isinstance(error, RuntimeError | OSError) else type(error).__name__
        raise WeightsError(f"{path} is not a file that torch.save wrote, or is damaged: {reason}") from None


def _refuse_packed(path: Path, file: BinaryIO) -> None:
    """Raise WeightsError if a zip file holds more than it is long: PyTorch packs nothing, a trap would."""
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        return  # the older format, or damage, of which PyTorch says more
    n_bytes, most = sum(record.file_size for record in records), path.stat().st_size
    if n_bytes > most or any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise WeightsError(
            f"{path} was refused: it is packed, {n_bytes:,} bytes in {most:,}, as torch.save packs nothing; "
            "load it where memory is plenty, and save it again with torch.save"
        )
