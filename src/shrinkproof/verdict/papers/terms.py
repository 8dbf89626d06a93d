"""What the claims of all papers share: the margins, the calibration errors, and common controls."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from shrinkproof.verdict.claims import Effect

WORTH: Final = 0.005
"""Smallest improvement worth the name, of calibration errors, accuracies and error rates.

Half a point. Of one setting, trainings with other seeds scatter by a tenth of a point on clean
images and by half a point to one under corruption, so less is no effect to rely on, and nobody
would change a deployed network for it.
"""

KEPT: Final = 0.01
"""Largest loss that counts as kept, of calibration errors, accuracies and error rates.

One point, one image of a hundred: where numbers are published in whole percent, a network that
loses less is printed as equal.
"""

SAME: Final = 0.1
"""How far a relative change may be from a published one to be the same number.

Ten points of a reduction in percent: of a calibration error of five points that is the half point
of `WORTH`.
"""

ECE: Final = "calibration.ece[bins=10]"
"""Ten bins of equal width."""

ECE_EQUAL_MASS: Final = "calibration.ece_equal_mass[bins=10]"
"""Ten bins of equal mass."""

ECE_15: Final = "calibration.ece"
"""Fifteen bins of equal width."""

SCALED_ECE: Final = f"scaled.{ECE}"
"""What calibration error is left after scaling with the own temperature."""

ACCURACY: Final = "accuracy.top1@clean"

MEAN_ERROR: Final = "robustness.mean_error"


def from_control(effect: Effect) -> Effect:
    """Return an effect against the dense network that was trained as long."""
    return replace(effect, against="control")


def of_number(effect: Effect, *selectors: str) -> tuple[Effect, ...]:
    """Return an effect on other numbers."""
    return tuple(replace(effect, selector=selector) for selector in selectors)
