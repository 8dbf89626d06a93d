"""Methods compared at matched achieved reduction, in worlds computed by hand."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, Cell
from shrinkproof.summary import Summary, Sweep, summarize
from shrinkproof.summary.matched import _is_repeated

from .worlds import FOG, candidates, exhibits, predictions, with_settings

COUNT = 400
TARGET = np.zeros(COUNT, np.int64)
PRUNE = Sweep("prune{ratio}", "ratio", ((0.5, "prune0.5"), (0.9, "prune0.9")))
BITS = Sweep("bits{n}", "n", ((4.0, "bits4"), (8.0, "bits8")))
RECIPES = ["prune0.5", "prune0.9", "bits4", "bits8"]
SETTINGS = with_settings(sweeps=(PRUNE, BITS), metrics=())

# achieved: prune 2x and 8x, bits 4x and 16x; errors of 400 clean images
BYTES = {"baseline": 1600, "prune0.5": 800, "prune0.9": 200, "bits8": 400, "bits4": 100}
ERRORS = {"baseline": 40, "prune0.5": 60, "prune0.9": 100, "bits8": 40, "bits4": 120}


def wrong(count: int) -> ClassificationPredictions:
    return predictions(np.where(np.arange(COUNT) < count, 1, 0), TARGET)


def world(
    sizes: dict = BYTES,
    errors: dict = ERRORS,
    settings=SETTINGS,
    axis: str = "cost.bytes_zip",
    evaluator: str = "size",
) -> Summary:
    people = candidates([name for name in errors if name != "baseline"])
    rows = {f"net/{name}@{c}": wrong(n) for name, n in errors.items() for c in (CLEAN, *FOG)}
    cells = [
        Cell(f"{p.key}@{c}", p.key, "scores", "artifact", "report", c)
        for p in people
        for c in (CLEAN, *FOG)
        if f"{p.key}@{c}" in rows
    ]
    costs = {f"net/{name}@cost": {axis: float(value)} for name, value in sizes.items()}
    cells += [
        Cell(key, key.removesuffix("@cost"), evaluator, "artifact", "", CLEAN) for key in costs
    ]
    return summarize(people, cells, rows.get, settings, lambda key: costs.get(key, {}))


def found(summary: Summary, axis: str = "cost.bytes_zip", metric: str = "accuracy.top1") -> dict:
    """Return the one comparison over a cost."""
    (hit,) = [e for e in exhibits(summary, "matched") if (e["axis"], e["metric"]) == (axis, metric)]
    json.dumps(hit, allow_nan=False)
    return hit


def test_sweeps_meet_at_the_reductions_of_their_members_by_hand() -> None:
    item = found(world())
    assert (item["first"], item["second"]) == ("prune{ratio}", "bits{n}")
    assert (item["model"], item["split"], item["condition"]) == ("net", "report", "clean")
    assert item["overlap"] == pytest.approx([1, 8])
    assert [row["at"] for row in item["rows"]] == pytest.approx([2, 4, 8])
    # prune: .85 at 2x, .75 at 8x, so .8 at 4x, half way in the logarithm
    assert [row["first"] for row in item["rows"]] == pytest.approx([0.85, 0.8, 0.75])
    # bits: .9 at 1x and 4x, .7 at 16x, so .9 at 2x and .8 at 8x
    assert [row["second"] for row in item["rows"]] == pytest.approx([0.9, 0.9, 0.8])
    assert [row["difference"] for row in item["rows"]] == pytest.approx([-0.05, -0.1, -0.05])


def test_the_error_under_corruption_is_compared_as_well() -> None:
    item = found(world(), metric="robustness.mean_error")
    assert item["condition"] == "corrupted"
    assert [row["difference"] for row in item["rows"]] == pytest.approx([0.05, 0.1, 0.05])


def test_differences_have_intervals_of_the_images_around_them() -> None:
    for row in found(world())["rows"]:
        assert row["low"] < row["difference"] < row["high"]
        # Half the width of a normal interval from the interpolated errors' own variance.
        assert (row["high"] - row["low"]) / 2 == pytest.approx(1.96 * spread(row["at"]), rel=0.25)


def spread(at: float) -> float:
    """Return the standard error of the difference, from what each image adds to it."""
    error = {name: (np.arange(COUNT) < count).astype(float) for name, count in ERRORS.items()}
    share = math.log(at / 2) / math.log(4)
    prune = (1 - share) * error["prune0.5"] + share * error["prune0.9"]
    begin, end, low, high = ("baseline", "bits8", 1, 4) if at <= 4 else ("bits8", "bits4", 4, 16)
    share = math.log(at / low) / math.log(high / low)
    bits = (1 - share) * error[begin] + share * error[end]
    return float((bits - prune).std() / math.sqrt(COUNT))


def test_what_leans_on_the_baseline_says_so() -> None:
    reasons = [row["reason"] for row in found(world())["rows"]]
    assert reasons == ["interpolated between the baseline and the mildest of bits{n}", "", ""]


def test_a_recipe_outside_of_sweeps_is_a_point_on_the_others_line() -> None:
    errors = {**{n: ERRORS[n] for n in ("baseline", "prune0.5", "prune0.9")}, "int8": 44}
    item = found(world({**BYTES, "int8": 400}, errors))
    assert (item["second"], item["overlap"]) == ("int8", pytest.approx([4, 4]))
    (row,) = item["rows"]
    assert (row["first"], row["second"]) == (pytest.approx(0.8), pytest.approx(0.89))


def test_without_overlap_both_ranges_are_named() -> None:
    errors = {**{n: ERRORS[n] for n in ("baseline", "prune0.5", "prune0.9")}, "int8": 44}
    item = found(world({**BYTES, "int8": 100}, errors))
    assert (item["rows"], item["overlap"]) == ([], None)
    assert item["reason"] == (
        "no overlap in cost.bytes_zip: prune{ratio} covers 1x to 8x, int8 covers 16x"
    )


def test_a_method_that_reduces_nothing_is_not_compared() -> None:
    item = found(world({**BYTES, "bits8": 1600, "bits4": 1700}))
    assert item["reason"] == "bits{n} does not reduce cost.bytes_zip"


def test_members_that_cannot_stand_on_the_line_are_named() -> None:
    item = found(world({**BYTES, "bits8": 1600}))
    assert item["reason"] == "left out, not measured or not reduced: bits8"
    assert item["rows"]


def test_members_of_equal_reduction_are_averaged() -> None:
    item = found(world({**BYTES, "prune0.9": 800, "bits8": 800}))
    (row,) = item["rows"]
    assert (row["at"], row["first"]) == (pytest.approx(2), pytest.approx(0.8))


def test_nominal_values_alone_match_nothing() -> None:
    item = found(world({"baseline": 1600}))
    assert item["rows"] == []
    assert "are no achieved reduction" in item["reason"]


def test_without_the_cost_of_the_baseline_nothing_is_matched() -> None:
    sizes = {name: size for name, size in BYTES.items() if name != "baseline"}
    assert "of the baseline was not measured" in found(world(sizes))["reason"]


def test_latency_is_compared_where_it_was_measured() -> None:
    assert not [e for e in exhibits(world(), "matched") if e["axis"] == "cost.latency_median"]
    timed = world(axis="cost.latency_median", evaluator="latency")
    assert found(timed, "cost.latency_median")["overlap"] == pytest.approx([1, 8])


def test_two_recipes_without_a_sweep_are_not_matched() -> None:
    assert not exhibits(world(settings=with_settings(metrics=())), "matched")


def test_of_repeated_trainings_the_first_one_counts() -> None:
    people = candidates(["a", "a#1", "b"])
    run = SimpleNamespace(candidates=people)
    assert _is_repeated(run, people[:2])
    assert not _is_repeated(run, [people[0], people[3]])
