"""Findings about originals, and about what goes together over the recipes of a network."""

from __future__ import annotations

import math
from typing import Any

from shrinkproof.metrics.correlation import correlation
from shrinkproof.protocols import Undefined
from shrinkproof.selectors import Selector
from shrinkproof.statistics import Replicated, calculated
from shrinkproof.verdict.claims import Correlation, Threshold
from shrinkproof.verdict.contrasts import Change, over_trainings
from shrinkproof.verdict.forms import unit_of
from shrinkproof.verdict.network import Network, bias_in
from shrinkproof.verdict.outcomes import Finding, nothing

FEWEST: int = 4
"""Recipes that a correlation needs."""


def of_threshold(threshold: Threshold, network: Network) -> Finding:
    """Return on which side of a value a number of the original lies."""
    selector = Selector.parse(threshold.selector)
    form = network.reader.form
    own = network.number(network.original, form, selector)
    if isinstance(own, Undefined):
        return nothing(f"nothing measured: {own.reason}")
    unit = "share" if unit_of(selector) == "fraction" else ""
    change = Change(own, above=bias_in(selector, own))
    if threshold.relative_to:
        base = Selector.parse(threshold.relative_to)
        other = network.number(network.original, form, base)
        if isinstance(other, Undefined) or other.value <= 0:
            reason = other.reason if isinstance(other, Undefined) else "it is 0"
            return nothing(f"nothing measured: {threshold.relative_to}: {reason}")
        unit = "relative"
        change = Change(
            calculated(_rise, own, other),
            above=bias_in(selector, own) / other.value,
            below=bias_in(base, other) * own.value / other.value**2,
        )
    contrast = over_trainings([change], network.reader.images)
    beyond = contrast.p_above(threshold.value), contrast.p_below(threshold.value)
    is_higher = threshold.direction == "higher"
    low, high = contrast.interval() or (None, None)
    return Finding(
        value=contrast.value,
        low=low,
        high=high,
        unit=unit,
        published=threshold.value,
        trainings=1,
        images=network.reader.images,
        p_for=beyond[0] if is_higher else beyond[1],
        p_against=beyond[1] if is_higher else beyond[0],
        holds=(contrast.value > threshold.value) == is_higher,
        reasons=(contrast.reason,) if contrast.reason and not network.is_published else (),
    )


def _rise(a: Any, b: Any) -> Any:
    return a / b - 1


def of_correlation(claim: Correlation, network: Network) -> Finding:
    """Return how two numbers go together over the recipes of a network, as Spearman's rank.

    A recipe counts with its means over trainings. Interval and p-value are Fisher's with the
    standard error of Bonett and Wright 2000; where all ranks agree, the p-value is that of one
    order among all.
    """
    points, counts, missing = _points(claim, network)
    if len(points) < FEWEST:
        why = f": {missing[0]}" if missing else ""
        return nothing(f"a correlation needs {FEWEST} recipes, got {len(points)}{why}")
    x, y = zip(*points.values(), strict=True)
    found = correlation(x, y)
    if isinstance(found, Undefined):
        return nothing(found.reason)
    r, count = found.spearman, len(points)
    gain = r if claim.direction == "higher" else -r
    if abs(r) > 1 - 1e-12:
        p_rise = 1 / math.factorial(count) if gain > 0 else 1.0
        p_fall = 1 / math.factorial(count) if gain < 0 else 1.0
    else:
        from scipy.special import ndtr

        steps = math.atanh(gain) / math.sqrt((1 + r**2 / 2) / (count - 3))
        p_rise, p_fall = float(ndtr(-steps)), float(ndtr(steps))
    stated = found.spearman_interval
    return Finding(
        value=r,
        low=stated.low,
        high=stated.high,
        trainings=min(counts.values(), default=1),
        images=network.reader.images,
        p_for=p_rise,
        p_against=p_fall,
        holds=gain > 0,
        reasons=(
            found.caveat,
            *(f"left out: {text}" for text in dict.fromkeys(missing)),
        ),
        details=tuple({"recipe": name, "x": x, "y": y} for name, (x, y) in points.items()),
    )


def _points(
    claim: Correlation, network: Network
) -> tuple[dict[str, tuple[float, float]], dict[str, int], list[str]]:
    """Return both numbers of each recipe, and what is missing.

    They are means over trainings; how many is counted where anything is trained.
    """
    selectors = [Selector.parse(text) for text in (claim.x, claim.y)]
    points: dict[str, tuple[float, float]] = {}
    counts: dict[str, int] = {}
    missing: list[str] = []
    for treatment in network.chosen("any"):
        found = [
            [network.number(candidate, treatment.form, s) for s in selectors]
            for candidate in treatment.repeats
        ]
        missing += [n.reason for pair in found for n in pair if isinstance(n, Undefined)][:1]
        known = [
            (x.value, y.value)
            for x, y in found
            if isinstance(x, Replicated) and isinstance(y, Replicated)
        ]
        if known and treatment.is_trained:
            counts[treatment.recipe] = len(known)
        if known:
            points[treatment.recipe] = (
                sum(x for x, _ in known) / len(known),
                sum(y for _, y in known) / len(known),
            )
    return points, counts, missing
