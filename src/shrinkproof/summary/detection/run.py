"""A run of detectors: who is compared with whom, operating points, and calibrations of scores."""

from __future__ import annotations

from dataclasses import dataclass, field

from shrinkproof.metrics.detection.calibrators import Calibrator, Kind, fit
from shrinkproof.metrics.detection.operating import OperatingPoint, operating_point
from shrinkproof.predictions import DetectionPredictions
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN
from shrinkproof.summary.detection.split import DetectionSplit
from shrinkproof.summary.run import Run
from shrinkproof.summary.values import Settings


@dataclass(eq=False)
class DetectionRun:
    """Candidates and splits of a run of detectors.

    Attributes:
        common: candidates, and the numbers that families over all of them read.
        splits: what was measured, by split.
    """

    common: Run
    splits: dict[str, DetectionSplit]
    _calibrators: dict[tuple[Kind, str], Calibrator | Undefined] = field(default_factory=dict)
    _points: dict[str, OperatingPoint | Undefined] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """What derived numbers depend on."""
        return self.common.settings

    def calibrator(self, kind: Kind, candidate: str) -> Calibrator | Undefined:
        """Return the calibration that fits a candidate's clean images of the select split.

        Args:
            kind: ``temperature``, ``platt`` or ``isotonic``.
            candidate: its key.
        """
        if (kind, candidate) not in self._calibrators:
            chosen_on = self._chosen_on(candidate, "a calibration is fitted")
            found = chosen_on if isinstance(chosen_on, Undefined) else fit(kind, chosen_on)
            self._calibrators[kind, candidate] = found
        return self._calibrators[kind, candidate]

    def operating_point(self, candidate: str) -> OperatingPoint | Undefined:
        """Return the score threshold of a candidate's model, that of its baseline."""
        baseline = self.common.baseline(self.common.by_key[candidate]).key
        if baseline not in self._points:
            chosen_on = self._chosen_on(baseline, "an operating point is chosen")
            found = chosen_on if isinstance(chosen_on, Undefined) else operating_point(chosen_on)
            self._points[baseline] = found
        return self._points[baseline]

    def _chosen_on(self, candidate: str, doing: str) -> DetectionPredictions | Undefined:
        """Return the clean detections of the select split, or why there are none."""
        split = self.splits.get("select")
        if split is None:
            return Undefined(
                f"{doing} on the select split, and nothing was measured there; on the images that "
                "judge it, it would look too good"
            )
        found = split.predictions(candidate, CLEAN)
        if found is None:
            return Undefined(
                f"{doing} on clean images of the select split; there are no detections of "
                f"{self.common.by_key[candidate].label}"
            )
        return found
