"""Which weights matter: scores, lowest removed first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from shrinkproof.protocols import Context, Needs
from shrinkproof.registry import Registry, component

if TYPE_CHECKING:
    from torch import Tensor

CRITERIA = Registry(
    "criterion",
    "shrinkproof.criteria",
    {
        "magnitude": "shrinkproof.compressors.criteria:Magnitude",
        "random": "shrinkproof.compressors.criteria:Random",
    },
)


@component
class Magnitude:
    """Absolute value of each weight.

    Input: a weight tensor of any shape, finite.
    Output: scores of the same shape, >= 0.
    Reference: Han et al. 2015, arXiv:1506.02626.
    """

    name: ClassVar[str] = "magnitude"
    version: ClassVar[int] = 1

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def score(self, weight: Tensor, *, layer: str, context: Context) -> Tensor:  # noqa: ARG002
        """Return the absolute value of each weight."""
        return weight.detach().abs()


@component
class Random:
    """Chance: the control that every criterion must beat.

    Input: a weight tensor of any shape.
    Output: scores of the same shape, uniform on [0, 1), float64.
    Reference: Blalock et al. 2020, arXiv:2003.03033, section 3.
    """

    name: ClassVar[str] = "random"
    version: ClassVar[int] = 1

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def score(self, weight: Tensor, *, layer: str, context: Context) -> Tensor:
        """Return scores that depend only on the context's stream and the layer's name."""
        import torch

        scores = context.stream("criterion", "random", layer).random(tuple(weight.shape))
        return torch.from_numpy(scores).to(weight.device)
