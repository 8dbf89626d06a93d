"""What perfectly calibrated models would show, beside every calibration error."""

from __future__ import annotations

from collections.abc import Mapping

from shrinkproof.metrics.names import NULL_MEAN, NULL_P, NULL_Q95
from shrinkproof.metrics.null import nulls
from shrinkproof.protocols import Undefined
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Sight, Split
from shrinkproof.summary.values import Number


def null_numbers(run: Run, split: Split, sight: Sight) -> Mapping[str, Number | Undefined]:
    """Return mean, 95 % quantile and p-value of the null level of each calibration error.

    Only on the split whose numbers are printed, for predictions as they are, without temperature.
    Metrics that are slow have one for the clean images alone: simulating a thousand models takes a
    thousand times as long as the metric itself.
    """
    if split.name != run.printing or sight.predictions is None:
        return {}
    levels = nulls(
        sight.predictions,
        [m for m in split.metrics.values() if m.is_fast or sight.condition.is_clean],
        replicates=split.settings.replicates,
        seed=split.settings.seed,
    )
    found: dict[str, Number | Undefined] = {}
    for name, level in levels.items():
        if isinstance(level, Undefined):
            found |= {prefix + name: level for prefix in (NULL_MEAN, NULL_Q95, NULL_P)}
            continue
        values = {NULL_MEAN: level.mean, NULL_Q95: level.q95, NULL_P: level.p_value}
        text = f"{level.replicates:,} simulated models"
        for prefix, value in values.items():
            found[prefix + name] = value
            sight.caveats[prefix + name] = "; ".join(filter(None, (text, level.caveat)))
    return found
