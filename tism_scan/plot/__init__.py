"""Pictures of attributions and of audits; the only door to matplotlib and logomaker."""

from tism_scan.plot.attribution import Span, plot_attribution
from tism_scan.plot.concordance import plot_concordance

__all__ = ["Span", "plot_attribution", "plot_concordance"]
