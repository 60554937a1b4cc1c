"""Pictures of what an atlas holds; matplotlib is loaded where one is drawn."""

from __future__ import annotations

from atlas.plots.comparisons import plot_comparisons
from atlas.plots.frontier import plot_frontier
from atlas.plots.lineage import plot_lineage
from atlas.plots.saving import check_format

__all__ = ["check_format", "plot_comparisons", "plot_frontier", "plot_lineage"]
