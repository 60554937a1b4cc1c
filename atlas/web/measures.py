"""The measures of an edge that a picture may be drawn by: columns of the view `edges`."""

from __future__ import annotations

from atlas.web.given import Given

AT_LEAST = {
    "pearson": 0.5,
    "jaccard": 0.3,
    "sufficiency": 0.5,
    "necessity": 0.5,
    "mutual_information": 0.005,
    "activation_cosine": 0.5,
}
"""Name → from which value on an edge is drawn unless told otherwise. No other name enters SQL."""

DEFAULT = "pearson"


def asked_measure(given: Given) -> tuple[str, float]:
    """The measure that a request names, and the least value that counts."""
    measure = given.one_of("measure", AT_LEAST, DEFAULT)
    return measure, given.number("at_least", AT_LEAST[measure])
