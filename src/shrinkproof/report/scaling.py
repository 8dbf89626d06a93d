"""What one temperature does to calibration: fitted on one split, judged on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shrinkproof.report.rows import Cell, cell_of
from shrinkproof.report.view import CLEAN, Column, View

_TEMPERATURE: Final = "calibration.temperature"
_PLAIN: Final = Column("calibration.ece", CLEAN)
_SCALED: Final = Column("calibration.ece_scaled", CLEAN)

SCALING: Final = (_TEMPERATURE, _SCALED.metric)
"""Metrics that stand in this table."""


@dataclass(frozen=True, slots=True)
class ScalingLine:
    """One candidate: its temperature, and its calibration error without and with it."""

    name: str
    temperature: Cell
    plain: Cell
    scaled: Cell


def scaling(view: View) -> list[ScalingLine]:
    """Return one line per candidate; none where no calibration was judged after scaling.

    Temperatures are fitted on the select split (Guo et al. 2017); errors are printed ones.
    """
    if not view.known([_SCALED]):
        return []
    return [
        ScalingLine(
            name=view.short[label],
            temperature=cell_of(view.rows.find(label, _TEMPERATURE, CLEAN, ("select",))),
            plain=view.value(label, _PLAIN),
            scaled=view.value(label, _SCALED),
        )
        for label in view.labels
    ]
