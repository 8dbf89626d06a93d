"""Which channels may go: names, couplings and locks; numbers only, no tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.compressors.channels.selection import Cell, CellKey
from shrinkproof.compressors.layers import matching
from shrinkproof.errors import CompressionError

if TYPE_CHECKING:
    from shrinkproof.compressors.coupling import Coupling

STEP: Final = "prune.channels"


@dataclass(frozen=True)
class Producers:
    """The channels of a model and the layers that make them.

    Attributes:
        coupling: what has to go together.
        axes: layer that mixes channels (any but depthwise) -> class of each output channel.
        depthwise: layer that treats each channel alone -> class of each output channel.
    """

    coupling: Coupling
    axes: dict[str, NDArray[np.int64]]
    depthwise: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, coupling: Coupling) -> Producers:
        """Return the producers of a coupled model."""
        outputs = {name: coupling.outputs(name) for name in coupling.layers}
        depthwise = {name for name, use in coupling.layers.items() if use.depthwise}
        return cls(
            coupling=coupling,
            axes={name: axis for name, axis in outputs.items() if name not in depthwise},
            depthwise={name: axis for name, axis in outputs.items() if name in depthwise},
        )

    def within(self, classes: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the mixing layers that make any of the given classes, in network order."""
        return tuple(name for name, axis in self.axes.items() if classes[axis].any())


@dataclass(frozen=True)
class Candidates:
    """What may go, and why the rest may not.

    Attributes:
        producers: the layers.
        layers: mixing layers that make at least one channel that may go.
        open: class -> whether it may go, (classes,) bool.
        untouched: selected layer -> why its channels, or some of them, stay.
    """

    producers: Producers
    layers: tuple[str, ...]
    open: NDArray[np.bool_]
    untouched: dict[str, str]


def candidates(producers: Producers, include: Sequence[str], exclude: Sequence[str]) -> Candidates:
    """Return which channels may go.

    A channel may go if every mixing layer that makes it is selected, no layer that makes or
    filters it is excluded, and it is not locked.

    Raises:
        CompressionError: a pattern matches no layer, a layer that is named in full keeps all its
            channels, or nothing may go.
    """
    outputs = {n: _outputs(producers, n) for n in producers.coupling.layers}
    selected = set(matching(outputs, include, exclude, step=STEP))
    excluded = _matched(outputs, exclude)
    open_ = np.zeros(producers.coupling.classes, dtype=bool)
    for axis in producers.axes.values():
        open_[axis] = True
    barred: dict[int, str] = {}
    for name, axis in outputs.items():
        if name in excluded or (name in producers.axes and name not in selected):
            barred.update((int(c), name) for c in axis if int(c) not in barred)
    open_[list(barred)] = False
    open_[list(producers.coupling.locked)] = False
    untouched = {}
    for name in outputs:
        if name in selected:
            reason = _reason(name, outputs[name], open_, barred, producers.coupling.locked)
            if reason:
                untouched[name] = reason
    kept_whole = {name for name in selected if not open_[outputs[name]].any()}
    for pattern in include:
        if not any(sign in pattern for sign in "*?[") and pattern in kept_whole:
            raise CompressionError(
                f"{STEP}: a layer that is named must have channels that can go, got {pattern!r}: "
                f"{untouched[pattern]}; take it out of `include`"
            )
    if not open_.any():
        reasons = "; ".join(f"{name}: {reason}" for name, reason in untouched.items())
        raise CompressionError(
            f"{STEP}: the model must have channels that can go, got none ({reasons})"
        )
    return Candidates(producers, producers.within(open_), open_, untouched)


def _outputs(producers: Producers, name: str) -> NDArray[np.int64]:
    return producers.axes[name] if name in producers.axes else producers.depthwise[name]


def _matched(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    return set(matching(names, patterns, (), step=STEP)) if patterns else set()


def _reason(
    name: str,
    axis: NDArray[np.int64],
    open_: NDArray[np.bool_],
    barred: Mapping[int, str],
    locked: Mapping[int, str],
) -> str:
    """Return why channels of a selected layer stay; empty where all may go."""
    staying = [int(c) for c in axis if not open_[c]]
    if not staying:
        return ""
    reasons: dict[str, None] = {}
    for c in staying:
        if c in locked:
            reasons[locked[c]] = None
        elif barred.get(c, name) != name:
            reasons[f"tied to the channels of {barred[c]}, which is not selected"] = None
        else:
            reasons["no layer that mixes channels makes them"] = None
    share = "" if len(staying) == axis.size else f"{len(staying)} of {axis.size} channels: "
    return share + "; ".join(reasons)


def cells(
    found: Candidates,
    scores: NDArray[np.float64],
    *,
    round_to: int,
    floor: float,
    before: Mapping[CellKey, tuple[int, int]],
) -> tuple[Cell, ...]:
    """Return the cells of the channels that may go, in the order of the network.

    A cell whose channels all went in earlier iterations stays as one without channels to give.

    Args:
        found: what may go; classes without a score (NaN) stay.
        scores: class -> score, (classes,).
        round_to: kept channels of each layer are a multiple of it where possible.
        floor: fraction of each cell that stays in any case.
        before: key of a cell -> its width and how many channels could go in the model that
            entered the step; empty for that model itself.
    """
    producers = found.producers
    names = list(producers.axes)
    member = np.zeros((producers.coupling.classes, len(names)), dtype=bool)
    multiplicity = np.ones(producers.coupling.classes, dtype=np.int64)
    for column, axis in enumerate(producers.axes.values()):
        member[axis, column] = True
        counts = np.bincount(axis, minlength=producers.coupling.classes)
        multiplicity = np.maximum(multiplicity, counts)
    open_ = found.open & ~np.isnan(scores)
    group_of = {
        int(c): number
        for number, group in enumerate(producers.coupling.groups())
        for c in group.classes
    }
    made: dict[CellKey, list[int]] = {}
    for c in _network_order(producers):
        layers = tuple(n for n, own in zip(names, member[c], strict=True) if own)
        made.setdefault((layers, int(multiplicity[c])), []).append(c)
    found_cells = []
    for key, every in made.items():
        classes = np.array(every, dtype=np.int64)
        free = classes[open_[classes]]
        if not free.size and key not in before:
            continue
        order = np.argsort(scores[free], kind="stable")
        width, could = before.get(key, (classes.size, free.size))
        found_cells.append(
            Cell(
                key=key,
                group=group_of[int(classes[0])],
                classes=free[order],
                scores=scores[free[order]],
                width=classes.size,
                step=round_to // math.gcd(round_to, key[1]),
                least=max(1, math.ceil(floor * width - 1e-9)),
                before=could,
            )
        )
    return tuple(found_cells)


def _network_order(producers: Producers) -> list[int]:
    """Return the classes that mixing layers make, in the order of layers and positions."""
    order: dict[int, None] = {}
    for axis in producers.axes.values():
        order.update((int(c), None) for c in axis)
    return list(order)
