"""Exact scores of variants: the model on the reference and on the alternative allele, resumable, on Ray."""

from tism_scan.effects.planning import PlannedEffects, plan_effects
from tism_scan.effects.running import EffectSummary, compute_effects

__all__ = ["EffectSummary", "PlannedEffects", "compute_effects", "plan_effects"]
