"""Shadows: which atom stands behind each position of an activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from shrinkproof.compressors.coupling.atoms import FREE, Labels


@dataclass(frozen=True, slots=True)
class Shadow:
    """The atoms behind one tensor.

    Attributes:
        shape: shape of the tensor.
        labels: atoms, ``FREE`` where there is none; same number of axes as the tensor, size 1
            along every axis on which they do not change (batch and space as a rule).
    """

    shape: tuple[int, ...]
    labels: Labels

    def varies(self, dim: int) -> bool:
        """Return whether the atoms change along an axis."""
        return bool(self.labels.shape[dim] > 1)

    def only_varies(self, dim: int) -> bool:
        """Return whether the atoms change along one axis at most, the given one."""
        return all(d == dim % len(self.shape) or n == 1 for d, n in enumerate(self.labels.shape))

    def along(self, dim: int) -> Labels:
        """Return the atoms along an axis, (n,), of a shadow that only varies there."""
        return np.broadcast_to(self.labels.reshape(-1), (self.shape[dim],))


def along(labels: Labels, dim: int, shape: Sequence[int]) -> Shadow:
    """Return the shadow of a tensor whose atoms run along one axis."""
    compact = [1] * len(shape)
    compact[dim] = labels.size
    return Shadow(tuple(shape), labels.reshape(compact))


def reshaped(shadow: Shadow, shape: Sequence[int]) -> Shadow | None:
    """Return the shadow after a change of shape, None where an axis with atoms is split."""
    shape = tuple(shape)
    if 0 in shape:
        return shadow if shape == shadow.shape else None
    full: list[int] = []
    compact: list[int] = []
    for ins, outs in _factors(shadow.shape, shape):
        varying = any(shadow.labels.shape[d] > 1 for d in ins)
        if varying and sum(shape[d] > 1 for d in outs) > 1:
            return None
        full += [shadow.shape[d] if varying else 1 for d in ins]
        compact += [shape[d] if varying else 1 for d in outs]
    labels = np.broadcast_to(shadow.labels, full).reshape(compact)
    return Shadow(shape, labels)


def _factors(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest runs of axes of equal size: axes before, axes after."""
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        ins, outs = [], []
        if i < len(before):
            ins.append(i)
            i += 1
        if j < len(after):
            outs.append(j)
            j += 1
        while prod(before[d] for d in ins) != prod(after[d] for d in outs):
            if prod(before[d] for d in ins) < prod(after[d] for d in outs):
                ins.append(i)
                i += 1
            else:
                outs.append(j)
                j += 1
        runs.append((ins, outs))
    return runs


def concatenated(shadows: Sequence[Shadow], dim: int) -> Shadow:
    """Return the shadow of tensors joined along an axis."""
    dim %= len(shadows[0].shape)
    others = np.broadcast_shapes(
        *(tuple(1 if d == dim else n for d, n in enumerate(s.labels.shape)) for s in shadows)
    )
    parts = [
        np.broadcast_to(s.labels, (*others[:dim], s.shape[dim], *others[dim + 1 :]))
        for s in shadows
    ]
    shape = list(shadows[0].shape)
    shape[dim] = sum(s.shape[dim] for s in shadows)
    labels = np.concatenate(parts, axis=dim)
    first = np.take(labels, [0], axis=dim) if labels.shape[dim] else labels
    return Shadow(tuple(shape), first if (labels == first).all() else labels)


def free(shape: Sequence[int]) -> Shadow:
    """Return the shadow of a tensor without atoms."""
    return Shadow(tuple(shape), np.full([1] * len(shape), FREE, dtype=np.int64))
