"""The measures of an edge: columns of the views `edges` and `edges_strong`.

Apart from what computes anything, so that a command's options do without those imports.
"""

from __future__ import annotations

MEASURES = (
    "pearson",
    "jaccard",
    "sufficiency",
    "necessity",
    "mutual_information",
    "activation_cosine",
)
"""No other name enters SQL."""
