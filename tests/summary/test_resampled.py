"""What the decision watches is kept image by image, resampled, and compared in pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN
from shrinkproof.statistics import bootstrap_weights
from shrinkproof.statistics.superiority import no_worse, superiority
from shrinkproof.summary import Resampled

from .worlds import FOG, candidates, predictions, summary_of, with_settings

COUNT = 400
TARGET = np.arange(COUNT) % 3
WATCHED = ("accuracy.top1@clean", "accuracy.top1@fog", "robustness.mean_error")


def wrong(count: int, start: int = 0) -> ClassificationPredictions:
    """The images from ``start`` on are wrong, ``count`` of them."""
    answers = TARGET.copy()
    answers[start : start + count] = (answers[start : start + count] + 1) % 3
    return predictions(answers, TARGET)


def resampled(
    rows: dict, watched: tuple[str, ...] = WATCHED, split: str = "select", **changes: object
) -> Resampled | None:
    recipes = sorted({key.partition("/")[2] for key, _ in rows} - {"baseline"})
    given = {"deciding": "select", "watched": watched, **changes}
    settings = with_settings(**given)
    return summary_of(candidates(recipes), rows, settings, split).resampled


def world(**errors: tuple[int, int, int]) -> dict:
    """Numbers of wrong images: clean, fog 1 and fog 2."""
    return {
        (f"net/{name}", condition): wrong(count)
        for name, counts in {"baseline": (10, 20, 30), **errors}.items()
        for condition, count in zip((CLEAN, *FOG), counts, strict=True)
    }


def test_values_are_those_of_the_weighted_images() -> None:
    found = resampled(world(a=(20, 40, 60)))
    assert found is not None
    assert (found.candidates, found.watched) == (("net/baseline", "net/a"), WATCHED)
    assert found.values.shape == (200, 2, 3)
    weights = bootstrap_weights(COUNT, replicates=200, seed=0)
    fog = [np.arange(COUNT) >= 40, np.arange(COUNT) >= 60]
    right = weights @ np.mean(fog, axis=0) / weights.sum(axis=1)
    np.testing.assert_allclose(found.values[:, 1, 1], right, rtol=1e-5)
    np.testing.assert_allclose(found.values[:, 1, 2], 1 - right, rtol=1e-4)
    clean = weights @ (np.arange(COUNT) >= 20) / weights.sum(axis=1)
    np.testing.assert_allclose(found.values[:, 1, 0], clean, rtol=1e-5)


def test_nothing_is_kept_without_a_decision_or_of_another_split() -> None:
    assert resampled(world(a=(1, 1, 1)), ()) is None
    assert resampled(world(a=(1, 1, 1)), split="report") is None
    assert resampled(world(a=(1, 1, 1)), deciding="") is None


def test_a_missing_severity_leaves_no_mean() -> None:
    rows = world(a=(20, 40, 60))
    del rows["net/a", FOG[1]]
    found = resampled(rows)
    assert found is not None
    assert np.isnan(found.values[:, 1, 1:]).all()
    assert np.isfinite(found.values[:, 0]).all()
    assert np.isfinite(found.values[:, 1, 0]).all()


def test_pairs_are_tested_in_the_direction_of_the_objective() -> None:
    tolerances = {"accuracy.top1@clean": 0.02, "robustness.mean_error": 0.02}
    found = resampled(world(a=(30, 60, 90)), tolerances=tolerances)
    assert found is not None
    assert found.tested == ("accuracy.top1@clean", "robustness.mean_error")
    # The baseline is right on 20 images that a gets wrong.
    gain = np.zeros(COUNT)
    gain[10:30] = 1
    assert found.better[0, 0, 1] == superiority(gain).p
    assert found.no_worse[0, 0, 1] == no_worse(gain, 0.02).p
    assert found.better[0, 1, 0] == found.no_worse[0, 1, 0] == 1
    assert found.spread[0, 0, 1] == found.spread[0, 1, 0] == pytest.approx(gain.std(ddof=1))
    # Of errors less is better: the same order.
    assert found.better[1, 0, 1] < 0.001
    assert found.better[1, 1, 0] == 1
    assert np.isnan(np.diagonal(found.better, axis1=1, axis2=2)).all()


def test_calibration_errors_are_compared_by_their_intervals() -> None:
    rng = np.random.default_rng(0)
    target = np.zeros(2000, np.int64)
    rows = {
        (f"net/{name}", condition): predictions(
            (rng.random(2000) > accuracy).astype(int), target, confidence=confidence
        )
        for name, accuracy, confidence in (("baseline", 0.9, 0.9), ("sure", 0.7, 0.97))
        for condition in (CLEAN, *FOG)
    }
    ece = "calibration.ece@clean"
    found = resampled(rows, (ece,), tolerances={ece: 0.01}, replicates=1000)
    assert found is not None
    assert found.better[0, 0, 1] <= 0.0025
    assert found.no_worse[0, 0, 1] <= 0.0025
    assert (found.better[0, 1, 0], found.no_worse[0, 1, 0]) == (1, 1)
    # A mean over severities has no such interval.
    fog = "calibration.ece@fog"
    found = resampled(rows, (fog,), tolerances={fog: 0.01})
    assert found is not None
    assert np.isnan(found.better).all()
    assert "no test of a difference" in found.texts[found.reasons[0, 0, 1]]


def test_too_few_images_say_why_nothing_is_tested() -> None:
    rows = world(a=(20, 40, 60))
    error = "robustness.mean_error"
    few = {
        key: ClassificationPredictions(p.logits[:9], p.target[:9], p.index[:9])
        for key, p in rows.items()
    }
    found = resampled(few, (error,), tolerances={error: 0.0})
    assert found is not None
    assert found.texts[0] == ""
    assert set(np.unique(found.no_worse[np.isfinite(found.no_worse)])) <= {1.0}


def test_a_class_and_a_column_are_parts_of_the_images() -> None:
    night = np.where(np.arange(COUNT) % 2 == 0, "night", "day")
    rows = {
        key: replace(found, slices={"weather": night})
        for key, found in world(a=(100, 40, 60)).items()
    }
    watched = (
        "accuracy.recall{class=2}@clean",
        "accuracy.top1{weather=night}@clean",
        "accuracy.top1{weather=fog}@clean",
        "accuracy.top1{weather=night}@corrupted",
    )
    found = resampled(rows, watched)
    assert found is not None
    weights = bootstrap_weights(COUNT, replicates=200, seed=0)
    right = np.arange(COUNT) >= 100
    for position, mask in ((0, TARGET == 2), (1, night == "night")):
        expected = weights[:, mask] @ right[mask] / weights[:, mask].sum(axis=1)
        np.testing.assert_allclose(found.values[:, 1, position], expected, rtol=1e-5)
    assert np.isnan(found.values[:, :, 2]).all()
    mask = night == "night"
    both = [np.arange(COUNT) >= 40, np.arange(COUNT) >= 60]
    expected = weights[:, mask] @ np.mean(both, axis=0)[mask] / weights[:, mask].sum(axis=1)
    np.testing.assert_allclose(found.values[:, 1, 3], expected, rtol=1e-5)


def test_groups_are_resampled_and_tested_whole() -> None:
    groups = np.repeat(np.arange(COUNT // 4), 4).astype(str)
    rows = {key: replace(p, groups=groups) for key, p in world(a=(60, 60, 60)).items()}
    clean = "accuracy.top1@clean"
    found = resampled(rows, (clean,), tolerances={clean: 0.0})
    assert found is not None
    gain = np.zeros(COUNT)
    gain[10:60] = 1
    assert found.better[0, 0, 1] == superiority(gain, groups=groups).p
    assert found.spread[0, 0, 1] > 1.5 * gain.std(ddof=1)  # images of a group resemble each other


def test_rare_losses_without_a_bound_are_never_shown_to_be_small() -> None:
    nll, brier = "accuracy.nll@clean", "accuracy.brier@clean"
    rows = world(a=(12, 20, 30))  # 2 of 400 images differ
    metrics = ("accuracy.top1", "accuracy.nll", "accuracy.brier")
    found = resampled(rows, (nll, brier), tolerances={nll: 0.2, brier: 0.2}, metrics=metrics)
    assert found is not None
    assert np.isnan(found.no_worse[0, 1, 0])
    assert "the spread rests on about 2 images" in found.texts[found.reasons[0, 1, 0]]
    assert found.no_worse[1, 1, 0] < 1e-10
