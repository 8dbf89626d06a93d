"""What has to be removed together in one network, and what a removal costs and saves."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import CompressionError


class Axis(NamedTuple):
    """One axis of one parameter or buffer.

    Attributes:
        tensor: qualified name, for example ``layer1.0.conv1.weight``.
        dim: 0 for output channels, 1 for input channels (transposed convolutions swap them).
    """

    tensor: str
    dim: int

    def __str__(self) -> str:
        """Return the spelling of accounts, ``layer1.0.conv1.weight:0``."""
        return f"{self.tensor}:{self.dim}"

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Return the axis spelled ``tensor:dim``."""
        tensor, _, dim = text.rpartition(":")
        return cls(tensor, int(dim))


@dataclass(frozen=True, slots=True)
class LayerUse:
    """One weighted layer and how often it computes.

    Attributes:
        weight: qualified name of its weight.
        out_axis: axis of the weight that runs along the output channels.
        in_axis: axis along the input channels of one group; None where the layer is depthwise.
        kernel: multiplications per output position, output channel and input channel.
        groups: number of groups before any removal.
        positions: positions per image at which the kernel is applied, summed over all calls.
        depthwise: every input channel has its own output channels.
        repeats: consecutive output channels of each position on the output axis; more than one
            only where a depthwise convolution is transposed.
    """

    weight: str
    out_axis: Axis
    in_axis: Axis | None
    kernel: int
    groups: int
    positions: int
    depthwise: bool
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that produce the same channels, as in one residual stream.

    Attributes:
        layers: names of the producing layers, in the order in which they run.
        classes: classes of their output channels, rising.
    """

    layers: tuple[str, ...]
    classes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PadSite:
    """One call that pads channels with zeros, and the classes of the new channels.

    Attributes:
        module: name of the innermost module that makes the call; empty for the model itself.
        pair: position of the channel axis in the padding, counted from the last axis.
        ordinal: how many calls of this kind the module's forward makes before this one.
        before: classes of the zeros in front of the channels.
        after: classes of the zeros behind them.
    """

    module: str
    pair: int
    ordinal: int
    before: NDArray[np.int64]
    after: NDArray[np.int64]


@dataclass(frozen=True)
class Coupling:
    """Which positions of which axes live or die together in one network.

    A class is a set of positions, one or more on each of several axes, that can only be removed
    as a whole. Class numbers are dense, 0 to ``classes - 1``.

    Attributes:
        axes: axis -> class of each position.
        classes: number of classes.
        locked: class -> why it cannot be removed.
        layers: module name -> weighted layer, in the order in which they first run.
        shapes: name -> shape of every parameter, whether it has an axis here or not.
        pads: calls that pad channels with zeros.
        unused: weighted layers that do not run in evaluation mode; they stay as they are.
        fixed: layer whose weight other operations read -> why it keeps its channels.
        other_macs: multiply-accumulates for one image outside the weighted layers: products of
            activations, and weights that are computed. No removal changes them.
    """

    axes: dict[Axis, NDArray[np.int64]]
    classes: int
    locked: dict[int, str]
    layers: dict[str, LayerUse]
    shapes: dict[str, tuple[int, ...]]
    pads: tuple[PadSite, ...] = ()
    unused: tuple[str, ...] = ()
    fixed: dict[str, str] = field(default_factory=dict)
    other_macs: int = 0

    def outputs(self, layer: str) -> NDArray[np.int64]:
        """Return the class of each output channel of a layer."""
        use = self.layers[layer]
        classes = np.repeat(self.axes[use.out_axis], use.repeats)
        # Transposed convolutions hold the output channels of one group only.
        return np.tile(classes, use.groups) if use.out_axis.dim == 1 else classes

    def groups(self) -> list[Group]:
        """Return the classes that layers produce, as the groups that share producers.

        Depthwise layers pass channels on and do not count as producers. Groups come in the order
        of their first layer; locked classes are part of them.
        """
        parent = {name: name for name, use in self.layers.items() if not use.depthwise}
        first: dict[int, str] = {}

        def root(name: str) -> str:
            while parent[name] != name:
                name = parent[name]
            return name

        for name in parent:
            for klass in np.unique(self.axes[self.layers[name].out_axis]).tolist():
                other = root(first.setdefault(klass, name))
                parent[root(name)] = other
        members: dict[str, list[str]] = {}
        for name in parent:
            members.setdefault(root(name), []).append(name)
        return [
            Group(
                layers=tuple(names),
                classes=np.unique(
                    np.concatenate([self.axes[self.layers[n].out_axis] for n in names])
                ),
            )
            for names in members.values()
        ]

    def kept(self, removed: NDArray[np.bool_]) -> dict[Axis, int]:
        """Return axis -> number of positions that stay."""
        counts = self._counts(removed)
        return {axis: int(n) for axis, n in zip(self.axes, counts, strict=False)}

    def emptied(self, removed: NDArray[np.bool_]) -> tuple[Axis, ...]:
        """Return the axes that would lose every position; such a removal is refused."""
        return tuple(axis for axis, n in self.kept(removed).items() if not n)

    def macs(self, removed: NDArray[np.bool_] | None = None) -> int:
        """Return the multiply-accumulates for one image."""
        if not self.layers:
            return self.other_macs
        factors, first, second = self._macs_terms
        counts = self._counts(removed)
        return self.other_macs + int((factors * counts[first] * counts[second]).sum())

    def parameters(self, removed: NDArray[np.bool_] | None = None) -> int:
        """Return the number of parameters of the whole network."""
        constant, factors, first, second = self._parameter_terms
        counts = self._counts(removed)
        return constant + int((factors * counts[first] * counts[second]).sum())

    def macs_of(self, removed: NDArray[np.bool_] | None = None) -> dict[str, int]:
        """Return weighted layer -> multiply-accumulates for one image."""
        if not self.layers:
            return {}
        factors, first, second = self._macs_terms
        counts = self._counts(removed)
        products = (factors * counts[first] * counts[second]).tolist()
        return dict(zip(self.layers, products, strict=True))

    def _counts(self, removed: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Return how many positions of each axis stay, and a one at the end."""
        ids, starts, place = self._positions
        if removed is None:
            removed = np.zeros(self.classes, dtype=bool)
        if removed.shape != (self.classes,) or removed.dtype != np.bool_:
            raise CompressionError(
                f"coupling: removed must be bool of shape ({self.classes},), got "
                f"{removed.dtype} of shape {removed.shape}; pass one flag per class"
            )
        if not len(starts):
            return np.ones(1, dtype=np.int64)
        counts = np.add.reduceat((~removed)[ids], starts, dtype=np.int64)
        return np.append(counts[place], 1)

    @cached_property
    def _positions(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Class of each position of the axes that differ, where each starts, which one is whose."""
        unique: dict[bytes, int] = {}
        place = [unique.setdefault(c.tobytes(), len(unique)) for c in self.axes.values()]
        parts = [np.frombuffer(classes, dtype=np.int64) for classes in unique]
        ids = np.concatenate([*parts, np.empty(0, dtype=np.int64)])
        starts = np.cumsum([0, *(part.size for part in parts)], dtype=np.int64)[:-1]
        return ids, starts, np.array(place, dtype=np.int64)

    @cached_property
    def _order(self) -> dict[Axis, int]:
        return {axis: i for i, axis in enumerate(self.axes)}

    @cached_property
    def _macs_terms(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        uses = self.layers.values()
        factors = np.array([use.positions * use.kernel for use in uses], dtype=np.int64)
        first = np.array([self._order[use.out_axis] for use in uses])
        none = len(self.axes)
        second = np.array([none if u.in_axis is None else self._order[u.in_axis] for u in uses])
        return factors, first, second

    @cached_property
    def _parameter_terms(
        self,
    ) -> tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        constant, terms = 0, []
        for name, shape in self.shapes.items():
            dims = [d for d in range(len(shape)) if Axis(name, d) in self.axes]
            if not dims:
                constant += prod(shape)
                continue
            rest = prod(size for d, size in enumerate(shape) if d not in dims)
            positions = [self._order[Axis(name, d)] for d in dims]
            terms.append((rest, *positions, *[len(self.axes)] * (2 - len(dims))))
        table = np.array(terms, dtype=np.int64).reshape(-1, 3)
        return constant, table[:, 0], table[:, 1], table[:, 2]
