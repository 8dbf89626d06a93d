"""Calibration after temperature scaling, with a candidate's own temperature and the baseline's.

The temperature of the uncompressed model carried over answers whether a deployer who had calibrated
it must do so again after compression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from shrinkproof.metrics.names import SCALED, SCALED_BY_BASELINE
from shrinkproof.metrics.temperature import scaled
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate
from shrinkproof.statistics import Interval
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Sight, Split
from shrinkproof.summary.values import Derived, Number, measured

TEMPERATURE: Final = "calibration.temperature"

_DEPENDENT: Final = ("calibration.", "selective.", "accuracy.nll", "accuracy.brier")
"""Metrics that a temperature can change."""


def scaled_numbers(run: Run, split: Split, sight: Sight) -> Mapping[str, Number | Undefined]:
    """Return what a candidate's metrics become with each temperature.

    On the select split itself these would be numbers of the images that chose the temperature, so
    there are none.
    """
    if split.name == "select" or sight.predictions is None:
        return {}
    baseline = run.baseline(run.by_key[sight.candidate])
    found: dict[str, Number | Undefined] = {}
    for prefix, key in ((SCALED, sight.candidate), (SCALED_BY_BASELINE, baseline.key)):
        temperature = run.temperature(key)
        if temperature is None:
            continue
        cooled = scaled(sight.predictions, temperature)
        for name, metric in split.metrics.items():
            if name.startswith(_DEPENDENT):
                terms = metric.terms(cooled)
                found[prefix + name] = metric(cooled) if terms is None else terms
    return found


def temperatures(run: Run, candidate: Candidate) -> Iterator[Derived]:
    """Yield the temperature of a candidate."""
    found = run.temperature(candidate.key)
    if found is None:
        return
    split = run.splits["select"]
    reason = found.reason or "fitted, without an interval of its own"
    value = measured(TEMPERATURE, found.value, Interval(reason=reason), count=split.count)
    yield Derived(candidate.key, split.name, "clean", 0, split.form, value)
