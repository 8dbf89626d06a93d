"""Findings about what methods change: effects, joint effects, and differences between networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from shrinkproof.protocols import Undefined
from shrinkproof.selectors import Selector
from shrinkproof.statistics import calculated
from shrinkproof.verdict.claims import Between, Effect, FormGap, Joint
from shrinkproof.verdict.contrasts import Change, Contrast, minus, over_trainings
from shrinkproof.verdict.effects import Measured, measure, scale_of
from shrinkproof.verdict.forms import unit_of
from shrinkproof.verdict.methods import INT8, Treatment
from shrinkproof.verdict.network import Network, bias_in
from shrinkproof.verdict.outcomes import Finding, nothing


def of_effect(effect: Effect, network: Network, *, is_number: bool = False) -> Finding:
    """Return what is found about an effect.

    Args:
        effect: the effect.
        network: in which network.
        is_number: ask whether it is the published one, within the margin, instead of its direction.
    """
    measured = measure(effect, network)
    if isinstance(measured, Undefined):
        return nothing(measured.reason)
    if is_number and effect.published is None:
        return nothing("no number was published")
    tests = [_tested(effect, contrast, is_number=is_number) for contrast in measured.contrasts]
    p_for = _largest([test.p_for for test in tests])
    p_against = _smallest([test.p_against for test in tests])
    worst = _weakest([(test.p_for, test.p_against, test.gain) for test in tests], p_for, p_against)
    shown = measured.contrasts[worst]
    low, high = shown.interval() or (None, None)
    return Finding(
        value=shown.value,
        low=low,
        high=high,
        unit=scale_of(effect),
        published=effect.published,
        trainings=shown.trainings,
        images=network.reader.images,
        p_for=p_for,
        p_against=p_against,
        holds=all(test.holds for test in tests),
        contradicted=_contradicted(effect, shown, is_number=is_number),
        reasons=(*measured.reasons, *_about(measured, worst), *_unknown(shown, network)),
        details=measured.details,
    )


class _Tested:
    """One contrast against its hypotheses.

    Attributes:
        gain: how far it goes in the claimed direction.
        p_for: p-value of the claim being wrong.
        p_against: p-value of the claim being right.
        holds: whether the value alone agrees.
    """

    def __init__(
        self, gain: float, p_for: float | None, p_against: float | None, *, holds: bool
    ) -> None:
        self.gain = gain
        self.p_for = p_for
        self.p_against = p_against
        self.holds = holds


def _tested(effect: Effect, contrast: Contrast, *, is_number: bool) -> _Tested:
    gain = contrast if effect.direction == "higher" else contrast.turned()
    if is_number and effect.published is not None:
        return _same(contrast, effect.published, effect.margin)
    if effect.goal == "keeps":
        limit = -effect.margin
        holds = gain.value >= limit
        return _Tested(gain.value, gain.p_above(limit), gain.p_below(limit), holds=holds)
    return _Tested(gain.value, gain.p_above(0.0), gain.p_below(effect.margin), holds=gain.value > 0)


def _contradicted(effect: Effect, contrast: Contrast, *, is_number: bool) -> str:
    """Return whether a contradiction shows the opposite, or only too small a change."""
    ends = contrast.interval()
    if is_number or effect.goal == "keeps" or ends is None:
        return ""
    is_opposite = ends[1] < 0 if effect.direction == "higher" else ends[0] > 0
    if is_opposite:
        return "the change is in the opposite direction"
    return (
        "any change in the claimed direction is smaller than the margin; no opposite one is shown"
    )


def _same(contrast: Contrast, published: float, margin: float) -> _Tested:
    """Ask whether a value is the published one within the margin: two one-sided tests."""
    low, high = published - margin, published + margin
    inside = [contrast.p_above(low), contrast.p_below(high)]
    outside = [contrast.p_above(high), contrast.p_below(low)]
    distance = abs(contrast.value - published)
    return _Tested(-distance, _largest(inside), _smallest(outside), holds=distance <= margin)


def _largest(values: Sequence[float | None]) -> float | None:
    """Return the p-value of "not all of them hold": the largest one (intersection-union)."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _smallest(values: Sequence[float | None]) -> float | None:
    """Return the p-value of "all of them hold": the smallest one, as often as there are tests."""
    known = [value for value in values if value is not None]
    return min(1.0, len(known) * min(known)) if known else None


def _weakest(
    each: Sequence[tuple[float | None, float | None, float]],
    p_for: float | None,
    p_against: float | None,
) -> int:
    """Return which test is shown: the one whose p-value is that of all of them.

    Args:
        each: p-value for and against, and how well the value alone agrees.
        p_for: of all.
        p_against: of all; where it is the smaller one, the test that says most against is shown.
    """
    if _or_one(p_against) < _or_one(p_for):
        return min(range(len(each)), key=lambda i: (_or_one(each[i][1]), each[i][2]))
    return min(range(len(each)), key=lambda i: (-_or_one(each[i][0]), each[i][2]))


def _or_one(p: float | None) -> float:
    """Return a p-value; 1 where there is none, which shows nothing."""
    return 1.0 if p is None else p


def _about(measured: Measured, shown: int) -> list[str]:
    if len(measured.contrasts) == 1:
        return []
    return [f"shown is {measured.names[shown]}, the weakest of {len(measured.contrasts)}"]


def _unknown(contrast: Contrast, network: Network) -> list[str]:
    """Return what is not known of the spread; nothing where all values are published ones."""
    return [contrast.reason] if contrast.reason and not network.is_published else []


def of_joint(joint: Joint, network: Network) -> Finding:
    """Return what is found about several effects that must all hold; the weakest one is shown."""
    parts = [of_effect(part, network) for part in joint.parts]
    broken = next((part for part in parts if part.obstacle), None)
    if broken is not None:
        return nothing(broken.obstacle, broken.reasons)
    p_for = _largest([part.p_for for part in parts])
    p_against = _smallest([part.p_against for part in parts])
    each = [(part.p_for, part.p_against, float(bool(part.holds))) for part in parts]
    weakest = _weakest(each, p_for, p_against)
    shown = parts[weakest]
    names = [part.selector for part in joint.parts]
    return Finding(
        value=shown.value,
        low=shown.low,
        high=shown.high,
        unit=shown.unit,
        trainings=min(part.trainings for part in parts),
        images=shown.images,
        p_for=p_for,
        p_against=p_against,
        holds=all(part.holds for part in parts),
        reasons=(
            f"shown is {names[weakest]}, the weakest of {len(parts)}",
            *dict.fromkeys(reason for part in parts for reason in part.reasons),
        ),
        details=tuple(
            {"selector": name, "change": part.value, "low": part.low, "high": part.high}
            for name, part in zip(names, parts, strict=True)
        ),
    )


def of_between(between: Between, networks: Sequence[Network]) -> Finding:
    """Return how much larger an effect is in the network with most of a cost than with least."""
    by = Selector.parse(between.by)
    costs = [(n, n.number(n.original, n.reader.form, by)) for n in networks]
    known = [(found.value, n) for n, found in costs if not isinstance(found, Undefined)]
    if len(known) < 2 or min(c for c, _ in known) == max(c for c, _ in known):
        return nothing(f"it takes two networks with different {between.by}")
    (_, least), (_, most) = min(known, key=lambda k: k[0]), max(known, key=lambda k: k[0])
    effect = between.effect
    if effect.over == "every":
        return nothing("networks are compared by one number each, the mean or the slope")
    found = [measure(effect, network) for network in (most, least)]
    missing = next((item for item in found if isinstance(item, Undefined)), None)
    if missing is not None:
        return nothing(missing.reason)
    big, small = (item for item in found if isinstance(item, Measured))
    shift = calculated(np.subtract, big.means[0], small.means[0])
    gap = minus(big.contrasts[0], small.contrasts[0], shift, most.reader.images)
    gain = gap if effect.direction == "higher" else gap.turned()
    low, high = gap.interval() or (None, None)
    return Finding(
        value=gap.value,
        low=low,
        high=high,
        unit=scale_of(effect),
        trainings=gap.trainings,
        images=most.reader.images,
        p_for=gain.p_above(0.0),
        p_against=gain.p_below(effect.margin),
        holds=gain.value > 0,
        reasons=(
            f"{most.model} minus {least.model}: two networks, which differ in more than their cost",
            *big.reasons,
            *small.reasons,
            *_unknown(gap, most),
        ),
        details=(
            {"network": most.model, "change": big.contrasts[0].value},
            {"network": least.model, "change": small.contrasts[0].value},
        ),
    )


def of_form_gap(gap: FormGap, network: Network) -> Finding:
    """Return what exported files change against the PyTorch networks they were made from.

    The claim is about a change of at least the margin.
    """
    base = gap.method.removesuffix(INT8)
    pairs = _published_pairs(base, network) if network.is_published else _pairs(base, network)
    if not pairs:
        return nothing(f"nothing measured: the run has no {gap.method} in both forms")
    selector = Selector.parse(gap.selector)
    changes, missing = [], []
    for (file, network_form), (a, b) in pairs:
        own = network.number(a, file, selector)
        other = network.number(b, network_form, selector)
        if isinstance(own, Undefined) or isinstance(other, Undefined):
            missing.append(own.reason if isinstance(own, Undefined) else _reason(other))
            continue
        above, below = bias_in(selector, own), bias_in(selector, other)
        changes.append(Change(calculated(np.subtract, own, other), above, below))
    if not changes:
        return nothing(f"nothing measured: {missing[0]}")
    contrast = over_trainings(changes, network.reader.images)
    gain = contrast if gap.direction == "higher" else contrast.turned()
    low, high = contrast.interval() or (None, None)
    return Finding(
        value=contrast.value,
        low=low,
        high=high,
        unit="points" if unit_of(selector) == "fraction" else "",
        trainings=contrast.trainings,
        images=network.reader.images,
        p_for=gain.p_above(gap.margin),
        p_against=gain.p_below(gap.margin),
        holds=gain.value > gap.margin,
        reasons=(
            *(f"left out: {text}" for text in dict.fromkeys(missing)),
            *_others(base, network),
            *_unknown(contrast, network),
        ),
        details=({"changes": [value for value in contrast.values if math.isfinite(value)]},),
    )


def _reason(value: object) -> str:
    return value.reason if isinstance(value, Undefined) else ""


def _pairs(base: str, network: Network) -> list[Any]:
    """Return the two forms of each training of a method whose twin imitates its file."""
    found = _first(network.chosen(base) or network.chosen(base + INT8))
    return [(("artifact", "twin"), (c, c)) for c in found if c.is_imitated]


def _published_pairs(base: str, network: Network) -> list[Any]:
    """Return two published candidates, which are the forms of one network."""
    files, floats = _first(network.chosen(base + INT8)), _first(network.chosen(base))
    pairs = zip(files, floats, strict=False)
    return [(("artifact", "artifact"), pair) for pair in pairs]


def _others(base: str, network: Network) -> list[str]:
    """Return which recipes of a method are not shown."""
    names = [treatment.recipe for treatment in network.chosen(base)]
    return [f"shown is {names[0]}, left out: {', '.join(names[1:])}"] if len(names) > 1 else []


def _first(treatments: Sequence[Treatment]) -> Sequence[Any]:
    return treatments[0].repeats if treatments else ()
