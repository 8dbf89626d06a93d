"""Tests in words, for tables."""

from __future__ import annotations

from typing import Final

from shrinkproof.verdict.claims import (
    Between,
    Correlation,
    Count,
    Effect,
    FormGap,
    Front,
    Joint,
    Table,
    Test,
    Threshold,
)
from shrinkproof.verdict.methods import METHODS

_OVER: Final = {"mean": "mean", "every": "every one", "slope": "slope on the ratio"}


def words_of(test: Test) -> str:
    """Return what is tested, in one line."""
    if isinstance(test, Effect):
        return _effect(test)
    if isinstance(test, Joint):
        return "; and ".join(_effect(part) for part in test.parts)
    if isinstance(test, Between):
        return f"{_effect(test.effect)}: more where {test.by} is largest than where least"
    if isinstance(test, Threshold):
        side = "above" if test.direction == "higher" else "below"
        rise = f", relative rise from {test.relative_to}" if test.relative_to else ""
        return f"{test.selector} of the original{rise}, {side} {test.value:g}"
    if isinstance(test, Correlation):
        how = "rises" if test.direction == "higher" else "falls"
        return f"{test.y} {how} with {test.x} over the recipes (Spearman)"
    if isinstance(test, FormGap):
        return (
            f"{test.selector} of {METHODS.get(test.method, test.method)}: file minus PyTorch "
            f"network, {test.direction} by more than {test.margin:g}"
        )
    return _of_lists(test)


def _of_lists(test: Front | Table | Count) -> str:
    if isinstance(test, Front):
        return f"front of {', '.join(test.objectives)}, all networks together"
    if isinstance(test, Count):
        side = "at most" if test.direction == "lower" else "at least"
        return f"compressed networks with {test.selector} {side} {test.value:g}"
    return f"published {', '.join(test.selectors)} beside ours"


def _effect(effect: Effect) -> str:
    low, high = effect.levels
    levels = "" if effect.levels == (0.0, 1.0) else f" at {low:g} to {high:g}"
    if effect.levels != (0.0, 1.0) and low == high:
        levels = f" at {low:g}"
    goal = effect.direction if effect.goal == "improves" else f"kept within {effect.margin:.3g}"
    margin = f", margin {effect.margin:.3g}" if effect.goal == "improves" and effect.margin else ""
    against = "the original" if effect.against == "original" else "the dense control"
    relative = ", relative" if effect.is_relative else ""
    than = "than" if effect.goal == "improves" else "of"
    return (
        f"{effect.selector} of {METHODS.get(effect.method, effect.method)}{levels}: {goal} {than} "
        f"{against}{relative}{margin} ({_OVER[effect.over]})"
    )
