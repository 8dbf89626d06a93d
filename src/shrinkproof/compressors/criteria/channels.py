"""Which output channels matter: scores, lowest removed first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import pydantic

from shrinkproof.compressors.criteria.filters import by_channel, check_finite, filters_of
from shrinkproof.protocols import Context, Needs
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import Tensor, nn


@component
class L1:
    """Sum of the absolute weights of a channel's filter.

    Input: convolutions and fully connected layers, weights finite.
    Output: one score per output channel, (out,) float64, >= 0; layers are not comparable.
    Reference: Li et al. 2017, arXiv:1608.08710.
    """

    name: ClassVar[str] = "l1"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = False

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def scores(
        self,
        model: nn.Module,
        layers: Sequence[str],
        context: Context,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Return the L1 norm of each filter."""
        return {n: filters_of(model, n, criterion=self.name).abs().sum(1) for n in layers}


@component
class L2:
    """Euclidean length of a channel's filter.

    Input: convolutions and fully connected layers, weights finite.
    Output: one score per output channel, (out,) float64, >= 0; layers are not comparable.
    Reference: Li et al. 2017, arXiv:1608.08710.
    """

    name: ClassVar[str] = "l2"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = False

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def scores(
        self,
        model: nn.Module,
        layers: Sequence[str],
        context: Context,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Return the L2 norm of each filter."""
        return {n: filters_of(model, n, criterion=self.name).norm(dim=1) for n in layers}


@component
class GeometricMedian:
    """Sum of the distances of a channel's filter to all filters of its layer.

    A filter near the geometric median of its layer can be replaced by the others, however long
    it is. Distances are Euclidean. Those between filters that are close to each other, where the
    expanded square would cancel, are computed from differences: equal filters have distance 0.

    Input: convolutions and fully connected layers, weights finite.
    Output: one score per output channel, (out,) float64, >= 0; layers are not comparable.
    Reference: He et al. 2019, arXiv:1811.00250 (FPGM).
    """

    name: ClassVar[str] = "fpgm"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = False

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def scores(
        self,
        model: nn.Module,
        layers: Sequence[str],
        context: Context,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Return each filter's sum of distances."""
        filters = {layer: filters_of(model, layer, criterion=self.name) for layer in layers}
        return {layer: _distances(found).sum(1) for layer, found in filters.items()}


_CLOSE: Final = 1e-6
"""Squared distance over squared lengths below which the expanded square loses digits."""


def _distances(filters: Tensor) -> Tensor:
    """Return the distance of each filter to each, (out, out)."""
    square = filters.square().sum(1)
    lengths = square[:, None] + square
    expanded = lengths - 2 * filters @ filters.T
    is_close = expanded <= _CLOSE * lengths
    distances = expanded.clamp(min=0).sqrt()
    rows, columns = is_close.triu(diagonal=1).nonzero(as_tuple=True)
    # In parts: where all filters are alike, every pair is close.
    for row, column in zip(rows.split(len(filters)), columns.split(len(filters)), strict=True):
        exact = (filters[row] - filters[column]).norm(dim=1)
        distances[row, column] = distances[column, row] = exact
    return distances.fill_diagonal_(0.0)


@component
class BatchNormScale:
    """Absolute scale of the batch norm directly behind a layer (network slimming).

    The batch norm is found by running the model once on the example, so it may be a module or a
    function call. Layers without one behind them, or whose batch norm has no scale, are left out;
    a layer that runs several times has the mean over its batch norms.

    Raises:
        CompressionError: a scale is not finite, or the model does not run on the example.

    Input: layers that a batch norm with a scale follows directly.
    Output: one score per output channel, (out,) float64, >= 0, comparable: a batch norm gives
        every channel of every layer the same spread before it is scaled.
    Reference: Liu et al. 2017, arXiv:1708.06519.
    """

    name: ClassVar[str] = "bn_scale"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def scores(
        self, model: nn.Module, layers: Sequence[str], context: Context
    ) -> Mapping[str, Tensor]:
        """Return the absolute scale of each channel's batch norm."""
        import torch

        from shrinkproof.compressors.criteria.following import follow

        trail = follow(model, layers, context.example.to(context.device))
        found: dict[str, Tensor] = {}
        for layer in layers:
            scales = [scale.detach().double().abs() for scale in trail.scales(layer)]
            if scales:
                found[layer] = torch.stack(scales).mean(0)
                what = f"criterion {self.name!r}: the batch norm scales behind {layer}"
                check_finite(found[layer], what, "repair the model")
        return found


@component
class TaylorChannels:
    """Squared first-order change of the loss when a channel becomes zero.

    The score is the square of the sum of gradient times weight over the filter and its bias, as
    for a gate on the layer's output. The gradient is that of the task's mean loss over a batch,
    in evaluation mode; scores are averaged over the batches, weighted by their images. A
    constrained weight counts as the network uses it.

    Attributes:
        images: most calibration images, spread evenly over the split.
        batch: most images of a batch. Positive and negative effects of the images of one batch
            cancel out, so scores of different sizes differ.

    Raises:
        CompressionError: no calibration images, or a loss without a finite gradient.

    Input: convolutions and fully connected layers, and labelled calibration images.
    Output: one score per output channel, (out,) float64, >= 0, comparable.
    Reference: Molchanov et al. 2019, arXiv:1906.10771, first order.
    """

    name: ClassVar[str] = "taylor"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = True

    images: Annotated[int, pydantic.Field(ge=1)] = 512
    batch: Annotated[int, pydantic.Field(ge=1)] = 32

    @property
    def needs(self) -> Needs:
        """Calibration images."""
        return Needs.CALIBRATION

    def scores(
        self, model: nn.Module, layers: Sequence[str], context: Context
    ) -> Mapping[str, Tensor]:
        """Return the squared first-order effect of each channel."""
        from shrinkproof.compressors.criteria.gradients import gradients

        filters = {layer: filters_of(model, layer, criterion=self.name) for layer in layers}
        totals: dict[str, Tensor] = {}
        count = 0
        for found in gradients(
            *(model, layers, context), images=self.images, batch=self.batch, criterion=self.name
        ):
            count += found.count
            for layer, filter_ in filters.items():
                module = model.get_submodule(layer)
                gradient = by_channel(module, found.weights[layer], f"{self.name}: {layer}")
                effect = (gradient * filter_).sum(1)
                if layer in found.biases:
                    effect += found.biases[layer].double() * module.bias.detach().double()  # type: ignore[operator]
                totals[layer] = totals.get(layer, 0) + found.count * effect.square()
        return {layer: total / count for layer, total in totals.items()}


@component
class RandomChannels:
    """Chance: the control that every criterion must beat.

    Input: convolutions and fully connected layers, weights finite.
    Output: one score per output channel, (out,) float64, uniform on [0, 1), comparable.
    Reference: Mittal et al. 2018, arXiv:1801.10447.
    """

    name: ClassVar[str] = "random"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def scores(
        self, model: nn.Module, layers: Sequence[str], context: Context
    ) -> Mapping[str, Tensor]:
        """Return scores that depend only on the context's stream and the layer's name."""
        import torch

        found: dict[str, Tensor] = {}
        for layer in layers:
            filters = filters_of(model, layer, criterion=self.name)
            drawn = context.stream("channel criterion", "random", layer).random(len(filters))
            found[layer] = torch.from_numpy(drawn).to(filters.device)
        return found
