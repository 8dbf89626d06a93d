"""Derived numbers from predictions, without a run directory."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, STANDARD_15, Candidate, Cell, Condition
from shrinkproof.summary import Settings, summarize, winner_optimism

FOG = (Condition("fog", 1), Condition("fog", 2))
SETTINGS = Settings("artifact", (CLEAN, *FOG), ("accuracy.top1", "calibration.ece"), 200, 0)


def candidates(count: int) -> list[Candidate]:
    first = Candidate("c0", "net", "baseline", role="baseline")
    return [first, *(Candidate(f"c{k}", "net", f"r{k}", control="c0") for k in range(1, count))]


def predictions(correct: np.ndarray) -> ClassificationPredictions:
    """Two classes, confidence .9 in the true class or in the other one."""
    sure = np.log(0.9) - np.log(0.1)
    logits = np.where(correct, sure, -sure)
    return ClassificationPredictions(
        np.stack([logits, np.zeros(len(correct))], axis=1).astype(np.float32),
        np.zeros(len(correct), np.int64),
        np.arange(len(correct)),
    )


def world(rows: dict[tuple[str, Condition], np.ndarray], split: str = "report"):
    cells = [
        Cell(f"{key}-{condition}", key, "scores", "artifact", split, condition)
        for key, condition in rows
    ]
    stored = {f"{k}-{c}": predictions(correct) for (k, c), correct in rows.items()}
    return cells, stored.get


def found(rows, metric: str, candidate: str, condition: str = "corrupted", count: int = 2):
    cells, read = world(rows)
    derived = summarize(candidates(count), cells, read, SETTINGS).rows
    hits = [
        d.measurement
        for d in derived
        if (d.candidate, d.measurement.metric, d.condition) == (candidate, metric, condition)
    ]
    assert len(hits) <= 1
    return hits[0] if hits else None


def by_hand() -> dict[tuple[str, Condition], np.ndarray]:
    """100 images; errors of c0: 10, 20, 40; of c1: 10, 30, 60."""
    image = np.arange(100)
    errors = {
        ("c0", CLEAN): 10,
        ("c0", FOG[0]): 20,
        ("c0", FOG[1]): 40,
        ("c1", CLEAN): 10,
        ("c1", FOG[0]): 30,
        ("c1", FOG[1]): 60,
    }
    return {key: image >= count for key, count in errors.items()}


def test_means_over_conditions_by_hand() -> None:
    assert found(by_hand(), "robustness.mean_error", "c0").value == pytest.approx(0.3)
    assert found(by_hand(), "robustness.mean_error", "c1").value == pytest.approx(0.45)
    assert found(by_hand(), "accuracy.top1", "c1").value == pytest.approx(0.55)
    # ECE under fog: |.9 - .8| and |.9 - .6|, their mean; no interval for a mean of ECEs.
    ece = found(by_hand(), "calibration.ece", "c0")
    assert ece.value == pytest.approx(0.2, abs=1e-6)
    assert ece.low is None
    assert "no interval" in ece.reason


def test_changes_are_candidate_minus_baseline_and_paired() -> None:
    change = found(by_hand(), "change.robustness.mean_error", "c1")
    assert change.value == pytest.approx(0.15)
    assert change.low is not None
    # 30 images carry the change: half of them in one condition, so sd is about .025.
    assert 0.08 < change.low < 0.15 < change.high < 0.22
    same = found(by_hand(), "change.accuracy.top1", "c1", "clean")
    assert same.value == 0


def test_mce_says_what_is_missing() -> None:
    mce = found(by_hand(), "robustness.mce", "c1")
    assert mce.value is None
    assert mce.basis == "derived"
    assert "gaussian_noise" in mce.reason


def all_fifteen(rare: int) -> dict[tuple[str, Condition], np.ndarray]:
    """100 images; c0 errs on 20, under pixelate on ``rare``, c1 on twice as many."""
    image = np.arange(100)
    rows = {}
    for candidate, times in (("c0", 1), ("c1", 2)):
        rows[candidate, CLEAN] = image >= 5
        for name in STANDARD_15:
            errors = times * (rare if name == "pixelate" else 20)
            for severity in range(1, 6):
                rows[candidate, Condition(name, severity)] = image >= errors
    return rows


@pytest.mark.parametrize("rare", [4, 5])
def test_mce_names_where_the_reference_hardly_errs(rare: int) -> None:
    rows = all_fifteen(rare)
    cells, read = world(rows)
    wanted = dict.fromkeys(condition for _, condition in rows)
    settings = Settings("artifact", tuple(wanted), ("accuracy.top1",), 100, 0)
    numbers = {
        d.candidate: d.measurement
        for d in summarize(candidates(2), cells, read, settings).rows
        if d.measurement.metric == "robustness.mce"
    }
    assert numbers["c0"].value == pytest.approx(1)
    assert numbers["c1"].value == pytest.approx(2)
    assert numbers["c1"].reason.startswith("reference: net/baseline")
    assert ("below 5 % under pixelate:" in numbers["c1"].reason) == (rare == 4)


def test_a_missing_condition_leaves_no_mean() -> None:
    rows = by_hand()
    del rows["c1", FOG[1]]
    missing = found(rows, "robustness.mean_error", "c1")
    assert missing.value is None
    assert "missing: fog:2" in missing.reason
    assert found(rows, "change.robustness.mean_error", "c1") is None
    assert found(rows, "robustness.mean_error", "c0") is not None


def test_one_image_is_one_unit_however_many_conditions_show_it() -> None:
    # The same errors under both fogs: the interval must be as wide as that of one condition.
    rng = np.random.default_rng(1)
    correct = rng.random(2000) > 0.3
    rows = {("c0", condition): correct for condition in (CLEAN, *FOG)}
    mean = found(rows, "robustness.mean_error", "c0", count=1)
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 2000), rel=0.15)


def test_winner_among_equals_is_too_good_by_the_known_amount() -> None:
    # 20 truly equal candidates at 10 % error on 2,000 images: the winner shows about 8.8 %.
    rng = np.random.default_rng(0)
    rows = {(f"c{k}", CLEAN): rng.random(2000) > 0.1 for k in range(20)}
    cells, read = world(rows)
    settings = Settings("artifact", (CLEAN,), ("accuracy.top1",), 1000, 0)
    bias = winner_optimism(candidates(20), cells, read, settings, "report")
    # sd of a mean is .0067; the expected minimum of 20 normal values is 1.87 sd below.
    assert bias == pytest.approx(1.87 * 0.0067, rel=0.1)


def test_identical_candidates_leave_less_room_for_luck() -> None:
    correct = np.random.default_rng(0).random(2000) > 0.1
    cells, read = world({(f"c{k}", CLEAN): correct for k in range(20)})
    settings = Settings("artifact", (CLEAN,), ("accuracy.top1",), 1000, 0)
    bias = winner_optimism(candidates(20), cells, read, settings, "report")
    assert abs(bias) < 0.001


def test_one_candidate_has_no_winner() -> None:
    cells, read = world({("c0", CLEAN): np.ones(50, bool)})
    assert winner_optimism(candidates(1), cells, read, SETTINGS, "report") is None
