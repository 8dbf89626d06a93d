"""Temperature scaling: one number that removes global over- or under-confidence.

What calibration error remains after it is damage that whoever deploys the model cannot repair for
free.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError, UsageError
from shrinkproof.predictions import ClassificationPredictions

# Shape suffixes: N images, C classes.

LOWEST: Final = 1e-3
"""Smallest temperature that is fitted."""

HIGHEST: Final = 1e3
"""Largest temperature that is fitted."""

_TOLERANCE: Final = 1e-10
_NEWTON_STEPS: Final = 50
"""After these only bisections follow, so the search always ends."""


@dataclass(frozen=True, slots=True)
class Temperature:
    """The temperature that minimizes the negative log-likelihood.

    Attributes:
        value: the temperature, 0.001 to 1000; above 1 the model was over-confident.
        converged: True where the minimum lies inside that range and was found to 1e-8, relative.
        nll_before: mean negative log-likelihood at temperature 1, in nat.
        nll_after: the same at ``value``.
        reason: why it did not converge, empty where it did.
    """

    value: float
    converged: bool
    nll_before: float
    nll_after: float
    reason: str = ""


def fit_temperature(logits: NDArray[np.floating[Any]], target: NDArray[np.int64]) -> Temperature:
    """Return the temperature T that minimizes the mean NLL of ``logits / T``.

    The NLL is convex in 1/T, so its slope has at most one sign change; it is found by Newton steps
    in log T, each replaced by a bisection where it would leave the bracket. Fit it on the select
    split, never on images on which a number is reported.

    Three kinds of data have no best temperature, and come back with ``converged`` False and a
    reason: perfectly separated images (the value is the lower bound), logits that are no better
    than chance (the upper bound), and logits that are equal within each image (1).

    Args:
        logits: (N, C), finite; N >= 1.
        target: (N,), the true class, 0 to C - 1.

    Raises:
        DataError: there are no images, shapes disagree, or a logit is not finite.

    Reference: Guo et al. 2017, doi:10.5555/3305381.3305518.
    """
    _check(logits, target)
    logits_NC = logits.astype(np.float64)
    # The softmax ignores a shift; relative to the true class the NLL is log sum exp alone.
    rows = np.arange(len(target))
    margin_NC = logits_NC - logits_NC[rows, target][:, None]

    def slope(log_value: float) -> tuple[float, float]:
        return _slope(margin_NC, math.exp(-log_value))

    low, high = math.log(LOWEST), math.log(HIGHEST)
    bound = _bound(margin_NC, slope(low)[0], slope(high)[0])
    value, reason = bound or (math.exp(_root(slope, low, high)), "")
    return Temperature(
        value=value,
        converged=not reason,
        nll_before=_nll(margin_NC, 1.0),
        nll_after=_nll(margin_NC, 1 / value),
        reason=reason,
    )


def scaled(
    predictions: ClassificationPredictions, temperature: Temperature | float
) -> ClassificationPredictions:
    """Return the predictions with their logits divided by a temperature.

    Classes do not change, only confidences.

    Raises:
        UsageError: the temperature is not a finite number above 0.
        DataError: a scaled logit leaves the range of float32.
    """
    value = temperature.value if isinstance(temperature, Temperature) else float(temperature)
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"temperature: must be a finite number above 0, got {value!r}")
    with np.errstate(over="ignore"):
        logits_NC = (predictions.logits.astype(np.float64) / value).astype(np.float32)
    return replace(predictions, logits=logits_NC)


def _check(logits: NDArray[np.floating[Any]], target: NDArray[np.int64]) -> None:
    if logits.ndim != 2 or target.shape != logits.shape[:1] or not logits.size:
        raise DataError(
            "temperature: needs logits (N, C) and target (N,) of at least one image, got "
            f"{logits.shape} and {target.shape}"
        )
    if target.min() < 0 or target.max() >= logits.shape[1]:
        raise DataError(
            f"temperature: target must be 0 to {logits.shape[1] - 1}, got "
            f"{target.min()} to {target.max()}"
        )
    if not np.isfinite(logits).all():
        raise DataError("temperature: logits must be finite, got NaN or infinity")


def _nll(margin_NC: NDArray[np.float64], inverse: float) -> float:
    """Return the mean NLL at 1/T = ``inverse``."""
    scaled_NC = margin_NC * inverse
    peak_N1 = scaled_NC.max(axis=1, keepdims=True)
    total_N1 = np.exp(scaled_NC - peak_N1).sum(axis=1, keepdims=True)
    return float((peak_N1 + np.log(total_N1)).mean())


def _slope(margin_NC: NDArray[np.float64], inverse: float) -> tuple[float, float]:
    """Return the slope of the NLL in log T and the derivative of that slope.

    With b = 1/T, m the margins and p their softmax at b: the NLL has slope g = mean E_p[m] and
    curvature h = mean Var_p[m] in b, and d/d(log T) = -b d/db.
    """
    scaled_NC = margin_NC * inverse
    prob_NC = np.exp(scaled_NC - scaled_NC.max(axis=1, keepdims=True))
    prob_NC /= prob_NC.sum(axis=1, keepdims=True)
    mean_N1 = (prob_NC * margin_NC).sum(axis=1, keepdims=True)
    gradient = float(mean_N1.mean())
    curvature = float((prob_NC * (margin_NC - mean_N1) ** 2).sum(axis=1).mean())
    return -inverse * gradient, inverse * gradient + inverse**2 * curvature


def _bound(margin_NC: NDArray[np.float64], first: float, last: float) -> tuple[float, str] | None:
    """Return the value to use and why where no temperature in the range is best, else None.

    ``first`` and ``last`` are the slopes at the lowest and the highest temperature.
    """
    if not margin_NC.any():
        return 1.0, "all logits of each image are equal, so the temperature changes nothing"
    if (margin_NC <= 0).all():
        return LOWEST, "every image is classified correctly, so the best temperature is 0"
    if margin_NC.mean() >= 0:
        return HIGHEST, "the logits are no better than chance: the best temperature is infinite"
    if last <= 0:
        return HIGHEST, f"the best temperature is above {HIGHEST:g}"
    if first >= 0:
        return LOWEST, f"the best temperature is below {LOWEST:g}"
    return None


def _root(slope: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """Return where the slope changes from negative (``low``) to positive (``high``)."""
    at, steps = min(max(0.0, low), high), 0
    while high - low > _TOLERANCE:
        value, change = slope(at)
        if value == 0:
            return at
        low, high = (at, high) if value < 0 else (low, at)
        is_newton = change > 0 and steps < _NEWTON_STEPS
        step = at - value / change if is_newton else math.nan
        target = step if low < step < high else (low + high) / 2
        if abs(target - at) <= _TOLERANCE:
            return target
        at, steps = target, steps + 1
    return at
