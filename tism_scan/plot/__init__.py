"""Pictures of attributions and of audits; the only door to matplotlib and logomaker.

Called as a function, this package is `tism_scan.api.plot`, the picture of a locus.
"""

from tism_scan.callable_package import make_callable
from tism_scan.plot.attribution import NamedSpan, plot_attribution
from tism_scan.plot.concordance import plot_concordance
from tism_scan.plot.libraries import save_picture

make_callable(__name__)

Span = NamedSpan  # its former name

__all__ = ["NamedSpan", "Span", "plot_attribution", "plot_concordance", "save_picture"]
