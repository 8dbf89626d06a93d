"""Two candidates side by side: paired where images are the same, and never where they are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.records import Condition
from shrinkproof.results import Results, pixels
from shrinkproof.results.comparing import Comparison, Row, compare
from shrinkproof.results.gating import gate
from shrinkproof.results.naming import find_candidate
from shrinkproof.results.pairs import Pair
from shrinkproof.results.pixels import other_pixels
from shrinkproof.results.sides import Side
from shrinkproof.selectors import Selector
from shrinkproof.statistics import holm, interval, noninferiority

from ..study_builder import STUDY, write_study


@pytest.fixture(scope="module")
def found(finished_run: Path) -> Results:
    return Results.load(finished_run)


@pytest.fixture(scope="module")
def compared(found: Results) -> Comparison:
    return compare(found, "baseline", found, "prune0.8")


@pytest.fixture
def other_images(run_copy: Path) -> Results:
    """The same run as if its report images were others."""
    data = json.loads((run_copy / "data.json").read_text())
    data["splits"]["report"]["fingerprint"] = "0" * 16
    (run_copy / "data.json").write_text(json.dumps(data))
    return Results.load(run_copy)


def rows(comparison: Comparison) -> dict[str, Row]:
    return {row.selector: row for row in comparison.rows}


def right(found: Results, name: str, condition: Condition) -> np.ndarray:
    predictions = Side(found, find_candidate(found, name)).predictions(condition)
    assert predictions is not None
    return np.asarray(predictions.prediction() == predictions.target)


def test_differences_to_the_baseline_are_those_of_the_run_itself(
    found: Results, compared: Comparison
) -> None:
    own = rows(compared)
    checked = 0
    for record in found.records:
        if (record.recipe, record.split, record.slice) != ("prune0.8", "report", ""):
            continue
        condition, severity = record.condition, record.severity
        metric = record.metric.removeprefix("change.")
        row = own.get(str(Selector(metric, condition, severity))) or own.get(metric)
        if metric == record.metric or row is None or record.form != found.form:
            continue
        assert row.difference == pytest.approx(record.value)
        assert row.low == (None if record.low is None else pytest.approx(record.low))
        assert row.is_paired or record.low is None
        checked += 1
    assert checked >= 10


def test_accuracy_is_tested_by_mcnemar_with_holm_over_the_conditions(
    found: Results, compared: Comparison
) -> None:
    from scipy.stats import binomtest

    expected = []
    for row in compared.conditions:
        condition = Condition.parse(row.selector.partition("@")[2])
        own, other = (right(found, name, condition) for name in ("baseline", "prune0.8"))
        lost, gained = int((own & ~other).sum()), int((~own & other).sum())
        assert row.difference == pytest.approx((gained - lost) / 60)
        expected.append(binomtest(gained, gained + lost).pvalue if gained + lost else 1.0)
        flips = next(f for f in compared.flips if f.condition == str(condition))
        assert (flips.lost, flips.gained, flips.count) == (lost, gained, 60)
    assert [row.p for row in compared.conditions] == pytest.approx(expected)
    adjusted = holm(np.array(expected)).tolist()
    assert [row.adjusted_p for row in compared.conditions] == pytest.approx(adjusted)
    assert [row.adjusted_p for row in compared.clean] == [None] * len(compared.clean)


def test_turning_a_comparison_round_turns_every_sign(found: Results, compared: Comparison) -> None:
    turned = rows(compare(found, "prune0.8", found, "baseline"))
    opposite = {"better": "worse", "worse": "better"}
    for selector, row in rows(compared).items():
        back = turned[selector]
        assert back.first == row.second
        if row.difference is not None:
            assert back.difference == pytest.approx(-row.difference)
        if row.low is not None:
            # Resampled quantiles are symmetric, but for their rounding.
            assert back.high == pytest.approx(-row.low, abs=1e-6)
        assert back.p == (None if row.p is None else pytest.approx(row.p))
        assert back.verdict == opposite.get(row.verdict, row.verdict)


def test_a_verdict_needs_a_test_or_an_interval(compared: Comparison) -> None:
    for row in (*compared.clean, *compared.corruptions, *compared.conditions, *compared.classes):
        p = row.p if row.adjusted_p is None else row.adjusted_p
        shown = row.verdict in ("better", "worse")
        if p is not None:
            assert shown == (p <= 0.05)
        elif row.low is None or row.low <= 0 <= (row.high or 0):
            assert not shown


def test_intervals_of_classes_are_wider_than_one_alone(
    found: Results, compared: Comparison
) -> None:
    pair = Pair(*(Side(found, find_candidate(found, n)) for n in ("baseline", "prune0.8")))
    assert len(compared.classes) == 4
    for row in compared.classes:
        alone = pair.change(Selector.parse(row.selector)).interval
        assert row.low is not None
        assert row.high is not None
        assert alone.low is not None
        assert row.high - row.low > (alone.high or 0) - alone.low


def test_sizes_are_exact_and_equal_ones_are_called_so(found: Results, compared: Comparison) -> None:
    costs = rows(compared)
    assert costs["cost.macs"].verdict == "equal"
    size = costs["cost.nonzero"]
    assert size.verdict == "better"
    assert size.low == size.high == size.difference
    assert size.ratio == pytest.approx((size.second or 0) / (size.first or 1))
    time = costs["cost.latency_median"]  # of one process, so it has no interval
    assert (time.low, time.verdict) == (None, "no difference shown")


def test_other_images_are_never_paired(
    found: Results, compared: Comparison, other_images: Results
) -> None:
    apart = compare(found, "baseline", other_images, "prune0.8")
    assert "the runs measured other images" in apart.unpaired
    assert any(c.startswith("not paired: the runs measured other images") for c in apart.caveats)
    assert apart.flips == ()
    paired = rows(compared)
    for row in (*apart.clean, *apart.corrupted, *apart.conditions, *apart.classes):
        assert not row.is_paired
        assert row.p is row.adjusted_p is row.margin_p is None
        assert "not paired" in row.reason
        assert row.difference == pytest.approx(paired[row.selector].difference)
    assert any(row.low is not None for row in apart.clean)
    assert {row.method for row in apart.conditions} == {"unpaired-recovered-variances"}
    size = rows(apart)["cost.bytes"]
    assert size.verdict == paired["cost.bytes"].verdict  # bytes are of no images


def test_kept_within_the_margin_takes_a_test(run_copy: Path) -> None:
    study = run_copy / "study.yaml"
    text = study.read_text()
    study.write_text(text.replace("measure:\n", "measure:\n  margins: {accuracy.top1: 0.6}\n"))
    found = Results.load(run_copy)
    row = rows(compare(found, "baseline", found, "cluster8"))["accuracy.top1@clean"]
    own, other = (right(found, name, Condition()) for name in ("baseline", "cluster8"))
    expected = noninferiority(other.astype(float) - own, 0.6).p
    assert row.margin == 0.6
    assert row.margin_p == pytest.approx(expected)
    assert row.is_kept
    assert row.verdict in ("kept within margin", "better")


def test_contaminated_numbers_are_told(run_copy: Path) -> None:
    data = json.loads((run_copy / "data.json").read_text())
    data["contamination"]["net"] = {"report": "the model has seen 3 of its images"}
    (run_copy / "data.json").write_text(json.dumps(data))
    found = Results.load(run_copy)
    told = compare(found, "baseline", found, "cluster8").caveats
    assert "net/cluster8: contaminated, the model has seen 3 of its images" in told
    outcome = gate(found, ["change(accuracy.top1@clean) >= -1"], against=found).outcomes[0]
    assert not outcome.holds
    assert "contaminated" in outcome.why


def test_a_copy_of_a_run_shows_the_same_pixels(found: Results, run_copy: Path) -> None:
    copy = Results.load(run_copy)
    assert other_pixels(found, copy, Condition("contrast", 3)) == ""
    assert compare(found, "baseline", copy, "baseline").unpaired == ""


@pytest.mark.parametrize(
    ("name", "label"), [("net/prune0.8", "net/prune0.8"), ("prune0.8", "net/prune0.8")]
)
def test_the_model_may_be_left_out(found: Results, name: str, label: str) -> None:
    assert find_candidate(found, name).label == label


def test_unknown_and_ambiguous_names_are_refused(found: Results) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown candidate 'prune0\.7'; did you mean"):
        find_candidate(found, "prune0.7")
    twins = tuple(replace(c, model="net2", key=f"2{c.key}") for c in found.candidates)
    double = Results(found.store, found.spec, found.candidates + twins, found.cells)
    with pytest.raises(UsageError, match="write net/cluster8 or net2/cluster8"):
        find_candidate(double, "cluster8")
    with pytest.raises(UsageError, match="needs two candidates, got net/cluster8 twice"):
        compare(found, "cluster8", found, "net/cluster8")


@pytest.mark.parametrize(
    "spelled",
    [
        "accuracy.top1@clean", "accuracy.nll@gaussian_noise:5", "accuracy.top1@gaussian_noise",
        "accuracy.top1@corrupted", "robustness.mean_error", "robustness.error@noise",
        "robustness.retention", "accuracy.recall{class=1}@clean",
    ],
)  # fmt: skip
def test_the_terms_of_a_number_are_those_it_was_computed_from(found: Results, spelled: str) -> None:
    from shrinkproof.statistics import estimate

    side = Side(found, find_candidate(found, "prune0.8"))
    selector = Selector.parse(spelled)
    terms = side.terms(selector)
    assert terms is not None
    assert estimate(terms) == pytest.approx(side.number(selector).value)


def test_the_interval_of_a_ratio_is_that_of_the_resampled_ratios(found: Results) -> None:
    pair = Pair(*(Side(found, find_candidate(found, n)) for n in ("baseline", "prune0.8")))
    selector = Selector("robustness.mean_error")
    ratio = pair.ratio(selector)
    own, other = pair.first.terms(selector), pair.second.terms(selector)
    assert own is not None
    assert other is not None
    weights = pair.weights(pair.first).astype(np.float64)
    values = (weights @ other.values[:, 0]) / (weights @ own.values[:, 0])
    assert ratio.value == pytest.approx(other.values.mean() / own.values.mean())
    if ratio.interval.is_stated:
        ends = np.quantile(values, [0.025, 0.975])
        assert (ratio.interval.low, ratio.interval.high) == pytest.approx(ends.tolist(), abs=0.01)


def test_a_higher_level_gives_a_wider_interval(found: Results) -> None:
    side = Side(found, find_candidate(found, "prune0.8"))
    pair = Pair(side, side)
    terms = side.terms(Selector("accuracy.top1", "clean"))
    assert terms is not None
    narrow = pair.alone(side, Selector("accuracy.top1", "clean"))
    wide = pair.alone(side, Selector("accuracy.top1", "clean"), 0.999)
    expected = interval(terms, pair.weights(side), 0.999)
    assert (wide.low, wide.high) == (expected.low, expected.high)
    assert (wide.low or 0) < (narrow.low or 0) < (narrow.high or 0) < (wide.high or 0)


SMALL = (
    STUDY.partition("recipes:")[0]
    + """
recipes:
  cluster4:
    steps:
      - cluster: {levels: 4}
conditions:
  gaussian_noise: [1]
  contrast: [3]
measure:
  intervals: {replicates: 200}
"""
)


def small_run(folder: Path, text: str, weights: int) -> Results:
    """A run of another network, so that it shares no cell with the others."""
    from shrinkproof.study import Study

    file = write_study(folder, text)
    for module in folder.glob("network_*.py"):
        module.write_text(module.read_text().replace("manual_seed(0)", f"manual_seed({weights})"))
    return Study.load(file).run(folder / "run")


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ({"preset": "imagenet", "seed": 0}, "preset cifar and preset imagenet"),
        (None, "nothing shows that both runs corrupted the images in the same way"),
        ({"preset": "cifar", "seed": 1}, ""),
    ],
)
def test_other_corruptions_are_not_compared(
    found: Results,
    run_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: dict[str, Any] | None,
    reason: str,
) -> None:
    other = Results.load(run_copy)
    cell = next(c for c in found.cells if c.split == "report")
    own = {"preset": "cifar", "seed": 0}
    monkeypatch.setattr(pixels, "_shown", lambda r, _: own if r is found else shown)
    monkeypatch.setattr(pixels, "_cells", lambda r, _: iter([replace(cell, key=str(r is found))]))
    selector = Selector("robustness.mean_error")
    pair = Pair(*(Side(r, find_candidate(r, "prune0.8")) for r in (found, other)))
    change = pair.change(selector)
    assert (change.value is None) == bool(reason)
    assert reason in change.reason
    assert not change.is_paired
    assert pair.change(Selector("accuracy.top1", "clean")).is_paired
    (row,) = (
        r
        for r in compare(found, "prune0.8", other, "prune0.8").corrupted
        if r.selector == "robustness.mean_error"
    )
    assert (row.verdict == "not comparable") == bool(reason)
    (outcome,) = gate(
        other,
        [f"change({selector}) <= 1"],
        candidate="prune0.8",
        against=found,
        baseline="prune0.8",
    ).outcomes
    assert outcome.holds == (not reason)
    assert reason in outcome.why


def test_means_over_other_conditions_are_not_compared(
    found: Results, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Results.load(run_copy)
    pair = Pair(*(Side(r, find_candidate(r, "prune0.8")) for r in (found, other)))
    fewer = replace(other.settings, conditions=other.settings.conditions[:-1])
    monkeypatch.setitem(vars(other), "settings", fewer)  # where it is kept once read
    means = (Selector("robustness.mean_error"), Selector("change.robustness.mean_error"))
    for selector in (*means, Selector("accuracy.top1", "corrupted")):
        change = pair.change(selector)
        assert change.value is None
        assert "the two runs average other conditions" in change.reason
    assert pair.change(Selector("accuracy.top1", "clean")).value == 0


@pytest.mark.slow
def test_runs_without_a_common_cell_are_paired_where_the_pixels_are_the_same(
    tmp_path: Path,
) -> None:
    first = small_run(tmp_path / "a", SMALL, 0)
    same = small_run(tmp_path / "b", SMALL, 1)
    assert not {cell.key for cell in first.cells} & {cell.key for cell in same.cells}
    found = compare(first, "baseline", same, "cluster4")
    assert found.unpaired == ""
    assert all(row.is_paired for row in (*found.clean, *found.conditions))
    assert found.caveats == ()

    seeded = small_run(tmp_path / "c", SMALL.replace("study: tiny", "study: tiny\nseed: 3"), 1)
    found = compare(first, "baseline", seeded, "cluster4")
    assert found.unpaired == ""  # the clean images are the same
    assert all(row.is_paired for row in found.clean)
    assert not any(row.is_paired for row in found.conditions)
    assert "the runs corrupted the images differently, seed 0 and seed 3" in found.caveats[0]
    assert all(row.difference is not None for row in found.conditions)

    preset = small_run(tmp_path / "d", SMALL.replace("preset: cifar", "preset: imagenet"), 1)
    found = compare(first, "baseline", preset, "cluster4")
    assert all(row.verdict == "not comparable" for row in (*found.conditions, *found.corrupted))
    assert "preset cifar and preset imagenet" in found.caveats[0]
