"""Rules for operations that move, select, pool or join values: labels move along."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from shrinkproof.compressors.coupling.shadow import Shadow, concatenated, free, reshaped
from shrinkproof.compressors.coupling.state import Call, State, WeightView

Move = Callable[[Shadow, Call], Shadow | None]


def moving(move: Move, problem: str) -> Callable[[State, Call], None]:
    """Return the rule of an operation with one input.

    Args:
        move: returns the shadow of the output, None where the channels would be broken up.
        problem: what it then does to channels, for the reason.
    """

    def rule(state: State, call: Call) -> None:
        shadow = state.shadow(call.args[0])
        if shadow is None:
            return
        moved = move(shadow, call)
        if moved is None:
            state.atoms.lock(shadow.labels, f"{state.where(call)} {problem}")
            return
        state.give(call.out, moved)

    return rule


def unchanged(state: State, call: Call) -> None:
    """Copies and renamings: the output has the labels of the input."""
    view = state.weight(call.args[0])
    if view is not None:
        state.remember_view(call.out, view)
    state.give(call.out, state.shadow(call.args[0]))


def permuted(state: State, call: Call) -> None:
    """Reordered axes, of activations and of weights."""
    x = call.args[0]
    order = _order(call, x.ndim)
    view = state.weight(x)
    if view is not None:
        state.remember_view(call.out, WeightView(view.owned, tuple(view.dims[d] for d in order)))
    shadow = state.shadow(x)
    if shadow is not None:
        state.give(call.out, Shadow(tuple(call.out.shape), shadow.labels.transpose(order)))


def _order(call: Call, ndim: int) -> tuple[int, ...]:
    """Return which axis of the input each axis of the output is."""
    order = list(range(ndim))
    if call.name == "aten::permute":
        return tuple(d % ndim for d in call.arg(1, "dims"))
    if call.name == "aten::t":
        return tuple(reversed(order))
    first, second = call.arg(1, "dim0") % ndim, call.arg(2, "dim1") % ndim
    order[first], order[second] = order[second], order[first]
    return tuple(order)


def view(shadow: Shadow, call: Call) -> Shadow | None:
    """New shape, same order."""
    return reshaped(shadow, call.out.shape)


def expand(shadow: Shadow, call: Call) -> Shadow | None:
    """Repetition along axes of size one."""
    labels = shadow.labels
    return Shadow(call.out.shape, labels.reshape(_padded(labels.shape, call.out.ndim)))


def repeat(shadow: Shadow, call: Call) -> Shadow | None:
    """Repetition along any axis."""
    times = call.arg(1, "repeats")
    labels = shadow.labels.reshape(_padded(shadow.labels.shape, len(times)))
    tiles = [t if n > 1 else 1 for t, n in zip(times, labels.shape, strict=True)]
    return Shadow(call.out.shape, np.tile(labels, tiles))


def _padded(shape: Sequence[int], ndim: int) -> list[int]:
    return [1] * (ndim - len(shape)) + list(shape)


def spatial(shadow: Shadow, call: Call) -> Shadow | None:
    """Pooling, interpolation, padding of the image: labels must not change over space."""
    found = re.search("([123])d", call.name)
    rank = int(found[1]) if found else 2
    if any(shadow.varies(d) for d in range(len(shadow.shape) - rank, len(shadow.shape))):
        return None
    return Shadow(call.out.shape, shadow.labels)


def first_output(rule: Callable[[State, Call], None]) -> Callable[[State, Call], None]:
    """Return a rule that looks at the first of several outputs only."""

    def first(state: State, call: Call) -> None:
        rule(state, call._replace(out=call.out[0]))

    return first


def along_dim(shadow: Shadow, call: Call) -> Shadow | None:
    """Any operation that works along one axis without channels: softmax, flip, cumulative sum."""
    dims = call.arg(1, "dim")
    dims = call.arg(1, "dims", dims) if dims is None else dims
    dims = [dims] if isinstance(dims, int) else dims
    if any(shadow.varies(d) for d in dims):
        return None
    return Shadow(call.out.shape, shadow.labels)


def reduced(state: State, call: Call) -> None:
    """Mean, sum, maximum and the like, over axes without channels."""
    x = call.args[0]
    shadow = state.shadow(x)
    if shadow is None:
        return
    dims = call.arg(1, "dim")
    if isinstance(dims, int) and not isinstance(dims, bool):
        dims = [dims]
    gone = {d % x.ndim for d in dims} if isinstance(dims, list) and dims else set(range(x.ndim))
    if any(shadow.varies(d) for d in gone):
        state.atoms.lock(shadow.labels, f"{state.where(call)} combines channels into one number")
        return
    for out in [call.out] if isinstance(call.out, Tensor) else call.out:
        keep = out.ndim == x.ndim
        shape = [n for d, n in enumerate(shadow.labels.shape) if keep or d not in gone]
        state.give(out, Shadow(tuple(out.shape), shadow.labels.reshape(shape)))


def sliced(state: State, call: Call) -> None:
    """A part of an axis: free along space, fixed along channels."""
    x = call.args[0]
    shadow = state.shadow(x)
    if shadow is None:
        return
    dim = call.arg(1, "dim", 0) % x.ndim
    if not shadow.varies(dim) or call.out.shape == x.shape:
        state.give(call.out, shadow)
        return
    _lock_parts(state, call, shadow)
    start, stop, step = call.arg(2, "start"), call.arg(3, "end"), call.arg(4, "step", 1)
    part = [slice(None)] * x.ndim
    part[dim] = slice(start, stop, step)
    state.give(call.out, Shadow(tuple(call.out.shape), shadow.labels[tuple(part)]))


def selected(state: State, call: Call) -> None:
    """One position of an axis, which disappears."""
    _separated(state, call, [call.out], call.arg(1, "dim", 0), [call.arg(2, "index", 0)])


def unbound(state: State, call: Call) -> None:
    """All positions of an axis, each on its own."""
    _separated(state, call, call.out, call.arg(1, "dim", 0), range(len(call.out)))


def _separated(
    state: State, call: Call, outs: Sequence[Tensor], dim: int, positions: Sequence[int]
) -> None:
    x = call.args[0]
    shadow = state.shadow(x)
    if shadow is None:
        return
    dim %= x.ndim
    varies = shadow.varies(dim)
    if varies:
        _lock_parts(state, call, shadow)
    for out, position in zip(outs, positions, strict=True):
        labels = np.take(shadow.labels, position if varies else 0, axis=dim)
        state.give(out, Shadow(tuple(out.shape), labels))


def split(state: State, call: Call) -> None:
    """Consecutive parts of an axis: free along space, fixed along channels."""
    x = call.args[0]
    shadow = state.shadow(x)
    if shadow is None:
        return
    dim = call.arg(2, "dim", 0) % x.ndim
    if not shadow.varies(dim):
        for out in call.out:
            state.give(out, shadow)
        return
    _lock_parts(state, call, shadow)
    ends = np.cumsum([out.shape[dim] for out in call.out])[:-1]
    for out, labels in zip(call.out, np.split(shadow.labels, ends, axis=dim), strict=True):
        state.give(out, Shadow(tuple(out.shape), labels))


def _lock_parts(state: State, call: Call, shadow: Shadow) -> None:
    reason = f"{state.where(call)} takes channels apart at fixed positions"
    state.atoms.lock(shadow.labels, reason)


def joined(state: State, call: Call) -> None:
    """Concatenation; parts without labels stay without."""
    tensors = [t for t in call.args[0] if t.shape != (0,)]
    shadows = [state.shadow(t) for t in tensors]
    if any(s is not None for s in shadows):
        dim = call.arg(1, "dim", 0)
        known = [s or free(t.shape) for s, t in zip(shadows, tensors, strict=True)]
        _join(state, call, known, dim)


def stacked(state: State, call: Call) -> None:
    """Concatenation along a new axis."""
    shadows: list[Any] = [state.shadow(t) for t in call.args[0]]
    if any(s is not None for s in shadows):
        dim = call.arg(1, "dim", 0) % call.out.ndim
        known = []
        for shadow, tensor in zip(shadows, call.args[0], strict=True):
            shadow = shadow or free(tensor.shape)
            shape = (*tensor.shape[:dim], 1, *tensor.shape[dim:])
            known.append(Shadow(shape, np.expand_dims(shadow.labels, dim)))
        _join(state, call, known, dim)


def _join(state: State, call: Call, parts: Sequence[Shadow], dim: int) -> None:
    """Give the shadow of joined parts; channels along another axis have to go from all parts."""
    dim %= call.out.ndim
    across = [p for p in parts if any(n > 1 for d, n in enumerate(p.labels.shape) if d != dim)]
    if not across:
        state.give(call.out, concatenated(parts, dim))
        return
    if any(part.varies(dim) for part in parts):
        for part in parts:
            state.atoms.lock(part.labels, f"{state.where(call)} joins channels of different axes")
        state.give(call.out, concatenated(parts, dim))
        return
    first = across[0].labels
    for part in parts:
        reason = f"{state.where(call)} joins it with a tensor without removable channels"
        state.atoms.tie(first, part.labels, reason)
    state.give(call.out, Shadow(tuple(call.out.shape), first))
