"""Open set: predictions of one condition -> one number."""

from shrinkproof.registry import Registry

METRICS = Registry(
    "metric",
    "shrinkproof.metrics",
    {
        "accuracy.brier": "shrinkproof.metrics.accuracy:Brier",
        "accuracy.nll": "shrinkproof.metrics.accuracy:NLL",
        "accuracy.top1": "shrinkproof.metrics.accuracy:Top1",
        "calibration.ece": "shrinkproof.metrics.calibration:ExpectedCalibrationError",
        "calibration.ece_equal_mass": "shrinkproof.metrics.calibration:EqualMassCalibrationError",
    },
)
