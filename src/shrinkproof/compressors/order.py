"""Steps in an order that cannot work, found before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shrinkproof.protocols import Compressor

LEVELS: Final = "levels"
"""The weights of a tensor share a few values."""

GRID: Final = "grid"
"""Weights are numbers of a shorter format: whole multiples of a scale, or short floats."""

FOLDED: Final = "folded"
"""Batch norms are merged into the layers before them."""

_DONE: Final = {LEVELS: "clustered", GRID: "quantized"}
"""What happened to weights that have a property."""


def order_problem(
    steps: Sequence[Compressor], *, has_batch_norms: bool = True
) -> tuple[int, str] | None:
    """Return the position of the first step that cannot follow the earlier ones, and why.

    A step says in ``makes`` and ``destroys`` what it does (see `protocols.Compressor`). Folding
    destroys shared values and number formats, because it multiplies each channel by a factor of
    its own, and happens once. A step is taken to treat every layer that it selects. Steps whose
    name patterns may select different layers are left to the check that each step makes when it
    runs.

    Args:
        steps: in order.
        has_batch_norms: whether the network has batch norms, where that is known.
    """
    folded = not has_batch_norms
    for position, step in enumerate(steps):
        folds = FOLDED in _makes(step) and not folded
        for earlier in steps[:position]:
            message = _conflict(earlier, step, folds=folds)
            if message:
                return position, message
        folded = folded or folds
    return None


def _conflict(earlier: Compressor, step: Compressor, *, folds: bool) -> str:
    """Return why a step cannot follow an earlier one; empty where it can."""
    lost = sorted(_destroys(step) & _makes(earlier))
    if lost and _share_layers(earlier, step):
        done = _DONE.get(lost[0], f"given {lost[0]}")
        if lost[0] in _makes(step):
            return (
                f"{step.name}: weights must be {done} once, got {earlier.name} before it; remove "
                "one of the two from the recipe"
            )
        return (
            f"{step.name}: weights must not be {done} yet, got {earlier.name} before it; put "
            f"`{step.name}` before `{earlier.name}`"
        )
    scaled = sorted(_makes(earlier) & _DONE.keys())
    if folds and scaled and _is_whole(earlier):
        return (
            f"{step.name}: batch norms must be folded before weights are {_DONE[scaled[0]]}, got "
            f"{earlier.name} before the folding, which scales each channel; put `fold` before "
            f"`{earlier.name}`"
        )
    return ""


def _makes(step: Compressor) -> frozenset[str]:
    return frozenset(getattr(step, "makes", ()))


def _destroys(step: Compressor) -> frozenset[str]:
    return frozenset(getattr(step, "destroys", ()))


def _patterns(step: Compressor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(getattr(step, "include", ("*",))), tuple(getattr(step, "exclude", ()))


def _is_whole(step: Compressor) -> bool:
    """Return whether a step treats every layer that is in its scope."""
    return _patterns(step) == (("*",), ())


def _is_narrow(step: Compressor) -> bool:
    """Return whether a step treats convolutions only."""
    return getattr(step, "layers", None) == "conv"


def _share_layers(first: Compressor, second: Compressor) -> bool:
    """Return whether two steps that both have layers to treat must have one in common."""
    if _patterns(first) == _patterns(second):
        return True
    for wide, other in ((first, second), (second, first)):
        if _is_whole(wide) and (_is_narrow(other) or not _is_narrow(wide)):
            return True
    return False
