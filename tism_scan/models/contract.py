"""What an engine asks of a model, and whether a user's own model gives it."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tism_scan.errors import ModelError
from tism_scan.genome.alphabet import BASES
from tism_scan.models.differentiable import (
    left_behind,
    move_plain_tensors,
    take_from_inference,
    without_reentry,
)
from tism_scan.models.failures import one_line
from tism_scan.models.outputs import Reduced, flat_outputs, names_of, own_names
from tism_scan.models.reading import Layout, Reading, control_argument, readings

log = logging.getLogger(__name__)
_HALVES = (torch.bfloat16, torch.float16)


class Model(nn.Module):
    """What an engine asks of a model.

    A `torch.nn.Module` from one-hot windows, float (N, 4, input_bp), to logits, (N, n_outputs), with these
    attributes; it need not derive from this class, which states the contract for type checkers and readers.
    Engines share what windows have in common if it also has a `trunk` and a `head`; see
    `tism_scan.engine.trunk`.

    Attributes
    ----------
    input_bp : int
        Length of a window.
    alphabet : str
        Order of the input channels, a permutation of ``ACGT``.
    n_outputs : int
    output_names : tuple of str or None
        Names of the outputs, if it has any.
    """

    input_bp: int
    alphabet: str
    n_outputs: int
    output_names: tuple[str, ...] | None = None


class LoadedModel(Model):
    """A user's model in evaluation mode and frozen, with what an engine asks of it."""

    def __init__(
        self,
        body: nn.Module,
        input_bp: int,
        alphabet: str,
        reduction: str | None = None,
        reading: Reading | None = None,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.reading = reading or Reading()
        self.body = body
        for parameter in body.parameters():  # one by one, since modules of TorchScript refuse it as a whole
            parameter.requires_grad_(False)
        self.input_bp = input_bp
        self.alphabet = alphabet
        self.n_outputs = 0
        self.eval()

    @property
    def trunk(self) -> Any:
        """The body's `trunk`, if it declares one: with `head`, what the trunk engine shares."""
        return getattr(self.body, "trunk", None)

    @property
    def head(self) -> Any:
        """The body's `head`, if it declares one, with the reduction of its outputs."""
        head = getattr(self.body, "head", None)
        if self.reduction is None or not isinstance(head, nn.Module):
            return head
        return Reduced(head, self.reduction)

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, float32 (N, n_outputs), of one-hot windows, float32 (N, 4, input_bp)."""
        outputs = flat_outputs(self.returned(X), self.reduction)
        return outputs.float() if outputs.dtype in _HALVES else outputs

    def returned(self, X: Tensor) -> Any:
        """Return what the body itself returns for windows; they stay as they are if it works in place."""
        with without_reentry():
            return self.reading(self.body, X.clone())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LoadedModel":
        """Move or convert parameters and buffers, as all modules do, and move plain tensors with them."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        move_plain_tensors(self.body, fn)
        return self


def loaded_model(
    body: nn.Module,
    name: str,
    input_bp: int | None = None,
    alphabet: str | None = None,
    reduction: str | None = None,
    layout: Layout = "NCL",
) -> LoadedModel:
    """Return a user's module as a model that every engine can use.

    Parameters
    ----------
    body : torch.nn.Module
        It is frozen and put in evaluation mode, and converted to float32, unless it fails there only.
    name : str
        What messages call it.
    input_bp, alphabet : int, str, optional
        For a module without attributes of these names.
    reduction : str, optional
        What makes one output of all positions of a channel; see `tism_scan.models.outputs.reduced`.
    layout : {"NCL", "NLC"}
        Whether the module takes (N, 4, L) or (N, L, 4).

    Raises
    ------
    ModelError
        If it does not say its `input_bp` or `alphabet`, has layers without weights, cannot read a window of
        that length, or has another number of names than of outputs.
    """
    description = check_description(body, name, input_bp, alphabet)
    _check_has_weights(body, name)
    # In float32 first, since stores were made so; what casts to half precision by itself may not know it.
    take_from_inference(body)
    as_it_is = copy.deepcopy(body) if _has_other_precision(body) else None
    bodies = [body.float()] if as_it_is is None else [body.float(), as_it_is]
    model, outputs = _first_that_reads(
        [
            LoadedModel(each, *description, reduction, reading)
            for each in bodies
            for reading in readings(each, layout, description[0])
        ],
        name,
    )
    if model.reading.control_shape is not None:
        log.warning(
            "model %r reads control tracks, %r: they are zeros, (N, %s)",
            name,
            control_argument(model.body),
            ", ".join(map(str, model.reading.control_shape)),
        )
    model.n_outputs = outputs.shape[1]
    claimed = getattr(body, "n_outputs", None)
    if isinstance(claimed, int) and claimed != model.n_outputs:
        log.warning(
            "model %r has the attribute n_outputs %d, and returns %s outputs for a window; these count",
            name,
            claimed,
            f"{model.n_outputs:,}",
        )
    model.output_names = _names_of(model, name)
    return model


def check_description(
    body: nn.Module, spec: str, input_bp: int | None, alphabet: str | None
) -> tuple[int, str]:
    """Return a model's window and alphabet, from its attributes or the flags; ModelError names all faults."""
    faults = []
    found: dict[str, Any] = {}
    for name, flag, given in (("input_bp", "--input-bp", input_bp), ("alphabet", "--alphabet", alphabet)):
        own = getattr(body, name, None)
        if own is None and given is None:
            faults.append(f"has no attribute {name!r}; set it on the model, or give {flag}")
        elif own is not None and given is not None and own != given:
            faults.append(f"has {name} {own!r}, but {flag} says {given!r}; leave {flag} out")
        found[name] = given if own is None else own
    if isinstance(found["alphabet"], str) and sorted(found["alphabet"]) != list(BASES):
        faults.append(f"has alphabet {found['alphabet']!r}; expected the letters A, C, G, T in its own order")
    if isinstance(found["input_bp"], int) and found["input_bp"] < 1:
        faults.append(f"has input_bp {found['input_bp']}; expected a length of 1 or more")
    for name, kind in (("input_bp", int), ("alphabet", str)):
        if found[name] is not None and not isinstance(found[name], kind):
            faults.append(f"has {name} {found[name]!r}; expected {kind.__name__}")
    if faults:
        raise ModelError(" | ".join(f"model {spec!r} {fault}" for fault in faults))
    return found["input_bp"], found["alphabet"]


def _check_has_weights(body: nn.Module, name: str) -> None:
    """Raise ModelError if layers get their weights at their first call only: they would be random."""
    tensors = (*body.named_parameters(), *body.named_buffers())
    lazy = [key for key, tensor in tensors if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise ModelError(
            f"model {name!r} has layers without weights yet, {', '.join(lazy[:3])}; expected trained ones; "
            "call it on a window, and load its weights, before you return it"
        )


def _zero_window(model: Model) -> Tensor:
    home = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    return torch.zeros((1, 4, model.input_bp), dtype=torch.float32, device=home)


def _first_that_reads(models: Sequence[LoadedModel], spec: str) -> tuple[LoadedModel, Tensor]:
    """Return the first model that can read a window, and its outputs; raise what the first one raised."""
    faults = []
    for model in models:
        try:
            return model, _outputs_of_a_window(model, spec)
        except ModelError as error:
            faults.append(error)
    raise ModelError(f"{faults[0]}{_hint(models)}")


def _hint(models: Sequence[LoadedModel]) -> str:
    """Return what else to try with models that cannot read a window."""
    first = models[0]
    for reading in dict.fromkeys(model.reading.other for model in models):
        try:
            _outputs_of_a_window(LoadedModel(first.body, first.input_bp, first.alphabet, None, reading), "")
        except ModelError:
            continue
        shape = "(N, L, 4)" if reading.layout == "NLC" else "(N, 4, L)"
        return f"; it can read {shape}: add --layout {reading.layout}"
    if len(models) > 1 and models[1].reading.control_shape is not None:
        return (
            f"; zeros for its argument {control_argument(first.body)!r} were tried: give the model the "
            "attribute control_shape, such as (2, 1000)"
        )
    return ""


def _outputs_of_a_window(model: LoadedModel, spec: str) -> Tensor:
    """Return the outputs (1, n) of a window of N, or raise ModelError if the model cannot read one."""
    remedy = "expected logits (N, n_outputs), or a list or dict of them; look at its forward, or --input-bp"
    try:
        with torch.no_grad():
            outputs = model(_zero_window(model))
    except ModelError:
        raise
    except Exception as error:  # a user's forward may fail in any way
        raise ModelError(
            f"model {spec!r} fails on one window, float32 (1, 4, {model.input_bp}): {one_line(error)}; "
            f"{remedy}{left_behind(model, _zero_window(model).device)}"
        ) from None
    if outputs.dim() != 2 or outputs.shape[0] != 1 or not outputs.shape[1] or not outputs.is_floating_point():
        raise ModelError(
            f"model {spec!r} returns {str(outputs.dtype).removeprefix('torch.')} {tuple(outputs.shape)} for "
            f"one window; {remedy}"
        )
    return outputs  # type: ignore[no-any-return]


def _has_other_precision(body: nn.Module) -> bool:
    """Return whether a module has floating-point parameters or buffers that are not float32."""
    tensors = (*body.parameters(), *body.buffers())
    return any(tensor.is_floating_point() and tensor.dtype != torch.float32 for tensor in tensors)


def _names_of(model: LoadedModel, spec: str) -> tuple[str, ...] | None:
    """Return names of a model's outputs, by its attribute or by the keys that it returns, or None."""
    own, n_outputs = own_names(model.body), model.n_outputs
    if own is not None and (isinstance(own, str) or not isinstance(own, Sequence)):
        raise ModelError(_misnamed(spec, f"a {type(own).__name__}", n_outputs))
    own = None if own is None else tuple(map(str, own))
    if own is not None and len(own) == n_outputs:
        return own
    with torch.no_grad():
        names = names_of(model.returned(_zero_window(model)), own, model.reduction)
    if names is not None and len(names) != n_outputs:
        raise ModelError(_misnamed(spec, f"{len(own or ()):,} names", n_outputs))
    return names


def _misnamed(spec: str, found: str, n_outputs: int) -> str:
    return (
        f"model {spec!r} has {found} in output_names for {n_outputs:,} outputs; expected a list with a name "
        "for each; correct the attribute, or remove it"
    )
