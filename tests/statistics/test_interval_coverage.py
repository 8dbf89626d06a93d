"""Do stated intervals contain the truth? Planted worlds with known calibration error."""

import numpy as np
import pytest

from shrinkproof.statistics import Terms, bootstrap_weights, interval, paired_interval

FAST = [
    ("sharp", "uniform", 0.0, 1_000, "equal-width"),
    ("extreme", "uniform", 0.0, 1_000, "equal-width"),
    ("flat", "uniform", 0.0, 2_000, "equal-width"),
    ("sharp", "top", 0.02, 1_000, "equal-width"),
    ("medium", "top", 0.02, 1_000, "equal-width"),
    ("sharp", "alternating", 0.05, 1_000, "equal-width"),
    ("extreme", "uniform", 0.05, 2_000, "equal-width"),
    ("sharp", "uniform", 0.0, 1_000, "equal-mass"),
    ("sharp", "uniform", 0.0, 10_000, "equal-width"),
    ("certain", "uniform", 0.0, 10_000, "equal-width"),
]


@pytest.mark.parametrize(
    ("confidence", "shape", "error", "count", "metric"),
    FAST,
    ids=["-".join(map(str, case)) for case in FAST],
)
def test_calibration_errors_are_covered(script, refutes, confidence, shape, error, count, metric):
    trials = 150 if count < 5_000 else 40
    world = script.World(confidence, shape, error, count, metric=metric)
    found = script.simulate(world, trials, replicates=300)
    assert found.stated > trials / 2
    assert not refutes(found.covered, found.stated), found


@pytest.mark.slow
@pytest.mark.parametrize("part", [pytest.param(p, marks=pytest.mark.long) for p in range(8)])
def test_calibration_errors_are_covered_in_the_published_table(script, part):
    for world in script.worlds()[part::8]:
        found = script.simulate(world, 400)
        wrong = (1 - found.covered) * found.stated / 400 if found.stated else 0.0
        assert wrong <= 0.10, (world, found)
        assert found.covered >= 0.90 or found.stated < 100, (world, found)


@pytest.mark.parametrize("expected_errors", [3.05, 5.05, 15, 60])
def test_accuracy_is_covered_however_few_errors_there_are(refutes, expected_errors):
    count, trials = 500, 300
    draws = np.random.default_rng(4)
    weights = bootstrap_weights(count, replicates=300, seed=4)
    truth = 1 - expected_errors / count
    covered = 0
    for _ in range(trials):
        values = (draws.random((count, 1)) < truth).astype(float)
        found = interval(Terms(values=values, is_binary=True), weights)
        covered += found.low <= truth <= found.high
    assert not refutes(covered / trials, trials, 0.93)


@pytest.mark.parametrize("expected_errors", [5, 15, 60])
def test_brier_like_means_are_rarely_stated_wrongly(refutes, expected_errors):
    count, trials = 500, 300
    draws = np.random.default_rng(5)
    weights = bootstrap_weights(count, replicates=300, seed=5)
    risk = expected_errors / count
    truth = risk * 2 * (1 - risk) ** 2 + (1 - risk) * 2 * risk**2
    wrong = 0
    for _ in range(trials):
        is_wrong = draws.random((count, 1)) < risk
        found = interval(
            Terms(values=np.where(is_wrong, 2 * (1 - risk) ** 2, 2 * risk**2)), weights
        )
        wrong += found.is_stated and not found.low <= truth <= found.high
    assert not refutes(1 - wrong / trials, trials)


@pytest.mark.parametrize(("gained", "lost"), [(0.0, 0.002), (0.004, 0.004), (0.02, 0.05)])
def test_changes_of_accuracy_are_covered(refutes, gained, lost):
    count, trials = 500, 200
    draws = np.random.default_rng(6)
    weights = bootstrap_weights(count, replicates=300, seed=6)
    covered = 0
    for _ in range(trials):
        fate = draws.random(count)
        before = (fate >= gained).astype(float)
        after = np.where(fate >= 1 - lost, 0.0, 1.0)
        a, b = (Terms(values=v[:, None], is_binary=True) for v in (after, before))
        found = paired_interval(a, b, weights)
        covered += found.low <= gained - lost <= found.high
    assert not refutes(covered / trials, trials)


def test_ratios_of_errors_are_covered(refutes):
    count, trials = 500, 200
    draws = np.random.default_rng(7)
    weights = bootstrap_weights(count, replicates=300, seed=7)
    model, reference = np.array([0.2, 0.5]), np.array([0.1, 0.4])
    truth = float((model / reference).mean())
    covered = 0
    for _ in range(trials):
        hard = draws.random((count, 1))
        values = np.concatenate([hard < model, hard < reference], axis=1).astype(float)
        found = interval(Terms(values=values, kind="mean-of-ratios"), weights)
        covered += found.low <= truth <= found.high
    assert not refutes(covered / trials, trials)
