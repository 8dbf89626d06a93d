"""How far a sweep can go, and what goes together with accuracy."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, Condition
from shrinkproof.summary import Sweep

from .worlds import FOG, candidates, exhibits, predictions, summary_of, with_settings

COUNT = 1000
TARGET = np.zeros(COUNT, np.int64)
SWEEP = Sweep("prune{ratio}", "ratio", ((0.3, "prune0.3"), (0.5, "prune0.5"), (0.7, "prune0.7")))
RECIPES = [name for _, name in SWEEP.members]
SNOW = Condition("snow", 1)


def missing(count: int) -> ClassificationPredictions:
    return predictions(np.where(np.arange(COUNT) < count, 1, 0), TARGET)


def world(clean: list[int], fog: list[int]) -> dict:
    """Errors of the three recipes; those of the baseline are 0."""
    rows = {("net/baseline", c): missing(0) for c in (CLEAN, *FOG)}
    for name, *errors in zip(RECIPES, clean, fog, strict=True):
        rows[f"net/{name}", CLEAN] = missing(errors[0])
        rows |= {(f"net/{name}", c): missing(errors[1]) for c in FOG}
    return rows


def potential(rows: dict, **changes: object) -> dict:
    settings = with_settings(**{"sweeps": (SWEEP,), "margins": {"accuracy.top1": 0.05}, **changes})
    found = exhibits(summary_of(candidates(RECIPES), rows, settings), "potential")
    assert len(found) == 1
    json.dumps(found)
    return found[0]


def row(found: dict, condition: str) -> dict:
    (hit,) = [r for r in found["rows"] if r["condition"] == condition]
    return hit


def test_potential_stops_before_the_first_violation() -> None:
    found = potential(world([10, 20, 100], [20, 100, 300]))
    assert (found["parameter"], found["values"], found["margin"]) == ("ratio", "nominal", 0.05)
    assert [r["condition"] for r in found["rows"]] == ["clean", "fog", "corrupted"]
    clean = row(found, "clean")
    assert (clean["potential"], clean["stopped"]) == (0.5, 0.7)
    assert clean["reason"] == "accuracy is 10.00 points lower, the margin is 5"
    assert row(found, "fog")["potential"] == row(found, "corrupted")["potential"] == 0.3
    assert [step["change"] for step in clean["steps"]] == pytest.approx([-0.01, -0.02, -0.1])


def test_the_interval_decides_not_the_estimate() -> None:
    # 40 of 1,000 lost: 4 points, but up to 5.3 cannot be ruled out.
    clean = row(potential(world([40, 45, 48], [0, 0, 0])), "clean")
    assert (clean["potential"], clean["stopped"]) == (None, 0.3)
    assert clean["reason"].startswith("with these images up to 5.")


def test_a_later_recovery_does_not_count() -> None:
    clean = row(potential(world([10, 100, 10], [0, 0, 0])), "clean")
    assert (clean["potential"], clean["stopped"]) == (0.3, 0.5)


def test_a_sweep_within_the_margin_ends_at_its_last_value() -> None:
    clean = row(potential(world([10, 20, 30], [0, 0, 0])), "clean")
    assert (clean["potential"], clean["stopped"]) == (0.7, None)
    assert clean["reason"] == "every setting of the sweep is within the margin"


def test_what_was_not_measured_stops_the_walk() -> None:
    rows = world([10, 20, 30], [10, 10, 10])
    del rows["net/prune0.5", FOG[1]]
    found = potential(rows)
    assert row(found, "clean")["potential"] == 0.7
    for place in ("fog", "corrupted"):
        assert (row(found, place)["potential"], row(found, place)["stopped"]) == (0.3, 0.5)
        assert "not measured under all these conditions" in row(found, place)["reason"]


def test_sweeps_over_levels_go_from_many_to_few() -> None:
    sweep = Sweep("cluster{levels}", "levels", ((4, "prune0.7"), (8, "prune0.5"), (16, "prune0.3")))
    clean = row(potential(world([10, 20, 100], [0, 0, 0]), sweeps=(sweep,)), "clean")
    assert (clean["potential"], clean["stopped"]) == (8, 4)


def test_what_a_study_calls_its_parameter_does_not_turn_the_walk_around() -> None:
    sweep = Sweep("cluster{n}", "n", ((4, "prune0.7"), (8, "prune0.5"), (16, "prune0.3")))
    people = [
        replace(c, steps=({"name": "cluster", "version": 1, "fields": {"levels": levels}},))
        if levels
        else c
        for c, levels in zip(candidates(RECIPES), (0, 16, 8, 4), strict=True)
    ]
    settings = with_settings(sweeps=(sweep,), margins={"accuracy.top1": 0.05})
    summary = summary_of(people, world([10, 20, 100], [0, 0, 0]), settings)
    clean = row(exhibits(summary, "potential")[0], "clean")
    assert (clean["potential"], clean["stopped"]) == (8, 4)


def test_without_a_margin_nothing_is_claimed() -> None:
    found = potential(world([10, 20, 100], [0, 0, 0]), margins={})
    assert found["rows"] == []
    assert found["reason"].startswith("no margin stated")


# correlations


def test_error_under_corruption_goes_with_accuracy_by_hand() -> None:
    summary = summary_of(candidates(RECIPES), world([10, 20, 30], [100, 200, 300]))
    found = {e["y"]: e for e in exhibits(summary, "correlations")}
    error = found["robustness.mean_error@corrupted"]
    assert error["x"] == "accuracy.top1@clean"
    assert error["candidates"] == [f"net/{name}" for name in RECIPES]
    assert error["pearson"]["value"] == error["spearman"]["value"] == pytest.approx(-1)
    assert error["points"][0] == pytest.approx([0.99, 0.1])
    assert "only 3 candidates" in error["caveat"]
    ece = found["change.calibration.ece@clean"]
    # Confidence .9 throughout: gaps .09, .08, .07 of accuracies .99, .98, .97, the baseline's .1.
    assert [y for _, y in ece["points"]] == pytest.approx([-0.01, -0.02, -0.03], abs=1e-6)
    assert ece["pearson"]["value"] == pytest.approx(1)
    json.dumps(list(found.values()))


def test_what_has_no_number_is_named() -> None:
    summary = summary_of(candidates(RECIPES), world([10, 20, 30], [100, 200, 300]))
    (mce,) = [e for e in exhibits(summary, "correlations") if e["y"].startswith("robustness.mce")]
    assert mce["left_out"] == [f"net/{name}" for name in RECIPES]
    assert "at least 3 candidates, got 0" in mce["reason"]
