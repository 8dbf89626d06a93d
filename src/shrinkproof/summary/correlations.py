"""How calibration and robustness go together with accuracy over the recipes of one network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from shrinkproof.metrics.correlation import Correlation, correlation
from shrinkproof.metrics.names import CHANGE
from shrinkproof.protocols import Undefined
from shrinkproof.records import Json
from shrinkproof.statistics import Interval
from shrinkproof.summary.known import Known
from shrinkproof.summary.run import Run
from shrinkproof.summary.values import CORRUPTED, Derived, Exhibit

CORRELATIONS: Final = "correlations"
ACCURACY: Final = "accuracy.top1"

_PLACES: Final = ("clean", CORRUPTED)


def correlated(run: Run, rows: Sequence[Derived]) -> Iterator[Exhibit]:
    """Yield correlations with clean accuracy, one exhibit for each network and metric.

    A robustness that follows accuracy alone correlates with it strongly: then a gain in one is a
    gain in the other, and no property of the compression.
    """
    known = Known(run, rows)
    metrics = [
        *((CHANGE + name, place) for name in known.scored("calibration.ece") for place in _PLACES),
        ("robustness.mean_error", CORRUPTED),
        ("robustness.mce", CORRUPTED),
    ]
    for baseline in known.baselines():
        for metric, place in metrics:
            found = _pair(known, baseline.model, metric, place)
            if found["candidates"] or found["left_out"]:
                yield Exhibit(CORRELATIONS, found)


def _pair(known: Known, model: str, metric: str, place: str) -> Json:
    points: dict[str, tuple[float, float]] = {}
    left_out = []
    for candidate in known.recipes(model):
        x = known.value(candidate.key, ACCURACY, "clean")
        y = known.value(candidate.key, metric, place)
        if x is None or y is None:
            left_out.append(candidate.label)
        else:
            points[candidate.label] = (x, y)
    x_M, y_M = ([point[axis] for point in points.values()] for axis in (0, 1))
    found = correlation(x_M, y_M)
    return {
        "model": model,
        "split": known.run.printing,
        "x": f"{ACCURACY}@clean",
        "y": f"{metric}@{place}",
        "candidates": list(points),
        "left_out": left_out,
        "points": [list(point) for point in points.values()],
        **_as_json(found),
    }


def _as_json(found: Correlation | Undefined) -> Json:
    if isinstance(found, Undefined):
        return {"pearson": None, "spearman": None, "caveat": "", "reason": found.reason}
    return {
        "pearson": {"value": found.pearson, **_ends(found.pearson_interval)},
        "spearman": {"value": found.spearman, **_ends(found.spearman_interval)},
        "caveat": found.caveat,
        "reason": "",
    }


def _ends(stated: Interval) -> Json:
    return {"low": stated.low, "high": stated.high, "reason": stated.reason}
