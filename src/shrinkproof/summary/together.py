"""How two numbers of the candidates of one network go together, also at equal reduction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from shrinkproof.metrics.correlation import correlation
from shrinkproof.protocols import Undefined
from shrinkproof.records import Json
from shrinkproof.summary.maps import Maps

FEWEST: Final = 5
"""Candidates below which nothing is said at matched reduction."""

REDUCTION: Final = "cost.compression_ratio_packed"
"""What is held equal."""


def together(points: Mapping[str, tuple[float, float]], maps: Maps | None) -> Json:
    """Return the correlations of two numbers, plain JSON.

    Args:
        points: key of a candidate -> both numbers.
        maps: gives the reduction of each candidate; None where it is unknown.
    """
    reduction = {} if maps is None else maps.numbers("size", REDUCTION)
    return {**_plain(points), "at_matched_reduction": _matched(points, reduction)}


def _plain(points: Mapping[str, tuple[float, float]]) -> Json:
    x_M, y_M = ([point[axis] for point in points.values()] for axis in (0, 1))
    found = correlation(x_M, y_M)
    if isinstance(found, Undefined):
        return {"pearson": None, "spearman": None, "caveat": "", "reason": found.reason}
    return {
        name: {"value": value, "low": stated.low, "high": stated.high, "reason": stated.reason}
        for name, value, stated in (
            ("pearson", found.pearson, found.pearson_interval),
            ("spearman", found.spearman, found.spearman_interval),
        )
    } | {"caveat": found.caveat, "reason": ""}


def _matched(points: Mapping[str, tuple[float, float]], reduction: Mapping[str, float]) -> Json:
    """Return the partial correlation at equal reduction, linear in its logarithm."""
    known = [(*point, np.log(reduction[key])) for key, point in points.items() if key in reduction]
    found: Json = {"value": None, "given": f"log {REDUCTION}", "count": len(known), "reason": ""}
    if len(known) < FEWEST:
        reason = f"at matched reduction at least {FEWEST} candidates are needed, got {len(known)}"
        return {**found, "reason": reason}
    x, y, z = (np.array(column) for column in zip(*known, strict=True))
    pairs = [correlation(a, b) for a, b in ((x, y), (x, z), (y, z))]
    r = [pair.pearson for pair in pairs if not isinstance(pair, Undefined)]
    if len(r) < len(pairs) or max(abs(r[1]), abs(r[2])) > 1 - 1e-9:
        reason = "a metric, or the reduction, does not vary apart from the others"
        return {**found, "reason": reason}
    value = (r[0] - r[1] * r[2]) / np.sqrt((1 - r[1] ** 2) * (1 - r[2] ** 2))
    return {**found, "value": float(np.clip(value, -1, 1))}
