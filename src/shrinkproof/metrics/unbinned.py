"""Calibration errors without bins: smoothed, and cumulated over confidence."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.derived import NO_IMAGES, Derived, derived
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Better, Undefined
from shrinkproof.registry import component

# Shape suffixes: N images, G cells of the grid.

_GRID: Final = 1 << 13
"""Cells between 0 and 1; far finer than any bandwidth that data can support."""

_BISECTIONS: Final = 34
"""So many halve the bandwidth's range to below 1e-10."""


@component
class SmoothCalibrationError:
    """Mean gap between confidence and accuracy after smoothing over confidence.

    The residuals, confidence minus correctness, are smoothed with a Gaussian kernel that is
    reflected at 0 and 1, and their absolute value is integrated over confidence. The bandwidth is
    the one that equals the smoothed error itself, so there is nothing to choose and no bin edge
    that makes the value jump. Ties need no rule, and 0 and 1 are treated like all others. A
    calibrated model shows more than 0, like with bins.

    Residuals are first spread over a grid of 8,192 cells; the smoothing is exact there (a product
    of cosine coefficients), the cost is that of N additions and some fast cosine transforms.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0.
    Differences: relplot searches the bandwidth in steps of 1/1024 and stops at 0.001; at the same
        bandwidth both agree to 1e-4 while it is narrow. Its grid has steps of a part of the
        bandwidth, so for saturated networks, whose bandwidth is wide, it overstates the error
        (0.4796 where the mean gap is 0.4510).
    Reference: Blasiok and Nakkiran 2024, arXiv:2309.12236.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25]], dtype=np.float32)),
        ...     target=np.array([0]),
        ...     index=np.arange(1),
        ... )
        >>> round(SmoothCalibrationError()(predictions), 6)
        0.25
    """

    name: ClassVar[str] = "calibration.smooth_ece"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        coefficients_G = _cosine_coefficients(derived(predictions))
        return min(1.0, _smoothed(coefficients_G, _bandwidth(coefficients_G)))

    def terms(self, predictions: ClassificationPredictions) -> None:
        """The bandwidth depends on all images: there are no terms."""


def smoothed_error(predictions: ClassificationPredictions, bandwidth: float) -> float:
    """Return the smoothed calibration error at a given bandwidth.

    Args:
        predictions: one condition, N >= 1.
        bandwidth: standard deviation of the kernel, in units of confidence.
    """
    return _smoothed(_cosine_coefficients(derived(predictions)), bandwidth)


def _cosine_coefficients(values: Derived) -> NDArray[np.float64]:
    """Return the cosine transform of the residuals' density, (G,)."""
    from scipy.fft import dct

    position_N = values.confidence * _GRID - 0.5
    cell_N = np.floor(position_N).astype(np.int64)
    upper_N = position_N - cell_N
    residual_N = values.confidence - values.correct
    density_G = np.zeros(_GRID)
    for cells, weight_N in ((cell_N, 1 - upper_N), (cell_N + 1, upper_N)):
        inside = np.clip(cells, 0, _GRID - 1)
        density_G += np.bincount(inside, residual_N * weight_N, minlength=_GRID)
    return np.asarray(dct(density_G / len(residual_N), norm="ortho"))


def _smoothed(coefficients_G: NDArray[np.float64], bandwidth: float) -> float:
    from scipy.fft import idct

    # Cosines are the eigenfunctions of smoothing with a Gaussian that is reflected at 0 and 1.
    damping_G = np.exp(-((np.pi * np.arange(_GRID) * bandwidth) ** 2) / 2)
    return float(np.abs(idct(coefficients_G * damping_G, norm="ortho")).sum())


def _bandwidth(coefficients_G: NDArray[np.float64]) -> float:
    """Return the bandwidth that equals the smoothed error, from above."""
    low, high = 0.0, 1.0
    # The smoothed error falls as the bandwidth grows, so the two meet once.
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _smoothed(coefficients_G, middle) > middle:
            low = middle
        else:
            high = middle
    return high


@component
class KolmogorovSmirnovCalibrationError:
    """Largest cumulated gap between confidence and correctness, over all confidences.

    The sum of correctness minus confidence of the images up to a confidence, divided by N, is
    followed from the lowest to the highest confidence; its largest absolute value counts. Equal
    confidences (to 12 digits) enter together, saturated ones like all others. A gap of one sign
    everywhere gives the absolute mean gap. Gaps of opposite sign cancel in part: less than in the
    mean gap, more than in bins.

    Input: logits (N, C) float32, target (N,) int64; N >= 1.
    Output: fraction in [0, 1], lower is better. Undefined for N = 0.
    Differences: tools that let equal confidences enter one by one depend on the order of images.
    Reference: Gupta et al. 2021, arXiv:2006.12800.

    Example:
        >>> import numpy as np
        >>> predictions = ClassificationPredictions(
        ...     logits=np.log(np.array([[0.75, 0.25], [0.5, 0.5]], dtype=np.float32)),
        ...     target=np.array([1, 0]),
        ...     index=np.arange(2),
        ... )
        >>> round(KolmogorovSmirnovCalibrationError()(predictions), 6)
        0.25
    """

    name: ClassVar[str] = "calibration.ks"
    version: ClassVar[int] = 1
    unit: ClassVar[str] = "fraction"
    better: ClassVar[Better] = Better.LOWER
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    is_fast: ClassVar[bool] = False

    def __call__(self, predictions: ClassificationPredictions) -> float | Undefined:
        """Return the value, or why it is undefined."""
        if not len(predictions):
            return NO_IMAGES
        values = derived(predictions)
        sum_N = np.cumsum((values.correct - values.confidence)[values.order])
        ends = np.append(np.flatnonzero(np.diff(values.ascending)), len(sum_N) - 1)
        return float(np.abs(sum_N[ends]).max() / len(sum_N))

    def terms(self, predictions: ClassificationPredictions) -> None:
        """A maximum over confidences is no mean over images: there are no terms."""
