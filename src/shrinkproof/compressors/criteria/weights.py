"""Which single weights matter: scores, lowest removed first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import pydantic

from shrinkproof.protocols import Context, Needs
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import Tensor, nn


@component
class Magnitude:
    """Absolute value of each weight.

    Input: layers with a weight of any shape, finite.
    Output: scores of the shape of each weight, >= 0.
    Reference: Han et al. 2015, arXiv:1506.02626.
    """

    name: ClassVar[str] = "magnitude"
    version: ClassVar[int] = 1

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
        """Return the absolute value of each weight."""
        from shrinkproof.compressors.constraint import weight_of

        return {layer: weight_of(model.get_submodule(layer)).abs() for layer in layers}


@component
class Random:
    """Chance: the control that every criterion must beat.

    Input: layers with a weight of any shape.
    Output: scores of the shape of each weight, uniform on [0, 1), float64.
    Reference: Blalock et al. 2020, arXiv:2003.03033, section 3.
    """

    name: ClassVar[str] = "random"
    version: ClassVar[int] = 1

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def scores(
        self, model: nn.Module, layers: Sequence[str], context: Context
    ) -> Mapping[str, Tensor]:
        """Return scores that depend only on the context's stream and the layer's name."""
        import torch

        from shrinkproof.compressors.constraint import weight_of

        found: dict[str, Tensor] = {}
        for layer in layers:
            weight = weight_of(model.get_submodule(layer))
            drawn = context.stream("criterion", "random", layer).random(tuple(weight.shape))
            found[layer] = torch.from_numpy(drawn).to(weight.device)
        return found


@component
class Taylor:
    """Absolute first-order change of the loss when a weight becomes zero.

    The score is |gradient times weight|. The gradient is that of the task's mean loss over the
    calibration images, in evaluation mode. A constrained weight counts as the network uses it, so
    a weight that a mask holds at zero has score 0.

    Attributes:
        images: most calibration images, spread evenly over the split.
        batch: most images of a batch; it sets the memory, not the scores.

    Raises:
        CompressionError: no calibration images, or a loss without a finite gradient.

    Input: layers with a weight of any shape, and labelled calibration images.
    Output: scores of the shape of each weight, >= 0.
    Reference: Molchanov et al. 2019, arXiv:1906.10771, first order.
    """

    name: ClassVar[str] = "taylor"
    version: ClassVar[int] = 1

    images: Annotated[int, pydantic.Field(ge=1)] = 512
    batch: Annotated[int, pydantic.Field(ge=1)] = 128

    @property
    def needs(self) -> Needs:
        """Calibration images."""
        return Needs.CALIBRATION

    def scores(
        self, model: nn.Module, layers: Sequence[str], context: Context
    ) -> Mapping[str, Tensor]:
        """Return the absolute product of each weight and its gradient."""
        from shrinkproof.compressors.constraint import weight_of
        from shrinkproof.compressors.criteria.gradients import gradients

        totals: dict[str, Tensor] = {}
        count = 0
        for found in gradients(
            *(model, layers, context), images=self.images, batch=self.batch, criterion=self.name
        ):
            count += found.count
            for layer, gradient in found.weights.items():
                totals[layer] = totals.get(layer, 0) + found.count * gradient.double()
        weights = {layer: weight_of(model.get_submodule(layer)) for layer in layers}
        return {layer: (totals[layer] / count * w.double()).abs() for layer, w in weights.items()}
