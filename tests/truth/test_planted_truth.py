"""Known logits go through study, records, table, decision and page; known numbers come out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.records import Record
from shrinkproof.results import Results
from shrinkproof.study import Study

from . import planted
from .planted import ACCURACY, CLASSES, CONFIDENCE, COUNT, PER_KIND, write_study


@pytest.fixture(scope="module", autouse=True)
def planted_corruption() -> object:
    """Put the planted corruption into the registry while these tests run."""
    CORRUPTIONS.builtin["planted"] = f"{planted.__name__}:Planted"
    yield
    del CORRUPTIONS.builtin["planted"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("planted")
    return Study.load(write_study(folder / "study")).run(folder / "run")


def value(results: Results, recipe: str, metric: str, condition: str = "clean", severity: int = 0):
    found = [
        r
        for r in results.records
        if (r.recipe, r.metric, r.condition, r.severity) == (recipe, metric, condition, severity)
        and r.split in ("report", "")
        and r.form == results.form
    ]
    assert len(found) == 1, (recipe, metric, condition, severity, len(found))
    return found[0].value


def closed_form(right: np.ndarray) -> dict[str, float]:
    """The metrics from the number of right predictions of each kind, by hand."""
    top = np.array(CONFIDENCE)
    rest = (1 - top) / (CLASSES - 1)
    share = right / PER_KIND
    nll = -(share * np.log(top) + (1 - share) * np.log(rest))
    hit = (1 - top) ** 2 + (CLASSES - 1) * rest**2
    miss = top**2 + (1 - rest) ** 2 + (CLASSES - 2) * rest**2
    return {
        "accuracy.top1": float(share.mean()),
        "accuracy.nll": float(nll.mean()),
        "accuracy.brier": float((share * hit + (1 - share) * miss).mean()),
        # Each kind has a bin of its own in both binnings, all of the same size.
        "calibration.ece": float(np.abs(share - top).mean()),
        "calibration.ece_equal_mass": float(np.abs(share - top).mean()),
    }


def right_under(severity: int) -> np.ndarray:
    """Right predictions of each kind: those whose index ends in a digit below s are lost."""
    position = np.arange(PER_KIND)
    return np.array(
        [((position < round(c * PER_KIND)) & (position % 10 >= severity)).sum() for c in CONFIDENCE]
    )


@pytest.mark.parametrize("recipe", ["baseline", "identity"])
@pytest.mark.parametrize("severity", [0, 1, 2, 3])
def test_scores_equal_closed_form(results: Results, recipe: str, severity: int) -> None:
    condition = "planted" if severity else "clean"
    for metric, expected in closed_form(right_under(severity)).items():
        got = value(results, recipe, metric, condition, severity)
        # float32 logits: 1e-6 covers their rounding
        assert got == pytest.approx(expected, abs=1e-6), metric


def test_calibrated_by_construction(results: Results) -> None:
    assert value(results, "baseline", "accuracy.top1") == pytest.approx(ACCURACY, abs=1e-9)
    assert value(results, "baseline", "calibration.ece") == pytest.approx(0, abs=1e-6)


def test_mean_error_equals_closed_form(results: Results) -> None:
    errors = [1 - right_under(s).sum() / COUNT for s in (1, 2, 3)]
    got = value(results, "baseline", "robustness.mean_error", "corrupted")
    assert got == pytest.approx(np.mean(errors), abs=1e-9)


def test_temperature_of_a_calibrated_network_is_one(results: Results) -> None:
    rows = [r for r in results.records if r.metric == "calibration.temperature"]
    assert [r.value for r in rows] == pytest.approx([1.0] * len(rows), abs=1e-5)
    assert {r.split for r in rows} == {"select"}


def test_sizes_equal_closed_form(results: Results) -> None:
    kinds = len(CONFIDENCE) * CLASSES
    assert value(results, "baseline", "cost.parameters", "") == 9 + kinds * CLASSES
    # The identity convolution holds 3 ones and 6 zeros; no logit is zero.
    assert value(results, "baseline", "cost.nonzero", "") == 3 + kinds * CLASSES
    assert value(results, "baseline", "cost.macs", "") == 9 * 16 * 16 + kinds * CLASSES
    candidate = results.candidates[0]
    file = results.store.candidate(candidate.key) / "model.onnx"
    assert value(results, "baseline", "cost.bytes", "") == file.stat().st_size


def test_an_identity_recipe_changes_exactly_nothing(results: Results) -> None:
    changes = [r for r in results.records if r.metric.startswith("change.")]
    assert len(changes) > 20
    assert {r.value for r in changes} == {0.0}
    agreement = [r.value for r in results.records if r.metric == "fidelity.agreement"]
    assert agreement == [1.0] * 4


def test_an_identity_recipe_flips_nothing(results: Results) -> None:
    flips = [r for r in results.records if r.metric.startswith("flips.")]
    assert {r.metric for r in flips} == {
        *("flips.churn", "flips.negative", "flips.positive", "flips.worst_class_change")
    }
    assert {r.value for r in flips} == {0.0}
    assert {r.value for r in results.records if r.metric.startswith("mcnemar_p")} == {1.0}
    (exemplars,) = results.exhibits("exemplars")
    assert (exemplars["affected"], exemplars["images"]) == (0, [])


def test_recall_of_each_class_equals_closed_form(results: Results) -> None:
    position = np.tile(np.arange(PER_KIND), len(CONFIDENCE))
    right = position < np.repeat(np.round(np.array(CONFIDENCE) * PER_KIND), PER_KIND)
    recalls = {
        r.slice: r.value
        for r in results.records
        if (r.recipe, r.metric, r.condition) == ("baseline", "accuracy.recall", "clean")
    }
    expected = {f"class={k}": right[np.arange(COUNT) % CLASSES == k].mean() for k in range(CLASSES)}
    assert recalls == pytest.approx(expected)


def test_a_calibrated_network_is_below_its_null_level(results: Results) -> None:
    # Each kind has a bin of its own with its exact share: no random network can do better.
    assert value(results, "baseline", "null_p.calibration.ece") == 1.0
    # The sum over kinds of E|binomial - mean| / N, in the normal approximation.
    top = np.array(CONFIDENCE)
    level = np.sqrt(2 / np.pi * top * (1 - top) / PER_KIND).mean()
    got = value(results, "baseline", "null_mean.calibration.ece")
    assert got == pytest.approx(level, rel=0.1)


def test_intervals_contain_the_truth(results: Results) -> None:
    def holds(record: Record) -> bool:
        assert record.low is not None
        assert record.high is not None
        truth = closed_form(right_under(record.severity))[record.metric]
        return record.low - 1e-6 <= truth <= record.high + 1e-6

    stated = [
        r
        for r in results.records
        if r.evaluator == "scores" and r.split == "report" and r.low is not None
    ]
    assert stated
    # The sample was planted with exactly the expected counts, so each interval contains them.
    assert all(holds(r) for r in stated)


def test_equal_candidates_are_chosen_by_size_alone(results: Results) -> None:
    decision = results.decision
    assert decision is not None
    sizes = {c.label: value(results, c.recipe, "cost.bytes", "") for c in results.candidates}
    smallest = min(sizes, key=lambda label: (sizes[label], label))
    assert decision.chosen == smallest
    assert smallest in decision.front


def test_page_prints_the_planted_numbers(results: Results, tmp_path: Path) -> None:
    text = results.report(tmp_path / "page.html").read_text()
    assert f"{100 * ACCURACY:.1f}" in text
    assert "net/identity" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "std"), [(1, "[1, 1, 1]"), (0, "[0.5, 0.5, 0.5]")], ids=["labels", "preprocessing"]
)
def test_a_wrong_network_is_caught(tmp_path: Path, shift: int, std: str) -> None:
    study = write_study(tmp_path / "study", shift=shift, std=std)
    results = Study.load(study).run(tmp_path / "run", only="*/baseline")
    got = value(results, "baseline", "accuracy.top1")
    assert not math.isclose(got, ACCURACY, abs_tol=0.05)
    # No published number is needed to see it: the network is no better than guessing.
    assert any("no better than guessing" in caveat for caveat in results.caveats)
