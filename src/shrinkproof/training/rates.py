"""The learning rate of each step."""

from __future__ import annotations

import math
from typing import Final

from shrinkproof.training.settings import Training

WARMUP: Final = 0.3
"""Share of the steps in which ``onecycle`` climbs to its peak."""


def rate_at(settings: Training, step: int, steps: int) -> float:
    """Return the learning rate of a step, 0 to ``steps - 1``.

    ``cosine`` is ``peak * (1 + cos(pi * step / steps)) / 2`` (Loshchilov & Hutter 2017,
    arXiv:1608.03983, without restarts); ``onecycle`` first climbs linearly for 30 % of the steps;
    ``step`` multiplies by ``gamma`` once for each milestone that is passed.

    Args:
        settings: of the training.
        step: steps that are done.
        steps: of all epochs together, a multiple of the epochs.
    """
    peak = settings.learning_rate
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "step":
        epoch = step // (steps // settings.epochs)
        return peak * settings.gamma ** sum(epoch >= m for m in settings.milestones)
    warmup = max(1, round(WARMUP * steps)) if settings.schedule == "onecycle" and steps > 1 else 0
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
