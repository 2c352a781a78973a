"""Pictures of attributions and of audits; the only door to matplotlib and logomaker."""

from tism_scan.plot.attribution import NamedSpan, plot_attribution
from tism_scan.plot.concordance import plot_concordance

__all__ = ["NamedSpan", "plot_attribution", "plot_concordance"]
