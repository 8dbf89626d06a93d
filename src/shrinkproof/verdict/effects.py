"""What a method changes in a number of a network, as contrasts over trainings and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate, Json
from shrinkproof.selectors import Selector
from shrinkproof.statistics import Replicated, averaged, calculated
from shrinkproof.verdict.claims import Effect
from shrinkproof.verdict.contrasts import Change, Contrast, over_trainings
from shrinkproof.verdict.methods import METHODS, Treatment
from shrinkproof.verdict.network import Network, bias_in


@dataclass(frozen=True, slots=True)
class Measured:
    """An effect in a network.

    Attributes:
        contrasts: one; with ``every`` one for each recipe.
        names: what each contrast is about.
        means: the mean over trainings, with its values on resampled images, of each contrast.
        reasons: what a reader must know.
        details: the numbers of each recipe.
    """

    contrasts: tuple[Contrast, ...]
    names: tuple[str, ...]
    means: tuple[Replicated, ...]
    reasons: tuple[str, ...] = ()
    details: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """One recipe in one training: its number and what that is compared with."""

    treatment: Treatment
    own: Replicated
    other: Replicated


def measure(effect: Effect, network: Network) -> Measured | Undefined:
    """Return an effect with its uncertainty, or why there is none.

    A training in which a recipe has no number is left out for all recipes, and a reason says so.
    """
    chosen = network.chosen(effect.method, effect.levels)
    if effect.over == "slope":
        chosen = [treatment for treatment in chosen if treatment.level]
    if not chosen:
        return Undefined(_absent(effect))
    trainings: list[list[_Part]] = []
    missing: list[str] = []
    for repeat in _repeats(chosen):
        parts = [_part(effect, network, treatment, repeat) for treatment in chosen]
        known = [part for part in parts if isinstance(part, _Part)]
        missing += [part.reason for part in parts if isinstance(part, Undefined)][:1]
        if len(known) == len(parts):
            trainings.append(known)
    if not trainings:
        return Undefined(f"nothing measured: {missing[0]}")
    reasons = [f"left out, one training: {text}" for text in dict.fromkeys(missing)]
    reasons += _about_recipes(effect, network, chosen)
    return _contrasts(effect, chosen, trainings, reasons, network.reader.images)


def _repeats(chosen: Sequence[Treatment]) -> list[int]:
    """Return the trainings of recipes; one where nothing is trained, whatever was repeated."""
    trained = [treatment for treatment in chosen if treatment.is_trained]
    found = {candidate.repeat for treatment in trained for candidate in treatment.repeats}
    return sorted(found) or [0]


def _about_recipes(effect: Effect, network: Network, chosen: Sequence[Treatment]) -> list[str]:
    """Return what must be known about the recipes that stand for a method."""
    reasons = []
    originals = [
        treatment.recipe
        for treatment in chosen
        if network.control_of(treatment.repeats[0]) is network.original
    ]
    if effect.against == "control" and originals:
        reasons.append(
            f"{', '.join(originals)}: nothing is trained, so the original is the control"
        )
    levels = [treatment.level for treatment in chosen]
    if len(set(levels)) < len(levels):
        reasons.append(
            "several recipes at one ratio, each counts as much: "
            f"{', '.join(treatment.recipe for treatment in chosen)}"
        )
    return reasons


def _absent(effect: Effect) -> str:
    low, high = effect.levels
    ratios = "" if effect.levels == (0.0, 1.0) else f" at ratios {low:g} to {high:g}"
    return f"nothing measured: the run has no {METHODS.get(effect.method, effect.method)}{ratios}"


def _part(effect: Effect, network: Network, treatment: Treatment, repeat: int) -> _Part | Undefined:
    selector = Selector.parse(effect.selector)
    candidate = treatment.in_training(repeat)
    if candidate is None:
        return Undefined(f"{network.model}/{treatment.recipe} was not trained as often as others")
    own = network.number(candidate, treatment.form, selector)
    compared = _compared(effect, network, candidate)
    if isinstance(own, Undefined) or isinstance(compared, Undefined):
        return own if isinstance(own, Undefined) else _undefined(compared)
    other = network.number(compared, treatment.form, selector)
    if isinstance(other, Undefined):
        return other
    if effect.is_relative and other.value <= 0:
        return Undefined(f"{compared.label}: nothing is relative to {other.value:g}")
    return _Part(treatment, own, other)


def _compared(effect: Effect, network: Network, candidate: Candidate) -> Candidate | Undefined:
    return network.original if effect.against == "original" else network.control_of(candidate)


def _undefined(value: Candidate | Undefined) -> Undefined:
    assert isinstance(value, Undefined), "the caller has looked"
    return value


def _contrasts(
    effect: Effect,
    chosen: Sequence[Treatment],
    trainings: Sequence[Sequence[_Part]],
    reasons: list[str],
    images: int,
) -> Measured:
    """Return the linear combinations of the changes that the effect asks for."""
    singles = [[0.0] * len(chosen) for _ in chosen]
    for position, weights in enumerate(singles):
        weights[position] = 1.0
    combinations = singles if effect.over == "every" else [_weights(effect, chosen)]
    names = [t.recipe for t in chosen] if effect.over == "every" else [""]
    contrasts, means = [], []
    for weights in combinations:
        changes = [_change(effect, parts, weights) for parts in trainings]
        contrasts.append(over_trainings(changes, images))
        means.append(averaged(*(change.number for change in changes)))
    details = [_detail(effect, position, trainings, images) for position in range(len(chosen))]
    return Measured(tuple(contrasts), tuple(names), tuple(means), tuple(reasons), tuple(details))


def _weights(effect: Effect, chosen: Sequence[Treatment]) -> list[float]:
    """Return the weight of each change: a mean, or the least-squares slope on the ratio.

    What candidates are compared with is the point at ratio 0 of the line.
    """
    if effect.over != "slope":
        return [1 / len(chosen)] * len(chosen)
    ratios = np.array([0.0, *(treatment.level or 0.0 for treatment in chosen)])
    centered = ratios - ratios.mean()
    return [float(weight) for weight in (centered / (centered**2).sum())[1:]]


def _change(effect: Effect, parts: Sequence[_Part], weights: Sequence[float]) -> Change:
    """Return the combined change of one training."""
    selector = Selector.parse(effect.selector)
    above = below = 0.0
    numbers = []
    for part, weight in zip(parts, weights, strict=True):
        numbers.append(
            calculated(_relative if effect.is_relative else np.subtract, part.own, part.other)
        )
        own, other = bias_in(selector, part.own), bias_in(selector, part.other)
        if effect.is_relative:
            own, other = own / part.other.value, other * part.own.value / part.other.value**2
        up, down = (own, other) if weight > 0 else (other, own)
        above, below = above + abs(weight) * up, below + abs(weight) * down

    def combined(*values: Any) -> Any:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    return Change(calculated(combined, *numbers), above, below)


def _detail(
    effect: Effect, position: int, trainings: Sequence[Sequence[_Part]], images: int
) -> Json:
    parts = [training[position] for training in trainings]
    first = parts[0].treatment
    weights = [float(i == position) for i in range(len(trainings[0]))]
    contrast = over_trainings(
        [_change(effect, training, weights) for training in trainings], images
    )
    ends = contrast.interval()
    return {
        "recipe": first.recipe,
        "level": first.level,
        "ours": [part.own.value for part in parts],
        "compared_with": [part.other.value for part in parts],
        "change": contrast.value,
        "low": None if ends is None else ends[0],
        "high": None if ends is None else ends[1],
    }


def scale_of(effect: Effect) -> str:
    """Return the unit in which an effect is printed, see `Finding`."""
    if effect.is_relative:
        return "relative"
    known = described(Selector.parse(effect.selector).metric)
    if known is None or known.unit != "fraction":
        return ""
    return "slope" if effect.over == "slope" else "points"


def _relative(a: Any, b: Any) -> Any:
    return a / b - 1
