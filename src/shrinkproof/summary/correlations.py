"""How calibration and robustness go together with accuracy over the recipes of one network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from shrinkproof.metrics.detection.names import MPC, RPC
from shrinkproof.metrics.names import CHANGE
from shrinkproof.records import Json
from shrinkproof.summary.known import Known
from shrinkproof.summary.run import Run
from shrinkproof.summary.together import together
from shrinkproof.summary.values import CORRUPTED, Derived, Exhibit

CORRELATIONS: Final = "correlations"
_PLACES: Final = ("clean", CORRUPTED)
_OF_ERRORS: Final = ("robustness.mean_error", "robustness.mce")


def correlated(run: Run, rows: Sequence[Derived]) -> Iterator[Exhibit]:
    """Yield correlations with clean accuracy, one exhibit for each network and metric.

    The accuracy of detectors is their average precision.

    A robustness that follows accuracy alone correlates with it strongly: then a gain in one is a
    gain in the other, and no property of the compression.
    """
    known = Known(run, rows)
    of_robustness = (MPC, RPC) if run.settings.task == "detection" else _OF_ERRORS
    metrics = [
        *((CHANGE + name, place) for name in known.calibrations for place in _PLACES),
        *((name, CORRUPTED) for name in of_robustness),
    ]
    for baseline in known.baselines():
        for metric, place in metrics:
            found = _pair(known, baseline.model, metric, place)
            if found["candidates"] or found["left_out"]:
                yield Exhibit(CORRELATIONS, found)


def _pair(known: Known, model: str, metric: str, place: str) -> Json:
    points: dict[str, tuple[float, float]] = {}
    left_out = []
    recipes, quality = known.recipes(model), known.run.settings.quality
    for candidate in recipes:
        x = known.value(candidate.key, quality, "clean")
        y = known.value(candidate.key, metric, place)
        if x is None or y is None:
            left_out.append(candidate.label)
        else:
            points[candidate.key] = (x, y)
    return {
        "model": model,
        "split": known.run.printing,
        "x": f"{quality}@clean",
        "y": f"{metric}@{place}",
        "candidates": [c.label for c in recipes if c.key in points],
        "left_out": left_out,
        "points": [list(point) for point in points.values()],
        **together(points, known.run.maps),
    }
