"""Attribution of a model's outputs to the bases of its input.

Every function takes ``(model, X, tracks=None, *, batch_size, device)``, works on NumPy arrays and torch
tensors alike, and leaves the model as it found it. `random_one_hot` and `substitute` are tangermeme's own; in
a model's channel order, ``substitute(X, motif, alphabet=list(model.alphabet))``.

Arrays of one-hot sequences only; loci of a genome are in `tism_scan.locus`, whole genomes in
`tism_scan.scan`.
"""

from typing import Any

from tism_scan.attribution.agreement import Agreement, Concordance, concordance
from tism_scan.attribution.deeplift import deep_lift_shap, tangermeme_module
from tism_scan.attribution.gradients import gradient, mean_tism, tism
from tism_scan.attribution.mutagenesis import ism
from tism_scan.attribution.transforms import transform
from tism_scan.engine.tism import mean_tism_from_gradient, tism_from_gradient
from tism_scan.genome.alphabet import one_hot
from tism_scan.models.frozen import frozen

_FROM_TANGERMEME = {"random_one_hot": "utils", "substitute": "ersatz"}

__all__ = [
    "Agreement",
    "Concordance",
    "concordance",
    "deep_lift_shap",
    "frozen",
    "gradient",
    "ism",
    "mean_tism",
    "mean_tism_from_gradient",
    "one_hot",
    "tism",
    "tism_from_gradient",
    "transform",
]


def __getattr__(name: str) -> Any:
    """Return what tangermeme offers, loading it only now."""
    if name in _FROM_TANGERMEME:
        return getattr(tangermeme_module(_FROM_TANGERMEME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
