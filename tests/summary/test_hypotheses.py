"""P-values against the baseline, families, null levels: worlds counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN
from shrinkproof.summary import hypotheses

from .worlds import FOG, candidates, number, predictions, summary_of, with_settings

TARGET = np.repeat([0, 1], 100)
BASE = "net/baseline"
MARGINS = {"accuracy.top1": 0.1, "robustness.mean_error": 0.1}


def missing(count: int) -> ClassificationPredictions:
    """Miss the first images."""
    return predictions(np.where(np.arange(200) < count, 2, TARGET), TARGET)


def world() -> dict:
    """The baseline is right everywhere; ``mild`` misses 2 clean images and ``hard`` 40."""
    rows = {}
    for key, clean, fog in ((BASE, 0, 0), ("net/mild", 2, 4), ("net/hard", 40, 80)):
        rows[key, CLEAN] = missing(clean)
        rows[key, FOG[0]] = missing(fog)
        rows[key, FOG[1]] = missing(clean)
    return rows


@pytest.fixture(scope="module")
def summary():
    return summary_of(candidates(["mild", "hard"]), world(), with_settings(margins=MARGINS))


def test_mcnemar_of_two_discordant_images_is_one_half(summary) -> None:
    found = number(summary, "net/mild", "mcnemar_p.accuracy.top1")
    assert found.value == pytest.approx(0.5)  # 2 * (1/2)^2
    assert (found.unit, found.better) == ("probability", "none")
    assert "mcnemar-exact, 2 units" in found.reason


def test_corrupted_conditions_of_an_image_are_swapped_together(summary) -> None:
    # mild misses images 0 and 1 twice, 2 and 3 once: the signs of 2, 2, 1, 1 all agree.
    found = number(summary, "net/mild", "mcnemar_p.accuracy.top1", "corrupted")
    assert found.value == pytest.approx(2 / 2**4)
    assert "all 2 conditions of an image swapped together" in found.reason


def test_holm_is_over_all_recipes_clean_and_corrupted(summary) -> None:
    found = number(summary, "net/mild", "mcnemar_p_holm.accuracy.top1")
    assert found.value == pytest.approx(0.5)  # the largest of the four
    corrupted = number(summary, "net/mild", "mcnemar_p_holm.accuracy.top1", "corrupted")
    assert corrupted.value == pytest.approx(2 * 2 / 2**4)
    assert corrupted.reason == (
        "Holm over 4 tests: all recipes of net on the report split, clean and corrupted"
    )
    hard = number(summary, "net/hard", "mcnemar_p_holm.accuracy.top1")
    assert hard.value == pytest.approx(3 * 2 / 2**40)


def test_kept_within_the_margin_and_not(summary) -> None:
    mild = number(summary, "net/mild", "noninferior_p.accuracy.top1")
    assert mild.value < 0.001
    assert "margin 0.1" in mild.reason
    assert number(summary, "net/hard", "noninferior_p.accuracy.top1").value > 0.9
    assert number(summary, "net/mild", "equivalent_p.accuracy.top1").value < 0.001
    assert number(summary, "net/hard", "equivalent_p.accuracy.top1").value > 0.9
    assert number(summary, "net/hard", "noninferior_p_holm.accuracy.top1").value > 0.9


def test_errors_are_kept_when_they_do_not_rise(summary) -> None:
    # A lower error is better: hard adds 30 points of error, mild 1.5.
    hard = number(summary, "net/hard", "noninferior_p.robustness.mean_error", "corrupted")
    assert hard.value > 0.99
    mild = number(summary, "net/mild", "noninferior_p.robustness.mean_error", "corrupted")
    assert mild.value is None or mild.value < 0.05
    assert number(summary, "net/mild", "noninferior_p.robustness.mean_error") is None


def test_no_margin_no_claim_of_being_kept() -> None:
    summary = summary_of(candidates(["mild", "hard"]), world())
    names = {row.measurement.metric for row in summary.rows}
    assert "mcnemar_p.accuracy.top1" in names
    assert not [n for n in names if n.startswith(("noninferior", "equivalent"))]


def test_a_metric_that_is_no_mean_has_no_such_test() -> None:
    settings = with_settings(margins={"calibration.ece": 0.02})
    summary = summary_of(candidates(["mild"]), world(), settings)
    found = number(summary, "net/mild", "noninferior_p.calibration.ece")
    assert found.value is None
    assert "needs a mean over images" in found.reason


def test_groups_are_swapped_whole() -> None:
    groups = np.repeat(np.arange(20), 10).astype(str)
    rows = {
        key: ClassificationPredictions(p.logits, p.target, p.index, groups)
        for key, p in world().items()
    }
    summary = summary_of(candidates(["mild", "hard"]), rows, with_settings(margins=MARGINS))
    # Both images that mild misses are in one group: one fair coin.
    assert number(summary, "net/mild", "mcnemar_p.accuracy.top1").value == pytest.approx(1.0)
    hard = number(summary, "net/hard", "mcnemar_p.accuracy.top1", "corrupted")
    assert hard.value == pytest.approx(2 / 2**8)


def test_the_normal_limit_agrees_with_the_exact_distribution(monkeypatch) -> None:
    rng = np.random.default_rng(5)
    rows = {}
    for key, rate in ((BASE, 0.3), ("net/mild", 0.32)):
        for condition in (CLEAN, *FOG):
            wrong = rng.random(200) < rate
            rows[key, condition] = predictions(np.where(wrong, 2, TARGET), TARGET)

    def p_value() -> float:
        summary = summary_of(candidates(["mild"]), rows)
        return number(summary, "net/mild", "mcnemar_p.accuracy.top1", "corrupted").value

    exact = p_value()
    monkeypatch.setattr(hypotheses, "MOST_EXACT", 0)
    assert p_value() == pytest.approx(exact, abs=0.005)


# null levels


def calibrated(seed: int, shift: float = 0.0) -> ClassificationPredictions:
    """1,000 images of confidences 0.6 to 0.9; right as often, less a shift."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.6, 0.9, 1000)
    right = rng.random(1000) < confidence - shift
    logit = np.log(confidence / (1 - confidence))
    logits = np.stack([logit, np.zeros(1000)], axis=1).astype(np.float32)
    return ClassificationPredictions(logits, np.where(right, 0, 1), np.arange(1000))


@pytest.fixture(scope="module")
def calibration():
    rows = {}
    for condition in (CLEAN, *FOG):
        base = calibrated(1)
        wrong = calibrated(1, shift=0.2)
        rows[BASE, condition] = base
        # The same images and labels, but predicted over-confidently.
        sharper = np.where(wrong.target == base.target, 1.0, 3.0)[:, None]
        logits = (base.logits * sharper).astype(np.float32)
        rows["net/sure", condition] = ClassificationPredictions(logits, base.target, base.index)
    return summary_of(candidates(["sure"]), rows)


def test_null_level_stands_beside_each_calibration_error(calibration) -> None:
    mean = number(calibration, BASE, "null_mean.calibration.ece")
    q95 = number(calibration, BASE, "null_q95.calibration.ece")
    p = number(calibration, BASE, "null_p.calibration.ece")
    assert 0.01 < mean.value < q95.value < 0.06
    assert p.value > 0.01
    assert p.reason == "200 simulated models"
    assert number(calibration, "net/sure", "null_p.calibration.ece").value < 0.01


def test_a_change_carries_the_change_of_the_null_levels(calibration) -> None:
    change = number(calibration, "net/sure", "change.null_mean.calibration.ece")
    levels = [
        number(calibration, key, "null_mean.calibration.ece").value for key in ("net/sure", BASE)
    ]
    assert change.value == pytest.approx(levels[0] - levels[1])
    assert "perfectly calibrated" in change.reason


def test_p_values_have_no_mean_over_conditions(calibration) -> None:
    assert number(calibration, BASE, "null_p.calibration.ece", "corrupted") is None
    assert number(calibration, BASE, "null_q95.calibration.ece", "corrupted") is None
    assert number(calibration, BASE, "null_mean.calibration.ece", "corrupted") is not None
