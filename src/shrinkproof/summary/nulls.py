"""What perfectly calibrated models would show, beside every calibration error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shrinkproof.metrics.names import NULL_MEAN, NULL_P, NULL_Q95
from shrinkproof.metrics.null import nulls
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.summary.run import Run
from shrinkproof.summary.scaling import cooled_predictions
from shrinkproof.summary.split import Sight, Split
from shrinkproof.summary.values import Number


def null_numbers(run: Run, split: Split, sight: Sight) -> Mapping[str, Number | Undefined]:
    """Return mean, 95 % quantile and p-value of the null level of each calibration error.

    Only on the split whose numbers are printed. Slow metrics have one for the clean images alone,
    because simulating a thousand models takes a thousand times as long as the metric itself; so
    have, for fast metrics, predictions with a temperature, which have other confidences and
    therefore another null level.
    """
    if split.name != run.printing or sight.predictions is None:
        return {}
    fast = [metric for metric in split.metrics.values() if metric.is_fast]
    is_clean = sight.condition.is_clean
    every = [*split.metrics.values()] if is_clean else fast
    found = _levels(split, sight, "", sight.predictions, every)
    for scaling, cooled in (cooled_predictions(run, split, sight) if is_clean else {}).items():
        if not isinstance(cooled, Undefined):
            found |= _levels(split, sight, scaling, cooled, fast)
    return found


def _levels(
    split: Split,
    sight: Sight,
    scaling: str,
    predictions: ClassificationPredictions,
    metrics: Sequence[Any],
) -> dict[str, Number | Undefined]:
    """Return the null levels for some probabilities; their caveats go to the sight."""
    settings = split.settings
    levels = nulls(predictions, metrics, replicates=settings.replicates, seed=settings.seed)
    found: dict[str, Number | Undefined] = {}
    for metric, level in levels.items():
        name = scaling + metric
        if isinstance(level, Undefined):
            found |= {prefix + name: level for prefix in (NULL_MEAN, NULL_Q95, NULL_P)}
            continue
        values = {NULL_MEAN: level.mean, NULL_Q95: level.q95, NULL_P: level.p_value}
        text = f"{level.replicates:,} simulated models"
        for prefix, value in values.items():
            found[prefix + name] = value
            sight.caveats[prefix + name] = "; ".join(filter(None, (text, level.caveat)))
    return found
