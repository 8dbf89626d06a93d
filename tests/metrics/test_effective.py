from statistics import NormalDist

import numpy as np
import pytest

from shrinkproof.errors import UsageError
from shrinkproof.metrics.effective import DensePoints, Effective, effective_robustness
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, Condition
from shrinkproof.statistics import bootstrap_weights

FOG = tuple(Condition("fog", severity) for severity in (1, 3, 5))


def rates(clean, corrupted):
    """Return a network measured elsewhere: one pseudo-image."""
    return {CLEAN: np.array([1 - clean]), **{c: np.array([1 - corrupted]) for c in FOG}}


def dense(*points):
    names = tuple(f"epoch {place}" for place in range(len(points)))
    return DensePoints("net/control", names, tuple(rates(*point) for point in points))


def logit(p):
    return np.log(p / (1 - p))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_candidate_on_a_dense_network_is_compared_with_it_alone():
    found = effective_robustness(rates(0.9, 0.7), dense((0.85, 0.5), (0.9, 0.65), (0.92, 0.66)))
    assert found.value == pytest.approx(0.05)
    assert found.expected == pytest.approx(0.65)
    assert found.fitted is None
    assert found.caveat == "expected from clean accuracies of net/control: epoch 1 (90.0 %)"


def test_expectation_is_linear_in_logits_between_the_two_nearest():
    # Half way between 0.8 and 0.9 on the logit scale; the third network does not count.
    middle = sigmoid((logit(0.8) + logit(0.9)) / 2)
    found = effective_robustness(rates(middle, 0.6), dense((0.95, 0.9), (0.9, 0.6), (0.8, 0.4)))
    assert found.expected == pytest.approx(sigmoid((logit(0.4) + logit(0.6)) / 2))
    assert found.value == pytest.approx(0.6 - found.expected)
    assert found.caveat.endswith("epoch 1 (90.0 %), epoch 2 (80.0 %)")


def test_a_dense_network_has_no_effective_robustness_of_its_own():
    points = [(0.85, 0.5), (0.9, 0.65), (0.92, 0.66)]
    for point in points:
        assert effective_robustness(rates(*point), dense(*points)).value == pytest.approx(0)


def test_networks_of_equal_clean_accuracy_count_as_one():
    found = effective_robustness(rates(0.9, 0.7), dense((0.9, 0.6), (0.9, 0.7)))
    assert found.expected == pytest.approx(sigmoid((logit(0.6) + logit(0.7)) / 2))


def test_a_line_through_four_dense_networks_stands_beside_the_value():
    # All on the line logit(corrupted) = logit(clean) - 1.5; the candidate is above it.
    clean = (0.8, 0.85, 0.9, 0.95)
    points = [(c, sigmoid(logit(c) - 1.5)) for c in clean]
    found = effective_robustness(rates(0.87, 0.7), dense(*points))
    expected = sigmoid(logit(0.87) - 1.5)
    assert found.fitted == pytest.approx(0.7 - expected)
    assert found.value == pytest.approx(found.fitted)
    assert f"through all 4 dense networks it is {100 * found.fitted:+.1f} points" in found.caveat
    assert effective_robustness(rates(0.87, 0.7), dense(*points[:3])).fitted is None


def test_outside_the_dense_networks_there_is_no_equal_one():
    points = dense((0.912, 0.6), (0.92, 0.65))
    assert effective_robustness(rates(0.899, 0.6), points) == Undefined(
        "the dense networks have clean accuracies 91.2 to 92.0 %, the candidate 89.9 %: "
        "no equal one"
    )
    assert isinstance(effective_robustness(rates(0.93, 0.6), points), Undefined)


def test_impossible_comparisons_are_undefined_with_a_reason():
    own = rates(0.9, 0.6)
    assert "at least two dense networks" in effective_robustness(own, dense((0.9, 0.6))).reason
    lacking = DensePoints("c", ("a", "b"), (own, {c: e for c, e in own.items() if c != FOG[1]}))
    assert effective_robustness(own, lacking) == Undefined(
        "robustness.effective needs clean and the same corruptions of every network; "
        "fog:3 of b is missing"
    )
    unclean = {c: e for c, e in own.items() if c != CLEAN}
    found = effective_robustness(unclean, DensePoints("c", ("a", "b"), (unclean, unclean)))
    assert "clean of the candidate is missing" in found.reason
    perfect = dense((0.8, 0.6), (1.0, 0.7))
    assert "no logit" in effective_robustness(own, perfect).reason
    empty = {c: np.zeros(0) for c in own}
    found = effective_robustness(empty, DensePoints("c", ("a", "b"), (empty, empty)))
    assert "at least one image" in found.reason


def test_wrong_calls_are_refused():
    own = rates(0.9, 0.6)
    with pytest.raises(UsageError, match="one name each, all different, got a, a for 2"):
        DensePoints("c", ("a", "a"), (own, own))
    two = {c: np.zeros(2) for c in own}
    with pytest.raises(UsageError, match="about the same images, got 1, 2 images"):
        effective_robustness(own, DensePoints("c", ("a", "b"), (two, own)))
    found = effective_robustness(own, dense((0.8, 0.5), (0.95, 0.7)))
    with pytest.raises(UsageError, match="about the same images, got 5 and 1"):
        found.interval(bootstrap_weights(5, seed=0))
    with pytest.raises(UsageError, match="level must be between 0 and 1, got 95"):
        found.interval(bootstrap_weights(1, seed=0), 95)


def world(points, count, draws, *, shared=0.7):
    """Return errors of networks of given true accuracies that find the same images hard."""
    hard = draws.normal(size=count)
    errors = []
    for clean, corrupted in points:
        own = draws.normal(size=count)
        one = {}
        for condition, accuracy in ((CLEAN, clean), *((c, corrupted) for c in FOG)):
            noise = own + draws.normal(size=count)
            z = np.sqrt(shared) * hard + np.sqrt((1 - shared) / 2) * noise
            one[condition] = z > NormalDist().inv_cdf(accuracy)
        errors.append(one)
    return errors


def measured(points, count, draws):
    own, *others = world(points, count, draws)
    names = tuple(map(str, range(len(others))))
    return effective_robustness(own, DensePoints("net/control", names, tuple(others)))


POINTS = ((0.88, 0.66), (0.80, 0.55), (0.86, 0.62), (0.90, 0.68), (0.93, 0.72))


def test_interval_resamples_candidate_and_dense_networks_together():
    found = measured(POINTS, 1000, np.random.default_rng(0))
    interval = found.interval(bootstrap_weights(1000, seed=0))
    assert interval.method == "bootstrap-percentile"
    assert interval.low < found.value < interval.high
    assert interval.high - interval.low < 0.1


def test_few_images_groups_or_errors_leave_no_interval():
    found = measured(POINTS, 200, np.random.default_rng(0))
    weights = bootstrap_weights(200, seed=0)
    assert found.interval(weights, group_count=29).reason == (
        "an interval needs at least 30 groups, got 29"
    )
    sure, *others = (
        {c: np.arange(100) < (clean if c.is_clean else 40) for c in (CLEAN, *FOG)}
        for clean in (5, 8, 3)
    )
    few = effective_robustness(sure, DensePoints("c", ("a", "b"), tuple(others)))
    assert few.interval(bootstrap_weights(100, seed=0)).reason == (
        "an interval needs at least 10 right and 10 wrong predictions of every network, got 3"
    )
    one = effective_robustness(rates(0.9, 0.6), dense((0.8, 0.5), (0.95, 0.7)))
    assert "at least 30 images, got 1" in one.interval(bootstrap_weights(1, seed=0)).reason


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, 2000])
@pytest.mark.parametrize(
    "points",
    [
        POINTS,
        ((0.86, 0.66), *POINTS[1:]),  # as accurate as a dense network
        ((0.925, 0.70), *POINTS[1:]),  # near the end of their range
        ((0.9025, 0.675), (0.895, 0.66), (0.90, 0.67), (0.905, 0.68), (0.91, 0.675)),
    ],
    ids=["between", "on", "end", "crowded"],
)
def test_intervals_cover_the_truth(points, count):
    own, *others = points
    truth = effective_robustness(rates(*own), dense(*others)).value
    hits, tries = 0, 0
    for seed in range(250):
        found = measured(points, count, np.random.default_rng([count, seed]))
        if isinstance(found, Effective):
            interval = found.interval(bootstrap_weights(count, replicates=400, seed=seed))
            if interval.is_stated:
                tries += 1
                hits += interval.low <= truth <= interval.high
    # Four standard errors of the share below 0.93 at the fewest tries.
    assert tries > 100
    assert hits / tries > 0.93 - 4 * np.sqrt(0.93 * 0.07 / tries)
