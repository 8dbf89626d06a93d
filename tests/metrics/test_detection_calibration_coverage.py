"""Do stated intervals of detection errors contain the truth? Planted detectors."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "detection_coverage.py"


@pytest.fixture(scope="module")
def script():
    """Return the simulation of detectors with known calibration error."""
    spec = importlib.util.spec_from_file_location("detection_coverage_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["detection_coverage_benchmark"] = module
    spec.loader.exec_module(module)
    return module


def refutes(covered, trials, nominal=0.9):
    """Return whether a coverage of ``nominal`` falls this low once in 1,000 times or less."""
    return covered < nominal - 3.1 * math.sqrt(nominal * (1 - nominal) / trials)


FAST = [
    ("d_ece", "sharp", "calibrated", 0.0, 72, 12, 0.3, 1),
    ("d_ece", "extreme", "over-confident", 0.05, 300, 12, 0.3, 1),
    ("laece", "low", "in turn", 0.1, 72, 12, 0.3, 3),
    ("laace", "sharp", "calibrated", 0.0, 300, 3, 0.3, 3),
]
SLOW = [
    (metric, scores, shape, error, images, 12, 0.3, classes)
    for metric, classes in (("d_ece", 1), ("laece", 3), ("laace", 3))
    for scores in ("flat", "sharp", "low", "extreme")
    for shape, error in (("calibrated", 0.0), ("over-confident", 0.05))
    for images in (72, 300)
]


@pytest.mark.parametrize("case", FAST, ids=["-".join(map(str, case)) for case in FAST])
def test_detection_errors_are_covered(script, case):
    found = script.simulate(script.World(*case), 40, replicates=200)
    assert found.stated > 20
    assert not refutes(found.covered, found.stated), found


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=["-".join(map(str, case)) for case in SLOW])
def test_detection_errors_are_covered_in_many_worlds(script, case):
    found = script.simulate(script.World(*case), 100, replicates=200)
    assert found.stated < 25 or not refutes(found.covered, found.stated), found


def test_the_truth_of_a_planted_detector_is_what_was_planted(script):
    truth = script.truth(script.World("d_ece", "flat", "over-confident", 0.05, 30, 3, 0.0))
    assert truth == pytest.approx(0.05, abs=1e-6)
    assert script.truth(script.World("laece", "low", "calibrated", 0.0, 30, 3, 0.0)) == 0
