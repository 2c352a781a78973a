"""What computes logits: Beluga, a user's own model, where it comes from, and what it must offer.

How a model's outputs become scores is the business of `tism_scan.engine`.
"""

from tism_scan.models.beluga import Beluga, load_beluga, weights_digest
from tism_scan.models.frozen import frozen
from tism_scan.models.source import ModelSource

__all__ = ["Beluga", "ModelSource", "frozen", "load_beluga", "weights_digest"]
