"""What computes logits: Beluga, a user's own model, where it comes from, and what it must offer.

How a model's outputs become scores is the business of `tism_scan.engine`.
"""

from tism_scan.models.beluga import Beluga, load_beluga, weights_digest
from tism_scan.models.contract import Model
from tism_scan.models.cropped import Cropped
from tism_scan.models.reading import ChannelsLast
from tism_scan.models.source import ModelSource, model_source

__all__ = [
    "Beluga",
    "ChannelsLast",
    "Cropped",
    "Model",
    "ModelSource",
    "load_beluga",
    "model_source",
    "weights_digest",
]
