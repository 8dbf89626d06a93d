"""Hypervolume and knee against pymoo and moocore on random fronts."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.decision.choice import Objective, Option, decide
from shrinkproof.decision.hypervolume import hypervolume, hypervolume_contributions
from shrinkproof.decision.pareto import nondominated
from shrinkproof.protocols import Better
from shrinkproof.selectors import Selector

pytestmark = pytest.mark.parity

DIRECTIONS = (Better.LOWER, Better.HIGHER)


def cases():
    """Random points of 2 and 3 objectives; the coarse ones have many ties and duplicates."""
    draws = np.random.default_rng(11)
    for objectives in (2, 3):
        for levels in (4, 20, 1_000_000):
            for count in (1, 2, 7, 40, 300):
                points = draws.integers(0, levels, (count, objectives)).astype(float)
                better = [DIRECTIONS[int(k)] for k in draws.integers(0, 2, objectives)]
                name = f"{objectives}-{levels}-{count}"
                yield pytest.param(points, better, 0.9 * levels, id=name)


def turned(points, better):
    return points * [1 if direction is Better.LOWER else -1 for direction in better]


def corner(better, end):
    """Return a reference that a tenth of the values lies beyond, as it stands and turned."""
    reference = np.array([end if d is Better.LOWER else end / 9 for d in better])
    return reference, turned(reference, better)


@pytest.mark.parametrize(("points", "better", "end"), list(cases()))
def test_the_hypervolume_is_moocores_and_pymoos(points, better, end):
    moocore = pytest.importorskip("moocore", reason="moocore is not installed")
    indicator = pytest.importorskip("pymoo.indicators.hv", reason="pymoo is not installed")
    reference, ref = corner(better, end)
    ours = hypervolume(points, better, reference)
    assert ours == pytest.approx(moocore.hypervolume(turned(points, better), ref=ref), rel=1e-12)
    theirs = indicator.HV(ref_point=ref)(turned(points, better))
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(("points", "better", "end"), list(cases()))
def test_contributions_are_moocores(points, better, end):
    moocore = pytest.importorskip("moocore", reason="moocore is not installed")
    reference, ref = corner(better, end)
    ours = hypervolume_contributions(points, better, reference)
    theirs = moocore.hv_contributions(turned(points, better), ref=ref, ignore_dominated=False)
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9 * max(1.0, float(theirs.max())))


def fronts():
    """Random fronts: points on a sphere, so that none dominates another."""
    draws = np.random.default_rng(12)
    for objectives in (2, 3):
        for count in (3, 10, 50):
            for _ in range(4):
                points = draws.random((count, objectives)) + 0.01
                yield 1 - points / np.linalg.norm(points, axis=1, keepdims=True)


def knee(front_FK):
    """Return the position that the rule takes among options that are all on the front."""
    names = [f"cost.c{k}" for k in range(front_FK.shape[1])]
    options = [
        Option(f"{i:03}", f"{i}", "recipe", dict(zip(names, row, strict=True)))
        for i, row in enumerate(front_FK.tolist())
    ]
    chosen = decide(options, [Objective(Selector(n), Better.LOWER) for n in names]).chosen
    return int(chosen)


@pytest.mark.parametrize("front_FK", list(fronts()))
def test_the_knee_is_nearest_to_the_ideal_point_in_pymoos_normalization(front_FK):
    # Where all options are on the front, our ranges, those of the options that keep the rules, are
    # those of pymoo: from the ideal to the nadir point of the front. Its own class for compromise
    # programming normalizes this way and then returns None (0.6.2), so the distance is its too.
    normalization = pytest.importorskip("pymoo.util.normalization", reason="pymoo is not installed")
    from pymoo.util.misc import vectorized_cdist

    assert nondominated(front_FK, [Better.LOWER] * front_FK.shape[1]).all()
    scaled_FK = normalization.normalize(front_FK, estimate_bounds_if_none=True)
    distance_F1 = vectorized_cdist(scaled_FK, np.zeros((1, front_FK.shape[1])))
    assert knee(front_FK) == int(np.argmin(distance_F1))


@pytest.mark.parametrize("count", [3, 11, 51])
def test_the_knee_is_pymoos_achievement_scalarization_on_a_symmetric_front(count):
    # Its achievement function measures the largest gap, ours their Euclidean length: on a convex
    # front that is symmetric around its middle both take the middle, whatever the units are.
    asf = pytest.importorskip("pymoo.decomposition.asf", reason="pymoo is not installed")
    angle_F = np.linspace(0, np.pi / 2, count)
    front_FK = 1 - np.stack([np.sin(angle_F), np.cos(angle_F)], axis=1)
    found = asf.ASF().do(front_FK, np.ones(2)).ravel()
    assert knee(front_FK * [1, 1e6]) == int(np.argmin(found)) == count // 2
