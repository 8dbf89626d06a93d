"""Fronts against pymoo and moocore on the same points."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.decision.pareto import nondominated, ranks
from shrinkproof.protocols import Better

pytestmark = pytest.mark.parity

DIRECTIONS = (Better.LOWER, Better.HIGHER)


def cases():
    """Random points of 2 to 5 objectives, coarse ones with many ties and duplicates among them."""
    draws = np.random.default_rng(5)
    for objectives in (2, 3, 4, 5):
        for levels in (3, 1_000_000):
            points = draws.integers(0, levels, (120, objectives)).astype(float)
            better = [DIRECTIONS[int(k)] for k in draws.integers(0, 2, objectives)]
            yield pytest.param(points, better, id=f"{objectives}-of-{levels}")


def minimized(points, better):
    return points * [1 if direction is Better.LOWER else -1 for direction in better]


@pytest.mark.parametrize(("points", "better"), list(cases()))
def test_the_front_is_moocores(points, better):
    moocore = pytest.importorskip("moocore", reason="moocore is not installed")
    theirs = moocore.is_nondominated(minimized(points, better), keep_weakly=True)
    assert nondominated(points, better).tolist() == np.asarray(theirs).tolist()


@pytest.mark.parametrize(("points", "better"), list(cases()))
def test_every_front_is_pymoos(points, better):
    sorting = pytest.importorskip(
        "pymoo.util.nds.non_dominated_sorting", reason="pymoo is not installed"
    )
    fronts = sorting.NonDominatedSorting().do(minimized(points, better))
    ours = ranks(points, better)
    assert [np.flatnonzero(ours == k).tolist() for k in range(ours.max() + 1)] == [
        sorted(front.tolist()) for front in fronts
    ]
