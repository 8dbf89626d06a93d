"""What earlier steps made of the weights, measured again after every later step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from operator import attrgetter

import torch
from torch import Tensor, nn

from shrinkproof.compressors.constraint import (
    Codebook,
    FakeQuantWeight,
    Mask,
    ShortFloat,
    constraints_of,
    weight_of,
)
from shrinkproof.errors import CompressionError
from shrinkproof.records import Json


@dataclass(frozen=True, slots=True, eq=False)
class _Promise:
    """One tensor's properties.

    Attributes:
        zero: bool, shape of the tensor; True where it must be exactly zero, or None.
        levels: largest number of distinct values, or None.
        limit: largest multiple of the scale, or None.
        dtype: floating-point format that holds every number exactly, or None.
    """

    zero: Tensor | None = None
    levels: int | None = None
    limit: int | None = None
    dtype: torch.dtype | None = None


class Promises:
    """Zeros, numbers of distinct values and number formats that constraints made, by layer."""

    def __init__(self) -> None:
        self._promises: dict[str, _Promise] = {}

    def collect(self, model: nn.Module) -> None:
        """Note what the constraints of the model promise now."""
        for layer, module in model.named_modules():
            constraints = constraints_of(module)
            if not constraints:
                continue
            new = self._promises.get(layer, _Promise())
            zero = None
            for constraint in constraints:
                if isinstance(constraint, Mask):
                    zero = ~constraint.mask
                elif isinstance(constraint, Codebook):
                    new = replace(new, levels=len(constraint.levels))
                    zero = (~constraint.free)[constraint.index.long()]
                elif isinstance(constraint, FakeQuantWeight):
                    new = replace(new, limit=constraint.limit)
                elif isinstance(constraint, ShortFloat):
                    new = replace(new, dtype=constraint.dtype)
            self._promises[layer] = replace(new, zero=None if zero is None else zero.clone())

    def check(self, model: nn.Module, step: str, *, zeros: bool) -> Json:
        """Measure the weights against the promises; ``zeros`` False lets zeros go on purpose.

        Returns:
            For each property that earlier steps made, how many tensors still have it: ``zeros``,
            ``levels`` (at most as many distinct values), ``grid`` (whole multiples of the scale)
            and ``format`` (exact in a short floating-point format).

        Raises:
            CompressionError: one is broken; names step, layer, expected and got.
        """
        kept: Counter[str] = Counter()
        for layer, promise in self._promises.items():
            try:
                module = attrgetter(layer)(model) if layer else model
            except AttributeError:
                raise CompressionError(
                    f"{step}: must keep the layer {layer}, which an earlier step pruned, "
                    "clustered or quantized, got a model without it; put this step before that one"
                ) from None
            kept.update(_checked(module, promise, f"{step}: {layer}.weight", zeros=zeros))
        return dict(kept)


def _checked(module: nn.Module, promise: _Promise, what: str, *, zeros: bool) -> list[str]:
    """Measure one weight; return the names of the properties it had to keep."""
    weight = weight_of(module)
    kept = []
    if zeros and promise.zero is not None and bool(promise.zero.any()):
        _check_zeros(weight, promise.zero, what, module)
        kept.append("zeros")
    if promise.levels is not None:
        _check_levels(weight, promise.levels, what)
        kept.append("levels")
    if promise.limit is not None:
        _check_grid(module, weight, promise.limit, what)
        kept.append("grid")
    if promise.dtype is not None:
        _check_format(weight, promise.dtype, what)
        kept.append("format")
    return kept


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


def _check_grid(module: nn.Module, weight: Tensor, limit: int, what: str) -> None:
    rules = [r for r in constraints_of(module) if isinstance(r, FakeQuantWeight)]
    scale = rules[0].scale if rules else getattr(module, "weight_scale", None)
    if scale is None:
        raise CompressionError(
            f"{what} must stay on its integer grid, got a weight without a scale; the step "
            "destroyed what an earlier one made. Put this step before the quantization."
        )
    steps = scale.view(-1, *[1] * (weight.ndim - 1))
    integers = (weight / steps).round()
    off = int(((integers * steps != weight) | (integers.abs() > limit)).sum())
    if off:
        raise CompressionError(
            f"{what} must be whole multiples of its scale, up to {limit} of them, got {off} of "
            f"{weight.numel()} that are not; the step destroyed what an earlier one made. Put "
            "this step before the quantization."
        )


def _check_format(weight: Tensor, dtype: torch.dtype, what: str) -> None:
    off = int((weight.to(dtype).to(weight.dtype) != weight).sum())
    if off:
        raise CompressionError(
            f"{what} must be exact in {str(dtype).removeprefix('torch.')}, got {off} of "
            f"{weight.numel()} numbers that are not; the step destroyed what an earlier one made. "
            "Put this step before the quantization."
        )
