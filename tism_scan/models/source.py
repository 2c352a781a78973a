"""Any model: one that is known by name, or what a function of the user's own returns.

A model is a `torch.nn.Module` from float (N, 4, input_bp) to logits: (N, n_outputs), a list of such heads, or
outputs with more axes, which are flattened. It says two things about itself, by attribute or by flag:
`input_bp`, the length of its windows, and `alphabet`, the order of its channels; `output_names` is optional.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from tism_scan.errors import ModelError, WeightsError
from tism_scan.models.beluga import load_beluga, weights_digest
from tism_scan.models.bpnet_files import load_bpnet, load_chrombpnet
from tism_scan.models.contract import Model, check_description, loaded_model
from tism_scan.models.differentiable import copied
from tism_scan.models.ensemble import EnsembleSource
from tism_scan.models.factory import factory_of, made_by
from tism_scan.models.outputs import check_reduction
from tism_scan.models.reading import Layout, check_layout
from tism_scan.storage.copies import local_copy
from tism_scan.storage.places import Place, Url, file_place

BELUGA = "beluga"
# Whose networks are built in, and what their weights are called.
_LOADERS: dict[str, tuple[Callable[[Path], Model], str]] = {
    BELUGA: (load_beluga, "deepsea.beluga.pth"),
    "chrombpnet": (load_chrombpnet, "chrombpnet_nobias.h5"),
    "bpnet": (load_bpnet, "bpnet.h5"),
}
_SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: what every node of a cluster needs to load the same one.

    Attributes
    ----------
    spec : str
        ``"beluga"``, ``"chrombpnet"``, ``"bpnet"``, or ``"package.module:factory"``: a function, or a class,
        that returns the model.
    weights : Path, Url or None
        A file, or where to read one from, once per machine: the weights of a model that is known by name; of
        any other what its factory is called with, as an absolute path. Without, the factory is called with
        nothing, and must make the same parameters every time.
    input_bp : int or None
        Length of a window, for a model without an attribute of that name.
    alphabet : str or None
        Order of the input channels, such as ``"ACGT"``, for a model without an attribute of that name.
    folder : Path or None
        Where modules are found beside those installed; the current directory if None.
    reduction : str or None
        What makes one output of all positions of a channel, for a model with outputs for each position; see
        `tism_scan.models.outputs.reduced`.
    layout : {"NCL", "NLC"}
        Whether the model takes float (N, 4, L) or (N, L, 4).

    Raises
    ------
    ModelError
        If there is no such reduction, or layout.
    """

    spec: str = BELUGA
    weights: Place | None = None
    input_bp: int | None = None
    alphabet: str | None = None
    folder: Path | None = None
    reduction: str | None = None
    layout: Layout = "NCL"

    def __post_init__(self) -> None:
        check_layout(self.layout)
        if self.reduction is not None:
            check_reduction(self.reduction)

    def __str__(self) -> str:
        return str(self.weights or self.spec)

    def absolute(self) -> "ModelSource":
        """Return the source as another process finds it: with absolute paths."""
        weights = self.weights.absolute() if isinstance(self.weights, Path) else self.weights
        return replace(self, weights=weights, folder=(self.folder or Path.cwd()).absolute())

    def at_hand(self, digest: str | None = None) -> "ModelSource":
        """Return the source with its weights in a file of this machine; see `local_copy`.

        Parameters
        ----------
        digest : str, optional
            SHA-256 that weights from a URL must have.
        """
        return replace(self, weights=self._weights_file(digest))

    def load(self) -> Model:
        """Return the model in evaluation mode, on the CPU, in float32, as every engine can use it.

        Returns
        -------
        Model

        Raises
        ------
        ModelError
            If there is no such module or function, the function fails, or what it returns is not a model,
            does not say its `input_bp` or `alphabet`, or cannot read a window of that length.
        WeightsError
            If the weights cannot be read.
        """
        weights, spec = self._weights_file(), self.spec
        if spec in _LOADERS:
            if self.reduction is not None:
                raise ModelError(
                    f"model {spec!r} has no outputs for each position that --reduce {self.reduction} could "
                    "make one of; leave --reduce out"
                )
            if self.layout != "NCL":
                raise ModelError(f"model {spec!r} takes (N, 4, L); leave --layout {self.layout} out")
            return _load_by_name(spec, weights, self.input_bp, self.alphabet)
        if weights is not None and not weights.is_file():
            raise WeightsError(f"there are no weights {str(weights)!r}; expected a file; check --weights")
        body = made_by(factory_of(spec, self.folder or Path.cwd(), _LOADERS), spec, weights)
        return loaded_model(body, spec, self.input_bp, self.alphabet, self.reduction, self.layout)

    def identity(self, loaded: Model | None = None) -> tuple[str, str]:
        """Return the model's name and the digest of its weights, for the plan of a scan.

        Parameters
        ----------
        loaded : Model, optional
            What `load` returned, if it was called; without, and without weights, it is called here.

        Returns
        -------
        name : str
            The spec, with the alphabet, the layout and the reduction if flags gave them, since they change
            the scores.
        digest : str
            SHA-256 of the weights file; without one, of the model's parameters and buffers.

        Raises
        ------
        ModelError, WeightsError
            As `load`.
        """
        layout = None if self.layout == "NCL" else self.layout
        flags = () if self.spec in _LOADERS else (self.alphabet, layout, self.reduction)
        given = [each for each in flags if each]
        name = f"{self.spec} ({', '.join(given)})" if given else self.spec
        weights = self._weights_file()
        return name, parameters_digest(loaded or self.load()) if weights is None else weights_digest(weights)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of this machine that the model is made of, as far as they are known."""
        return (self.weights,) if isinstance(self.weights, Path) else ()

    def _weights_file(self, digest: str | None = None) -> Path | None:
        """Return a file of this machine that holds the weights, or None if there are none."""
        return None if self.weights is None else local_copy(self.weights, digest)


@dataclass(frozen=True, eq=False)
class GivenModel:
    """A module that the caller made, such as one in a notebook; it offers what a `ModelSource` does.

    Attributes
    ----------
    module : torch.nn.Module
        With `input_bp` and `alphabet`. It stays as it is: a copy is loaded.
    """

    module: nn.Module
    files: ClassVar[tuple[Path, ...]] = ()

    def __str__(self) -> str:
        return f"{type(self.module).__module__}:{type(self.module).__qualname__}"

    def absolute(self) -> ModelSource:
        """Raise, since a module in memory does not travel.

        Raises
        ------
        ModelError
        """
        raise ModelError(
            f"model {str(self)!r} is in the memory of this process; Ray's actors cannot load it; expected "
            "package.module:factory or a weights file; give one, or scan without Ray"
        )

    def at_hand(self, digest: str | None = None) -> "GivenModel":
        """Return the model itself: it is on this machine."""
        return self

    def load(self) -> Model:
        """Return a copy of the model in evaluation mode, on the CPU, in float32.

        Raises
        ------
        ModelError
            As `ModelSource.load`, or if it cannot be copied.
        """
        return self._loaded

    def identity(self, loaded: Model | None = None) -> tuple[str, str]:
        """Return the name of the module's class, and the digest of its parameters and buffers."""
        return str(self), parameters_digest(self._loaded)

    @cached_property
    def _loaded(self) -> Model:
        return loaded_model(copied(self.module, str(self)).cpu(), str(self))


OneModel = str | Path | Url | nn.Module | ModelSource | GivenModel
AnyModel = OneModel | EnsembleSource | Sequence[OneModel]
Source = ModelSource | GivenModel | EnsembleSource


def model_source(model: AnyModel) -> Source:
    """Return where a model comes from, however it is given.

    Parameters
    ----------
    model : str, Path, Url, torch.nn.Module, ModelSource, or sequence of these
        ``"package.module:factory"``; the path or URL of Beluga's weights; a module; or the source itself.
        Several are an ensemble, whose mean is taken.

    Raises
    ------
    InputError
        If it is a URL of a kind that cannot be read.
    ModelError
        If a sequence of models is empty.
    """
    if isinstance(model, EnsembleSource):
        return model
    if isinstance(model, Sequence) and not isinstance(model, str):
        members = tuple(map(_one_source, model))
        return members[0] if len(members) == 1 else EnsembleSource(members)
    return _one_source(model)


def _one_source(model: OneModel) -> ModelSource | GivenModel:
    """Return where a single model comes from."""
    if isinstance(model, ModelSource | GivenModel):
        return model
    if isinstance(model, nn.Module):
        return GivenModel(model)
    if isinstance(model, str) and _SPEC.fullmatch(model):
        return ModelSource(model)
    return ModelSource(weights=file_place(model))


def parameters_digest(model: nn.Module) -> str:
    """Return the SHA-256 of a model's parameters and buffers, with their names, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()


def _load_by_name(name: str, weights: Path | None, input_bp: int | None, alphabet: str | None) -> Model:
    load, file_name = _LOADERS[name]
    if weights is None:
        raise WeightsError(
            f"the model {name!r} was given no weights; expected a file such as {file_name}; add "
            "--weights, or name another model with --model package.module:factory"
        )
    model = load(weights)
    check_description(model, name, input_bp, alphabet)  # flags that contradict it are faults
    return model
