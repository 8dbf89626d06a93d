"""Numbers where something is missing: conditions, predictions, metrics, the select split."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from shrinkproof.metrics.spelling import metric_of
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, Cell, Condition
from shrinkproof.summary import Settings, Summary, summarize, winner_optimism

from .worlds import FOG, SETTINGS, candidates, exhibits, number, predictions, with_settings

BASE, OWN = "net/baseline", "net/small"
CONDITIONS = (CLEAN, *FOG)
TARGET = np.arange(120) % 3


def wrong(errors: int) -> ClassificationPredictions:
    predicted = TARGET.copy()
    predicted[:errors] = (predicted[:errors] + 1) % 3
    return predictions(predicted, TARGET)


def world(
    *,
    settings: Settings = SETTINGS,
    lost: Collection[str] = (),
    missing: Collection[str] = (),
    splits: Collection[str] = ("report",),
    select_errors: int = 10,
) -> Summary:
    """The baseline errs on 10, 20, 30 images, the candidate on 20, 40, 60.

    Args:
        settings: of the world.
        lost: cells that have numbers but no predictions.
        missing: cells that were not measured.
        splits: what was measured.
        select_errors: errors of everybody on clean images of the select split.
    """
    cells, known = [], {}
    for split in splits:
        for key, step in ((BASE, 10), (OWN, 20)):
            for place, condition in enumerate(CONDITIONS, start=1):
                name = f"{split}:{key}@{condition}"
                is_fitted = split == "select" and condition == CLEAN
                known[name] = wrong(select_errors if is_fitted else step * place)
                if name not in missing:
                    cells.append(Cell(name, key, "scores", "artifact", split, condition))

    def stored(key: str) -> dict[str, float]:
        return {name: float(metric_of(name)(known[key])) for name in settings.metrics}

    def read(key: str) -> ClassificationPredictions | None:
        return None if key in lost else known[key]

    return summarize(candidates(["small"]), cells, read, settings, stored)


def test_flips_are_no_mean_where_the_baseline_lacks_a_condition() -> None:
    summary = world(missing=[f"report:{BASE}@fog:2"])
    # Under fog:1 it is 20 of 120; half of that is the mean of nothing.
    found = number(summary, OWN, "flips.negative", "corrupted")
    assert found.value is None
    assert "missing: fog:2" in found.reason
    assert number(summary, OWN, "accuracy.top1", "corrupted").value == pytest.approx(1 - 50 / 120)


@pytest.mark.parametrize("who", [BASE, OWN])
def test_lost_predictions_of_one_cell_cost_no_other_number(who: str) -> None:
    summary = world(lost=[f"report:{who}@fog:2"])
    for metric in ("accuracy.top1", "robustness.mean_error", "calibration.ece"):
        found = number(summary, who, metric, "corrupted")
        assert found.value is None
        assert "missing: fog:2" in found.reason
    other = OWN if who == BASE else BASE
    assert number(summary, other, "robustness.mean_error", "corrupted").value is not None
    change = number(summary, OWN, "change.accuracy.top1")
    assert change.value == pytest.approx(-10 / 120)


def test_numbers_alone_still_have_means() -> None:
    every = [f"report:{key}@{c}" for key in (BASE, OWN) for c in CONDITIONS]
    summary = world(lost=every)
    found = number(summary, OWN, "robustness.mean_error", "corrupted")
    assert found.value == pytest.approx(50 / 120)
    assert number(summary, OWN, "calibration.temperature") is None


def test_a_study_without_accuracy_still_has_errors_and_exemplars() -> None:
    settings = with_settings(metrics=("calibration.ece",))
    summary = world(settings=settings)
    found = number(summary, OWN, "robustness.mean_error", "corrupted")
    assert found.value == pytest.approx(50 / 120)
    (hardest,) = exhibits(summary, "exemplars")
    # 10 to 20, 20 to 40, and 30 to 60.
    assert hardest["affected"] == 50


def test_the_winners_optimism_needs_no_accuracy_metric() -> None:
    def optimism(metrics: tuple[str, ...]) -> float | None:
        cells = [
            Cell(f"{key}@{c}", key, "scores", "artifact", "report", c)
            for key in (BASE, OWN)
            for c in CONDITIONS
        ]
        known = {
            f"{key}@{c}": wrong(12 if key == BASE else 13)
            for key in (BASE, OWN)
            for c in CONDITIONS
        }
        settings = with_settings(metrics=metrics)
        return winner_optimism(candidates(["small"]), cells, known.get, settings, "report")

    assert optimism(("calibration.ece",)) == optimism(("accuracy.top1",)) is not None


# temperature


def test_without_a_select_split_the_temperature_says_why_there_is_none() -> None:
    found = number(world(), OWN, "calibration.temperature")
    assert found.value is None
    assert "fitted on the select split, and nothing was measured there" in found.reason


def test_a_temperature_is_not_judged_on_the_images_that_chose_it() -> None:
    summary = world(splits=("select",))
    found = number(summary, OWN, "calibration.temperature")
    assert found.value is not None
    assert "no other images" in found.reason
    assert not [r for r in summary.rows if "scaled" in r.measurement.metric]


def test_a_temperature_without_a_minimum_is_told_beside_every_number_that_uses_it() -> None:
    # Without an error on the select split the best temperature is 0.
    summary = world(splits=("select", "report"), select_errors=0)
    scaled = [r.measurement for r in summary.rows if "scaled" in r.measurement.metric]
    assert {"scaled.calibration.ece", "change.scaled.calibration.ece"} <= {m.metric for m in scaled}
    assert all("is 0.001: every image is classified correctly" in m.reason for m in scaled)
    fine = world(splits=("select", "report"))
    assert not [r for r in fine.rows if "temperature of" in r.measurement.reason]


def test_scaled_errors_have_a_null_level_of_their_own() -> None:
    summary = world(splits=("select", "report"))
    plain = number_on(summary, "null_mean.calibration.ece")
    own = number_on(summary, "null_mean.scaled.calibration.ece")
    carried = number_on(summary, "null_mean.scaled_by_baseline.calibration.ece")
    assert plain != own == carried
    assert number_on(summary, "change.null_mean.scaled.calibration.ece") == 0
    metrics = {r.measurement.metric for r in summary.rows}
    assert not [m for m in metrics if m.startswith("change") and "scaled_by_baseline" in m]


def number_on(summary: Summary, metric: str, condition: Condition = CLEAN) -> float | None:
    (found,) = (
        r.measurement.value
        for r in summary.rows
        if (r.split, r.candidate, r.measurement.metric, r.condition)
        == ("report", OWN, metric, condition.corruption)
    )
    return found
