"""Several models as one, such as the folds of a cross-validation: the mean of their outputs.

The mean does not depend on the order in which the models are given: they are put in the order of their
digests, and all of these are in the plan.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from tism_scan.errors import ModelError
from tism_scan.models.contract import Model
from tism_scan.storage.digests import joined, short_digest

_COMPARED = ("input_bp", "alphabet", "n_outputs", "output_names", "reduction")
_LONGEST = 60


class MeanOf(nn.Module):
    """The mean of what several modules return.

    Parameters
    ----------
    members : iterable of torch.nn.Module
        From float (N, 4, L) to (N, n_outputs).
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, X: Tensor) -> Tensor:
        """Return the mean, (N, n_outputs)."""
        return mean_of([member(X) for member in self.members])


class Ensemble(MeanOf, Model):
    """Several models with the same inputs and outputs, as one whose outputs are their mean.

    Parameters
    ----------
    members : sequence of Model
    """

    def __init__(self, members: Sequence[Model]) -> None:
        super().__init__(members)
        first = members[0]
        self.input_bp, self.alphabet = first.input_bp, first.alphabet
        self.n_outputs, self.output_names = first.n_outputs, getattr(first, "output_names", None)
        self.eval()


def members_of(model: Model) -> list[Model]:
    """Return the models that an ensemble is made of; any other model by itself."""
    return list(model.members) if isinstance(model, Ensemble) else [model]  # type: ignore[arg-type]


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors of one shape, summed in float64: that of equal ones is equal to the bit."""
    return torch.stack([each.double() for each in tensors]).mean(0).to(tensors[0].dtype)


class MemberSource(Protocol):
    """Where one model of an ensemble comes from; see `tism_scan.models.source`."""

    @property
    def files(self) -> tuple[Path, ...]: ...  # noqa: D102
    def absolute(self) -> "MemberSource": ...  # noqa: D102
    def at_hand(self, digest: str | None = None) -> "MemberSource": ...  # noqa: D102
    def load(self) -> Model: ...  # noqa: D102
    def identity(self, loaded: Model | None = None) -> tuple[str, str]: ...  # noqa: D102


@dataclass(frozen=True)
class EnsembleSource:
    """Where the models of an ensemble come from; it offers what a `ModelSource` does.

    Attributes
    ----------
    members : tuple of ModelSource or GivenModel
        Two or more, in any order.

    Raises
    ------
    ModelError
        If there are fewer.
    """

    members: tuple[MemberSource, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise ModelError(
                f"an ensemble of {len(self.members)} models was asked for; expected two or more; give a "
                "single model by itself"
            )

    def __str__(self) -> str:
        names = " + ".join(map(str, self.members))
        return names if len(names) <= _LONGEST else f"{self.members[0]} + {len(self.members) - 1} more"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of this machine that the models are made of, as far as they are known."""
        return tuple(file for member in self.members for file in member.files)

    def absolute(self) -> "EnsembleSource":
        """Return the source as another process finds it; see `ModelSource.absolute`."""
        return replace(self, members=tuple(member.absolute() for member in self.members))

    def at_hand(self, digest: str | None = None) -> "EnsembleSource":
        """Return the source with its weights in files of this machine; see `local_copy`.

        Parameters
        ----------
        digest : str, optional
            Of no use here: which of the models has which digest is known once they are read. `identity` says
            whether they are the planned ones.
        """
        return replace(self, members=tuple(member.at_hand() for member in self.members))

    def load(self) -> Ensemble:
        """Return the mean of the models, each loaded once, in evaluation mode, on the CPU.

        Raises
        ------
        ModelError
            If two of them are the same, or they differ in what they read or return, or as
            `ModelSource.load`.
        WeightsError
            If weights cannot be read.
        """
        members = [member.load() for member, _ in self._in_order]
        for (source, _), member in zip(self._in_order[1:], members[1:], strict=True):
            for name in _COMPARED:
                one, other = (getattr(each, name, None) for each in (members[0], member))
                if one != other:
                    raise ModelError(
                        f"the models of an ensemble differ: {self._in_order[0][0]} has {name} {_shown(one)}, "
                        f"and {source} has {_shown(other)}; expected models with the same inputs and "
                        "outputs; leave one out"
                    )
        return Ensemble(members)

    def identity(self, loaded: Model | None = None) -> tuple[str, str]:
        """Return the models' name and the digests of all their weights, for the plan of a scan.

        Returns
        -------
        name : str
            As `ModelSource.identity` returns it; of models with several names, all of them.
        digest : str
            Every model's, joined by ``+``, in ascending order.

        Raises
        ------
        ModelError, WeightsError
            As `load`.
        """
        names, digests = zip(*(identity for _, identity in self._in_order), strict=True)
        return names[0] if len(set(names)) == 1 else " + ".join(names), joined(digests)

    @cached_property
    def _in_order(self) -> list[tuple[MemberSource, tuple[str, str]]]:
        """The members and their identities, by digest."""
        identified = [(member, member.identity()) for member in self.members]
        in_order = sorted(identified, key=lambda pair: pair[1][::-1])
        for (one, identity), (other, same) in pairwise(in_order):
            if identity == same:
                raise ModelError(
                    f"{one} and {other} are the same model (SHA-256 {short_digest(same[1])}), which would "
                    "count twice; expected different ones; leave one out"
                )
        return in_order


def _shown(value: object) -> str:
    """Return a value in a few words."""
    text = (
        f"{len(value):,} names such as {value[-1]!r}" if isinstance(value, tuple) and value else repr(value)
    )
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
