import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from shrinkproof.errors import UsageError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.accuracy import Top1
from shrinkproof.metrics.binned import DebiasedCalibrationError, MaximumCalibrationError
from shrinkproof.metrics.calibrated import cumulated_right, drawn_labels
from shrinkproof.metrics.calibration import ConfidenceGap, ExpectedCalibrationError
from shrinkproof.metrics.classwise import AdaptiveCalibrationError
from shrinkproof.metrics.corp import CorpMiscalibration
from shrinkproof.metrics.derived import derived
from shrinkproof.metrics.murphy import MurphyReliability
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.metrics.null import GROUPED, NULL_METRICS, NullLevel, null_level, nulls
from shrinkproof.metrics.selective import AUROC
from shrinkproof.metrics.spelling import metric_of, spelled
from shrinkproof.metrics.sweep import SweepCalibrationError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Undefined

ALL = [METRICS.create(name) for name in sorted(NULL_METRICS)]
SPELLINGS = (
    *sorted(NULL_METRICS),
    "calibration.ece[bins=7]",
    "calibration.ece_l2[binning=equal-mass,bins=9]",
    "calibration.ece_max[minimum_count=5]",
    "calibration.ece_debiased[binning=equal-width]",
    "calibration.ece_sweep[norm=2]",
    "calibration.ace[ranges=6,threshold=0.05]",
    "calibration.murphy_reliability[of=classes]",
)


def make(logits, target, groups=None):
    return ClassificationPredictions(
        logits=np.asarray(logits, dtype=np.float32),
        target=np.asarray(target, dtype=np.int64),
        index=np.arange(len(target)),
        groups=groups,
    )


def two_classes(confidence, correct):
    confidence = np.asarray(confidence, dtype=np.float64)
    logits = np.stack([np.log(confidence), np.log1p(-confidence)], axis=1)
    return make(logits, 1 - np.asarray(correct))


def calibrated(seed, count, classes=10, scale=2.0, places=None):
    """Make a model whose labels are drawn from its own softmax."""
    draws = np.random.default_rng(seed)
    logits = scale * draws.normal(size=(count, classes))
    logits = logits.astype(np.float32) if places is None else np.round(logits, places)
    shell = make(logits, np.zeros(count))
    upper = np.cumsum(np.exp(shell.log_prob()), axis=1)[:, :-1]
    return make(logits, (draws.random((count, 1)) >= upper).sum(axis=1))


class TestByEnumeration:
    def test_two_images_have_four_outcomes(self):
        predictions = two_classes([0.6, 0.9], [0, 1])
        confidence = derived(predictions).confidence
        outcomes = Counter()
        for right in itertools.product((0, 1), repeat=2):
            weight = np.prod(np.where(right, confidence, 1 - confidence))
            # Both have a bin of their own.
            outcomes[np.abs(confidence - right).mean()] += weight
        value = np.abs(confidence - [0, 1]).mean()
        found = null_level(predictions, ExpectedCalibrationError(), replicates=40_000, seed=0)
        assert found.mean == pytest.approx(sum(v * p for v, p in outcomes.items()), abs=0.005)
        exact = sum(p for v, p in outcomes.items() if v >= value - 1e-9)
        assert found.p_value == pytest.approx(exact, abs=0.01)
        # Probabilities .54, .36, .06, .04 of gaps .25, .35, .65, .75: at most .65 in 96 %.
        assert found.q95 == pytest.approx(0.65, abs=1e-6)

    def test_one_bin_is_a_binomial(self):
        predictions = two_classes(np.full(10, 0.7), [1] * 4 + [0] * 6)
        found = null_level(predictions, ExpectedCalibrationError(), replicates=40_000, seed=0)
        draws = np.random.default_rng(0).binomial(10, 0.7, 400_000) / 10
        gaps = np.abs(draws - 0.7)
        assert found.mean == pytest.approx(gaps.mean(), abs=0.003)
        assert found.p_value == pytest.approx((gaps >= 0.3 - 1e-6).mean(), abs=0.01)

    def test_the_p_value_counts_the_observed_one_too(self):
        predictions = two_classes(np.full(400, 0.9), np.zeros(400))
        found = null_level(predictions, ExpectedCalibrationError(), replicates=99, seed=0)
        assert found.p_value == 0.01
        assert found.replicates == 99

    def test_a_signed_number_is_tested_on_both_sides(self):
        level = {}
        for right in (260, 300, 340):
            predictions = two_classes(np.full(400, 0.75), np.arange(400) < right)
            level[right] = null_level(predictions, ConfidenceGap(), seed=0)
        assert level[260].p_value < 0.001 + 1e-12
        assert level[340].p_value < 0.001 + 1e-12
        assert level[300].p_value == 1
        # 1.96 standard deviations of the mean of 400 images; the mean of both signs is 0.
        assert level[300].q95 == pytest.approx(1.96 * np.sqrt(0.75 * 0.25 / 400), rel=0.08)
        assert level[300].mean == pytest.approx(0, abs=0.003)


class TestLevel:
    @pytest.mark.parametrize(("count", "expected"), [(1_000, 0.020), (10_000, 0.006)])
    def test_a_calibrated_classifier_shows_the_known_error(self, count, expected):
        # Confidences as of a trained network: most of them near 1.
        draws = np.random.default_rng(0)
        confidence = np.clip(1 - 0.5 * draws.beta(0.35, 2.0, count), 0.5, 1 - 1e-6)
        predictions = two_classes(confidence, draws.random(count) < confidence)
        found = null_level(predictions, ExpectedCalibrationError(), seed=0)
        assert found.mean == pytest.approx(expected, rel=0.3)
        assert found.mean < found.q95 < 2 * found.mean

    def test_it_falls_with_the_number_of_images(self):
        level = [
            null_level(calibrated(0, count), ExpectedCalibrationError(), seed=0).mean
            for count in (250, 1_000, 4_000)
        ]
        # Four times as many images halve it.
        assert level[0] / level[1] == pytest.approx(2, rel=0.15)
        assert level[1] / level[2] == pytest.approx(2, rel=0.15)

    def test_saturated_confidences_leave_nothing_to_chance(self):
        logits = np.zeros((50, 3), dtype=np.float32)
        logits[:, 0] = 500
        predictions = make(logits, np.zeros(50))
        for name, level in nulls(predictions, ALL, seed=0).items():
            assert (level.mean, level.q95) == pytest.approx((0, 0), abs=1e-12), name
            assert level.p_value == 1, name
        wrong = make(logits, np.arange(50) < 1)
        for name, level in nulls(wrong, ALL, replicates=19, seed=0).items():
            assert (level.mean, level.q95) == pytest.approx((0, 0), abs=1e-12), name
            hidden = ("calibration.ece_debiased", "calibration.underconfidence")
            assert level.p_value == (1 if name in hidden else 0.05), name

    def test_overconfidence_is_found(self):
        predictions = calibrated(1, 2_000)
        sure = make(2 * predictions.logits, predictions.target)
        found = nulls(sure, ALL, seed=0)
        missed = {name for name, level in found.items() if level.p_value > 0.01}
        # The largest gap of a bin is decided by the few images in the lowest bins.
        assert missed <= {"calibration.underconfidence", "calibration.ece_max"}
        assert found["calibration.underconfidence"].p_value == 1

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 9_999), places=st.sampled_from([None, 0]))
    def test_numbers_are_in_their_ranges(self, seed, places):
        predictions = calibrated(seed, 40, classes=4, places=places)
        for name, level in nulls(predictions, ALL, replicates=30, seed=seed).items():
            low, high = metric_of(name).range
            assert low <= level.mean <= high
            assert max(low, 0) <= level.q95 <= high
            assert 1 / 31 <= level.p_value <= 1

    @pytest.mark.slow
    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_p_values_of_calibrated_models_are_uniform(self, spelling):
        metric = metric_of(spelling)
        p_values = [
            null_level(calibrated(seed, 400), metric, replicates=99, seed=seed).p_value
            for seed in range(300)
        ]
        assert np.mean(np.array(p_values) <= 0.05) < 0.09
        if spelling == "calibration.ece_max":
            # Bins with one image decide it: few values are possible, and p can only be too large.
            return
        # Debiased values are 0 for about half of all models, and there p is 1.
        below = [p for p in p_values if p < 0.4]
        assert len(below) / 300 == pytest.approx(0.4, abs=0.09)
        assert kstest(np.array(below) / 0.4, "uniform").pvalue > 0.001

    def test_p_values_of_ece_are_uniform(self):
        p_values = [
            null_level(calibrated(seed, 300), ExpectedCalibrationError(), replicates=199, seed=seed)
            for seed in range(300)
        ]
        assert kstest([level.p_value for level in p_values], "uniform").pvalue > 0.01


class TestSameFormulas:
    """Fed with what the model itself got right, a simulated model must show the metric's value."""

    @pytest.fixture(autouse=True)
    def replay(self, monkeypatch):
        def right(ascending_N, *, replicates, seed):
            del ascending_N, seed
            for _ in range(replicates):
                yield np.cumsum(self.right[None], axis=1, dtype=np.int32)

        def labels(predictions, *, replicates, seed):
            del seed
            for part in np.array_split(np.arange(len(predictions)), 3):
                yield part, np.repeat(predictions.target[part, None], replicates, axis=1)

        monkeypatch.setattr("shrinkproof.metrics.null_top.cumulated_right", right)
        monkeypatch.setattr("shrinkproof.metrics.null_classes.drawn_labels", labels)

    @pytest.mark.parametrize("spelling", SPELLINGS)
    @pytest.mark.parametrize("kind", ["usual", "tied", "saturated", "sorted", "steps", "one"])
    def test_replayed_answers_give_the_value(self, spelling, kind):
        predictions = {
            "usual": lambda: calibrated(3, 700, classes=5),
            "tied": lambda: calibrated(3, 700, classes=5, places=0),
            "saturated": lambda: calibrated(3, 700, classes=5, scale=60.0),
            "sorted": lambda: two_classes(np.linspace(0.51, 0.99, 30), np.arange(30) >= 12),
            "steps": lambda: two_classes([0.6] * 6 + [0.9] * 6, [0, 1] * 6),
            "one": lambda: calibrated(3, 1, classes=5),
        }[kind]()
        values = derived(predictions)
        self.right = values.correct[values.order]
        metric = metric_of(spelling)
        value = metric(predictions)
        level = null_level(predictions, metric, replicates=2, seed=0)
        if isinstance(value, Undefined):
            assert level == value
            return
        # The smoothed error is simulated on a coarser grid.
        tolerance = 2e-5 if "smooth" in spelling else 1e-7
        assert level.mean == pytest.approx(value, abs=tolerance)


class TestDraws:
    def test_right_answers_have_their_confidence_as_probability(self):
        confidence = np.array([0.2, 0.5, 0.9, 1.0])
        blocks = list(cumulated_right(confidence, replicates=20_000, seed=0))
        right = np.diff(np.concatenate(blocks), axis=1, prepend=0)
        assert right.mean(axis=0) == pytest.approx(confidence, abs=0.015)
        assert (right[:, 3] == 1).all()
        assert np.corrcoef(right[:, :3].T) == pytest.approx(np.eye(3), abs=0.03)

    def test_labels_have_the_softmax_as_probability(self):
        prob = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [1.0, 0.0, 0.0]])
        with np.errstate(divide="ignore"):
            logits = np.maximum(np.log(prob), -500)
        predictions = make(logits, np.zeros(3))
        found = np.zeros((3, 3))
        for positions, labels in drawn_labels(predictions, replicates=20_000, seed=0):
            for position, row in zip(positions, labels, strict=True):
                found[position] = np.bincount(row, minlength=3) / 20_000
        assert found == pytest.approx(prob, abs=0.015)

    def test_blocks_do_not_change_the_draws(self, monkeypatch):
        predictions = calibrated(0, 130, classes=6)
        expected = nulls(predictions, ALL, replicates=23, seed=5)
        monkeypatch.setattr("shrinkproof.metrics.calibrated._BLOCK", 300)
        for name, level in nulls(predictions, ALL, replicates=23, seed=5).items():
            # The search for a bandwidth ends where it ends for all models of a block.
            assert level.mean == pytest.approx(expected[name].mean, abs=1e-6), name
            assert level.p_value == expected[name].p_value, name

    def test_a_metric_sees_the_same_models_alone_and_among_others(self):
        predictions = calibrated(0, 200)
        together = nulls(predictions, ALL, replicates=50, seed=1)
        for metric in ALL:
            alone = null_level(predictions, metric, replicates=50, seed=1)
            assert alone == together[spelled(metric)]

    def test_a_search_that_is_cut_off_is_still_in_its_bracket(self, monkeypatch):
        monkeypatch.setattr("shrinkproof.metrics.null_rows._STEPS", 2)
        level = null_level(calibrated(0, 60), metric_of("calibration.smooth_ece"), seed=0)
        assert 0 < level.mean < 1

    def test_seeds_count_and_the_order_of_images_does_not(self):
        predictions = calibrated(0, 200)
        order = np.random.default_rng(0).permutation(200)
        first = nulls(predictions, ALL, replicates=50, seed=1)
        shuffled = nulls(predictions.take(order), ALL, replicates=50, seed=1)
        for name, level in first.items():
            assert shuffled[name].mean == pytest.approx(level.mean, abs=1e-9), name
        assert nulls(predictions, ALL, replicates=50, seed=2) != first

    def test_equally_confident_candidates_share_their_null_level(self):
        first = two_classes(np.linspace(0.6, 0.9, 100), np.arange(100) < 80)
        second = two_classes(np.linspace(0.6, 0.9, 100)[::-1], np.arange(100) < 20)
        for metric in ALL:
            a, b = (null_level(p, metric, replicates=40, seed=0) for p in (first, second))
            assert a.mean == pytest.approx(b.mean, abs=1e-9)

    def test_slow_metrics_get_fewer_models_and_say_so(self):
        found = nulls(calibrated(0, 60), ALL, seed=0)
        few = {name for name, level in found.items() if level.replicates == 200}
        assert few == {
            "calibration.ace",
            "calibration.classwise_ece",
            "calibration.corp_miscalibration",
            "calibration.ece_sweep",
            "calibration.smooth_ece",
        }
        assert {level.replicates for level in found.values()} == {200, 1000}


class TestUndefined:
    def test_other_metrics_are_left_out_of_many_and_refused_alone(self):
        predictions = calibrated(0, 30)
        metrics = [Top1(), AUROC(), ExpectedCalibrationError()]
        assert list(nulls(predictions, metrics, seed=0)) == ["calibration.ece"]
        with pytest.raises(UsageError, match=r"calibration error, got accuracy\.top1"):
            null_level(predictions, Top1(), seed=0)

    def test_no_images(self):
        empty = calibrated(0, 30).take(np.arange(0))
        for level in nulls(empty, ALL, seed=0).values():
            assert level == Undefined("there are no images")

    @pytest.mark.parametrize(
        "metric",
        [
            MaximumCalibrationError(minimum_count=100),
            DebiasedCalibrationError(bins=1000),
            AdaptiveCalibrationError(threshold=1.0),
        ],
    )
    def test_an_undefined_value_has_no_null_level_either(self, metric):
        predictions = calibrated(0, 30)
        value = metric(predictions)
        assert isinstance(value, Undefined)
        assert null_level(predictions, metric, seed=0) == value

    def test_recalibration_of_every_class_is_too_slow(self):
        found = null_level(calibrated(0, 30), CorpMiscalibration(of="classes"), seed=0)
        assert isinstance(found, Undefined)
        assert "too long" in found.reason

    def test_one_class_only_is_always_right(self):
        predictions = make(np.zeros((5, 1)), np.zeros(5))
        for level in nulls(predictions, ALL, replicates=10, seed=0).values():
            assert (level.mean, level.p_value) == (pytest.approx(0, abs=1e-12), 1)

    def test_groups_have_a_caveat(self):
        predictions = calibrated(0, 30)
        groups = np.array(["a", "b", "c"] * 10)
        grouped = make(predictions.logits, predictions.target, groups)
        single = make(predictions.logits, predictions.target, np.arange(30).astype(str))
        metric = SweepCalibrationError()
        assert null_level(grouped, metric, seed=0).caveat == GROUPED
        assert null_level(single, metric, seed=0).caveat == ""

    def test_replicates_must_be_positive(self):
        with pytest.raises(UsageError, match="replicates must be at least 1, got 0"):
            nulls(calibrated(0, 30), ALL, replicates=0, seed=0)

    def test_every_null_level_is_of_a_known_calibration_error(self):
        assert all(name.startswith("calibration.") for name in NULL_METRICS)
        assert set(METRIC_NAMES) >= NULL_METRICS
        assert isinstance(
            null_level(calibrated(0, 30), MurphyReliability(of="classes"), seed=0), NullLevel
        )
