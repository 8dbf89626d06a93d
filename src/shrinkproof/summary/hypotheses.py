"""Tests against the baseline: no difference, and no worse than a stated margin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.metrics.names import (
    EQUIVALENT_P,
    MCNEMAR_P,
    MCNEMAR_P_HOLM,
    NONINFERIOR_P,
    NONINFERIOR_P_HOLM,
)
from shrinkproof.metrics.robustness import without_clean
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better, Undefined
from shrinkproof.records import CLEAN, Candidate
from shrinkproof.statistics import Interval, difference
from shrinkproof.statistics.hypotheses import (
    SIGN_FLIP,
    HypothesisTest,
    group_sums,
    holm,
    mcnemar,
    sign_flip_p,
)
from shrinkproof.statistics.margins import equivalence, noninferiority
from shrinkproof.summary.known import Known
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Split
from shrinkproof.summary.values import CORRUPTED, Derived, measured

# Shape suffixes: N images, G groups.

ACCURACY: Final = "accuracy.top1"
PLACES: Final = ("clean", CORRUPTED)

MOST_EXACT: Final = 300_000_000
"""Steps of the exact sign-flip distribution beyond which its normal limit is taken."""

Tested = HypothesisTest | Undefined
Place = tuple[str, str]
"""Key of the candidate, and ``clean`` or ``corrupted``."""


def p_values(run: Run, rows: Sequence[Derived]) -> Iterator[Derived]:
    """Yield p-values against the baseline, and those corrected for their family (Holm).

    A family is one test of one metric for all recipes of a model, clean and corrupted, on the split
    whose numbers are printed.
    """
    known = Known(run, rows)
    for baseline in known.baselines():
        recipes = known.recipes(baseline.model, with_repeats=True)
        yield from _of_model(known, baseline, recipes)


def _of_model(known: Known, baseline: Candidate, recipes: Sequence[Candidate]) -> Iterator[Derived]:
    same = {
        (c.key, place): test
        for c in recipes
        for place, test in _same_accuracy(known, c, baseline).items()
    }
    yield from _family(known, baseline, (MCNEMAR_P, MCNEMAR_P_HOLM), ACCURACY, same)
    for metric, margin in known.run.settings.margins.items():
        for test, prefixes in (
            (noninferiority, (NONINFERIOR_P, NONINFERIOR_P_HOLM)),
            (equivalence, (EQUIVALENT_P, "")),
        ):
            found: dict[Place, Tested] = {}
            for place in PLACES:
                for c in recipes:
                    tested = _margin_test(known, c, baseline, metric, place, margin, test)
                    if tested is not None:
                        found[c.key, place] = tested
            yield from _family(known, baseline, prefixes, metric, found)


def _family(
    known: Known,
    baseline: Candidate,
    prefixes: tuple[str, str],
    metric: str,
    tests: Mapping[Place, Tested],
) -> Iterator[Derived]:
    """Yield the p-values of a family, then the corrected ones."""
    plain, corrected = prefixes
    values = {
        place: test.p
        for place, test in tests.items()
        if isinstance(test, HypothesisTest) and test.p is not None
    }
    for (key, where), test in tests.items():
        yield _row(known, key, plain + metric, where, test)
    if not corrected:
        return
    text = (
        f"Holm over {len(values)} tests: all recipes of {baseline.model} on the "
        f"{known.run.printing} split, clean and corrupted"
    )
    for (key, where), p in zip(values, holm(list(values.values())), strict=True):
        adjusted = HypothesisTest(math.nan, float(p), "holm", len(values), text)
        yield _row(known, key, corrected + metric, where, adjusted)


def _row(known: Known, key: str, metric: str, place: str, test: Tested) -> Derived:
    split = known.split
    assert split is not None, "there are candidates"
    number: float | Undefined
    if isinstance(test, Undefined) or test.p is None:
        number, text = Undefined(test.reason), ""
    else:
        number = test.p
        parts = [] if test.method == "holm" else [f"{test.method}, {test.count} units"]
        text = "; ".join([*parts, *([test.reason] if test.reason else [])])
    value = measured(metric, number, Interval(reason=text), count=split.count)
    return Derived(key, split.name, place, 0, split.form, value)


def _same_accuracy(known: Known, candidate: Candidate, baseline: Candidate) -> dict[str, Tested]:
    """Return the tests that candidate and baseline are equally often right."""
    split = known.split
    if split is None or split.images is None:
        return {}
    own, other = (split.totals[c.key].errors for c in (candidate, baseline))
    groups = split.images.groups
    found: dict[str, Tested] = {}
    if all(len(errors.get(CLEAN, ())) == split.count for errors in (own, other)):
        found["clean"] = mcnemar(1 - own[CLEAN], 1 - other[CLEAN], groups=groups)
    if without_clean(own) and split.is_complete(candidate.key) and split.is_complete(baseline.key):
        found[CORRUPTED] = _sign_flip(split, without_clean(own), without_clean(other))
    return found


def _sign_flip(
    split: Split, own: Mapping[Any, NDArray[Any]], other: Mapping[Any, NDArray[Any]]
) -> Tested:
    """Test all corrupted conditions together; those of one image (group) are swapped as one.

    McNemar's test with the image as the group: under the null hypothesis the two models can be
    swapped, for an image in all conditions at once. Exact, by the normal limit of the same
    distribution where that would take too long.
    """
    assert split.images is not None, "there are predictions"
    if any(len(errors) != split.count for found in (own, other) for errors in found.values()):
        return Undefined("the images are not known, only numbers")
    gain_N = np.zeros(split.count)
    for condition, errors in own.items():
        gain_N += other[condition].astype(np.float64) - errors
    sums_G = np.rint(group_sums(gain_N, split.images.groups)).astype(np.int64)
    size_G, total = np.abs(sums_G[sums_G != 0]), int(sums_G.sum())
    value = total / (len(own) * split.count)
    if not len(size_G):
        return HypothesisTest(value, 1.0, SIGN_FLIP, 0, "no image speaks for either model")
    if int(size_G.sum()) * len(size_G) <= MOST_EXACT:
        p, method = sign_flip_p(size_G, total), SIGN_FLIP
    else:
        # Sums go in steps of 2, so the normal density is cut in the middle between two of them.
        spread = math.sqrt(2 * float((size_G.astype(np.float64) ** 2).sum()))
        p, method = math.erfc(max(abs(total) - 1, 0) / spread), "sign-flip-normal"
    noun = "image" if split.images.groups is None else "group"
    return HypothesisTest(
        value, p, method, len(size_G), f"all {len(own)} conditions of an {noun} swapped together"
    )


def _margin_test(
    known: Known,
    candidate: Candidate,
    baseline: Candidate,
    metric: str,
    place: str,
    margin: float,
    test: Callable[..., HypothesisTest],
) -> Tested | None:
    """Return the test of a change against its margin; None where there is no such number."""
    if known.value(candidate.key, metric, place) is None:
        return None
    own, other = (known.terms(c.key, metric, place) for c in (candidate, baseline))
    split = known.split
    if own is None or other is None or split is None or split.images is None:
        return Undefined(f"the test needs a mean over images, which {metric} is not")
    named = described(metric)
    sign = -1.0 if named is not None and named.better is Better.LOWER else 1.0
    gain_N = sign * difference(own, other).values[:, 0]
    found = test(gain_N, margin, groups=split.images.groups)
    reason = "; ".join(filter(None, (f"margin {margin:g}", found.reason)))
    return HypothesisTest(found.value, found.p, found.method, found.count, reason)
