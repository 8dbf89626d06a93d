"""Atoms: single positions on the axes of tensors, tied into classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from shrinkproof.compressors.coupling.coupled import Axis

Labels = NDArray[np.int64]

FREE = -1
"""Label of a position that belongs to no axis."""


class Atoms:
    """Numbers every position of every axis, and collects what ties and what locks them."""

    def __init__(self) -> None:
        self.axes: dict[Axis, Labels] = {}
        self._count = 0
        self._ties: list[tuple[Labels, Labels]] = []
        self._locks: list[tuple[Labels, str]] = []

    def fresh(self, size: int) -> Labels:
        """Return new atoms that lie on no tensor."""
        atoms = np.arange(self._count, self._count + size, dtype=np.int64)
        self._count += size
        return atoms

    def axis(self, tensor: str, dim: int, size: int) -> Labels:
        """Return the atoms of an axis, the same ones at every call."""
        axis = Axis(tensor, dim)
        if axis not in self.axes:
            self.axes[axis] = self.fresh(size)
        return self.axes[axis]

    def tie(self, first: Labels, second: Labels, reason: str) -> None:
        """Let atoms at equal positions live or die together.

        Where only one side has an atom it is locked for ``reason``.
        """
        first, second = (labels.ravel() for labels in np.broadcast_arrays(first, second))
        both = (first != FREE) & (second != FREE)
        if both.any():
            self._ties.append((first[both], second[both]))
        if not both.all():
            self.lock(np.concatenate([first[~both], second[~both]]), reason)

    def lock(self, atoms: Labels, reason: str) -> None:
        """Forbid the removal of atoms; the first reason of a class is the one that is told."""
        atoms = atoms[atoms != FREE]
        if atoms.size:
            self._locks.append((atoms, reason))

    def solve(self) -> tuple[Labels, int, dict[int, str]]:
        """Return the class of each atom, the number of classes, and why classes are locked."""
        empty = np.empty(0, dtype=np.int64)
        first = np.concatenate([empty, *(a for a, _ in self._ties)])
        second = np.concatenate([empty, *(b for _, b in self._ties)])
        graph = coo_array((np.ones(first.size, bool), (first, second)), (self._count, self._count))
        count, found = connected_components(graph, directed=False) if self._count else (0, empty)
        reason_of = np.full(count, -1, dtype=np.int64)
        # Backwards, so that the first reason of a class stays.
        for number in reversed(range(len(self._locks))):
            reason_of[found[self._locks[number][0]]] = number
        fixed = np.flatnonzero(reason_of >= 0).tolist()
        locked = {klass: self._locks[reason_of[klass]][1] for klass in fixed}
        return found.astype(np.int64), int(count), locked
