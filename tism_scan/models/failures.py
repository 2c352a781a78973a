"""What a failure of a model, or of the device that computes it, says."""

import torch

# As a CPU's allocator, cuBLAS and cuDNN, cuDNN once no algorithm's workspace fits, and the driver say it.
_OUT_OF_MEMORY = ("can't allocate memory", "ALLOC_FAILED", "unable to find an engine", "out of memory")
_LONGEST = 300


def one_line(error: Exception) -> str:
    """Return an error's kind and its first words on one line: a model's may go on for pages."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that a device's memory is full, which not all of them do by their type."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(each in words for each in _OUT_OF_MEMORY)
