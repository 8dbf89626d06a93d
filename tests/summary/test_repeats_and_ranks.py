"""Training noise over repeats, and ranks of recipes over networks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from shrinkproof.records import CLEAN, Cell
from shrinkproof.summary import summarize

from .worlds import FOG, candidates, exhibits, number, predictions, summary_of, with_settings

COUNT = 200
TARGET = np.zeros(COUNT, np.int64)


def missing(count: int):
    return predictions(np.where(np.arange(COUNT) < count, 1, 0), TARGET)


def rows_of(errors: dict[str, int]) -> dict:
    """Errors under clean; twice as many under each fog."""
    return {
        (key, condition): missing(count if condition.is_clean else 2 * count)
        for key, count in errors.items()
        for condition in (CLEAN, *FOG)
    }


@pytest.fixture(scope="module")
def repeats():
    people = candidates(["small", "small#1", "small#2", "once"])
    errors = {"net/baseline": 10, "net/small": 20, "net/small#1": 22, "net/small#2": 27}
    return summary_of(people, rows_of({**errors, "net/once": 15}))


def test_mean_sd_and_t_interval_by_hand(repeats) -> None:
    accuracies = np.array([0.9, 0.89, 0.865])
    mean = number(repeats, "net/small", "across_repeats.accuracy.top1")
    sd = number(repeats, "net/small", "across_repeats_sd.accuracy.top1")
    assert mean.value == pytest.approx(accuracies.mean())
    assert sd.value == pytest.approx(accuracies.std(ddof=1))
    half = stats.t.ppf(0.975, 2) * accuracies.std(ddof=1) / np.sqrt(3)
    assert (mean.low, mean.high) == pytest.approx((mean.value - half, mean.value + half))
    assert mean.interval == "t-repeats"
    assert mean.reason == "over 3 trainings; it is about training noise, not about images"
    assert (mean.better, sd.better) == ("higher", "none")


def test_errors_under_corruption_are_averaged_over_repeats_too(repeats) -> None:
    found = number(repeats, "net/small", "across_repeats.robustness.mean_error", "corrupted")
    assert found.value == pytest.approx(2 * (20 + 22 + 27) / 3 / COUNT)
    ece = number(repeats, "net/small", "across_repeats.calibration.ece", "corrupted")
    assert ece.low is not None


def test_only_the_first_of_several_repeats_has_such_numbers(repeats) -> None:
    hits = {
        row.candidate for row in repeats.rows if row.measurement.metric.startswith("across_repeats")
    }
    assert hits == {"net/small"}
    # A comparison or a test is no quality of one training.
    names = {r.measurement.metric for r in repeats.rows}
    names = {name for name in names if name.startswith("across_repeats.")}
    assert not [n for n in names if "change." in n or "mcnemar" in n or "flips" in n]


def test_a_missing_repeat_leaves_no_mean() -> None:
    rows = rows_of({"net/baseline": 10, "net/small": 20, "net/small#1": 22})
    del rows["net/small#1", FOG[0]]
    summary = summary_of(candidates(["small", "small#1"]), rows)
    found = number(summary, "net/small", "across_repeats.accuracy.top1", "corrupted")
    assert found.value is None
    assert found.reason.endswith("only 1 of 2 repeats have this number")
    assert number(summary, "net/small", "across_repeats.accuracy.top1").value is not None


# ranks


def networks(count: int, recipes: list[str]) -> tuple[list, dict[str, int]]:
    """Every network ranks the recipes by their position, the baseline first."""
    people, errors = [], {}
    for k in range(count):
        people += candidates(recipes, model=f"net{k}")
        for position, name in enumerate(["baseline", *recipes]):
            errors[f"net{k}/{name}"] = 10 + k + 5 * position
    return people, errors


def test_ranks_over_three_networks_by_hand() -> None:
    people, errors = networks(3, ["a", "b", "c"])
    found = {e["metric"]: e for e in exhibits(summary_of(people, rows_of(errors)), "ranks")}
    assert list(found) == [
        "accuracy.top1@clean",
        "robustness.mean_error@corrupted",
        "calibration.ece@clean",
    ]
    test = found["accuracy.top1@clean"]["test"]
    assert test["names"] == ["baseline", "a", "b", "c"]
    assert test["mean_ranks"] == [1, 2, 3, 4]
    assert test["chi2"] == pytest.approx(9)  # complete agreement: B (T - 1)
    assert test["is_low_power"]
    assert "low power" in test["caution"]
    assert found["robustness.mean_error@corrupted"]["test"]["mean_ranks"] == [1, 2, 3, 4]
    json.dumps(list(found.values()), allow_nan=False)


def test_recipes_that_a_network_lacks_are_named() -> None:
    people, errors = networks(2, ["a", "b", "c"])
    del errors["net1/b"]
    (found, *_) = exhibits(summary_of(people, rows_of(errors)), "ranks")
    assert found["left_out"] == ["b"]
    assert sorted(found["test"]["names"]) == ["a", "baseline", "c"]


@pytest.mark.parametrize(
    ("count", "recipes", "reason"),
    [(1, ["a", "b"], "at least 2 networks, got 1"), (2, ["a"], "at least 3 recipes")],
)
def test_too_little_for_a_rank_test(count: int, recipes: list[str], reason: str) -> None:
    people, errors = networks(count, recipes)
    for found in exhibits(summary_of(people, rows_of(errors)), "ranks"):
        assert found["test"] is None
        assert reason in found["reason"]


def test_ranks_of_numbers_without_predictions() -> None:
    # Results measured elsewhere: error rates only.
    people, errors = networks(3, ["a", "b"])
    cells = [
        Cell(f"{key}@{c}", key, "scores", "artifact", "report", c)
        for key in errors
        for c in (CLEAN, *FOG)
    ]

    def stored(key: str) -> dict[str, float]:
        return {"accuracy.top1": 1 - errors[key.partition("@")[0]] / COUNT}

    settings = with_settings(metrics=("accuracy.top1",), margins={"accuracy.top1": 0.01})
    summary = summarize(people, cells, lambda _: None, settings, stored)
    tests = [e["test"]["mean_ranks"] for e in exhibits(summary, "ranks")]
    assert tests == [[1, 2, 3], [1, 2, 3]]
    found = number(summary, "net0/a", "noninferior_p.accuracy.top1")
    assert found.value is None
