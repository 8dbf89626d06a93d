"""What earlier steps made of the weights, measured again after every later step."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, nn

from shrinkproof.compressors.constraint import Codebook, Mask, constraints_of, weight_of
from shrinkproof.errors import CompressionError


@dataclass(frozen=True, slots=True, eq=False)
class _Promise:
    """One tensor's properties.

    Attributes:
        zero: bool, shape of the tensor; True where it must be exactly zero, or None.
        levels: largest number of distinct values, or None.
    """

    zero: Tensor | None
    levels: int | None


class Promises:
    """Zeros and numbers of distinct values that constraints have made, by layer."""

    def __init__(self) -> None:
        self._promises: dict[str, _Promise] = {}

    def collect(self, model: nn.Module) -> None:
        """Note what the constraints of the model promise now."""
        for layer, module in model.named_modules():
            constraints = constraints_of(module)
            if not constraints:
                continue
            zero = levels = None
            for constraint in constraints:
                if isinstance(constraint, Mask):
                    zero = ~constraint.mask
                elif isinstance(constraint, Codebook):
                    levels = len(constraint.levels)
                    zero = (~constraint.free)[constraint.index.long()]
            old = self._promises.get(layer)
            if old is not None and levels is None:
                levels = old.levels
            self._promises[layer] = _Promise(None if zero is None else zero.clone(), levels)

    def check(self, model: nn.Module, step: str, *, zeros: bool) -> None:
        """Measure the weights against the promises; ``zeros`` False lets zeros go on purpose.

        Raises:
            CompressionError: one is broken; names step, layer, expected and got.
        """
        for layer, promise in self._promises.items():
            try:
                module = attrgetter(layer)(model) if layer else model
            except AttributeError:
                raise CompressionError(
                    f"{step}: must keep the layer {layer}, which an earlier step pruned or "
                    "clustered, got a model without it; put this step before that one"
                ) from None
            weight = weight_of(module)
            if zeros and promise.zero is not None:
                _check_zeros(weight, promise.zero, f"{step}: {layer}.weight", module)
            if promise.levels is not None:
                _check_levels(weight, promise.levels, f"{step}: {layer}.weight")


def _check_zeros(weight: Tensor, zero: Tensor, what: str, module: nn.Module) -> None:
    if weight.shape != zero.shape:
        # The step cut the tensor to another shape; its mask must have been cut along with it.
        masks = [c.mask for c in constraints_of(module) if isinstance(c, Mask)]
        if not masks:
            raise CompressionError(
                f"{what} must keep its mask of {int(zero.sum())} zeros, got a tensor of shape "
                f"{tuple(weight.shape)} without one; put this step before the pruning of weights"
            )
        zero = ~masks[0]
    expected = int(zero.sum())
    got = int((weight[zero] == 0).sum())
    if got != expected:
        raise CompressionError(
            f"{what} must keep its {expected} zeros, got {got}; the step destroyed what an "
            "earlier one made. Change the order of the steps."
        )


def _check_levels(weight: Tensor, levels: int, what: str) -> None:
    got = int(torch.unique(weight).numel())
    if got > levels:
        raise CompressionError(
            f"{what} must keep at most {levels} distinct values, got {got}; the step destroyed "
            "what an earlier one made. Change the order of the steps: `fold` goes before `cluster`."
        )
