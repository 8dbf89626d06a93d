"""Gradients of the loss on calibration images, for weights as the network uses them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shrinkproof.compressors.constraint import is_constrained
from shrinkproof.compressors.criteria.filters import calibration_batches, check_finite
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context


@dataclass(frozen=True, slots=True, eq=False)
class Gradients:
    """Gradients of one batch.

    Attributes:
        count: number of images.
        weights: layer -> gradient of the mean loss, shape of the weight.
        biases: layer -> gradient, for layers with a bias.
    """

    count: int
    weights: dict[str, Tensor]
    biases: dict[str, Tensor]


def gradients(
    model: nn.Module,
    layers: Sequence[str],
    context: Context,
    *,
    images: int,
    batch: int,
    criterion: str,
) -> Iterator[Gradients]:
    """Yield the gradients of the task's mean loss, batch after batch.

    The model stays in evaluation mode and as it is: no gradient is stored in it, and frozen
    parameters are frozen again afterwards. A weight that several layers share has the sum of
    their gradients; one that the loss does not depend on has zero.

    Raises:
        CompressionError: no calibration images, a loss without gradient, or a gradient that is
            not finite.
    """
    batches = calibration_batches(context, images=images, batch=batch, criterion=criterion)
    for inputs, target in batches:
        with torch.enable_grad(), parametrize.cached(), _used(model, layers) as used:
            loss = context.task.loss(model(inputs), target)
            tensors = [tensor for group in used.values() for tensor in group]
            if not loss.requires_grad:
                raise CompressionError(
                    f"criterion {criterion!r}: the loss must depend on the weights, got no "
                    "gradient; does the model compute under torch.no_grad?"
                )
            found = iter(torch.autograd.grad(loss, tensors, allow_unused=True))
        weights: dict[str, Tensor] = {}
        biases: dict[str, Tensor] = {}
        for (layer, name), group in used.items():
            parts = [next(found) for _ in group]
            total = torch.zeros_like(group[0]) + sum(p for p in parts if p is not None)
            what = f"criterion {criterion!r}: the gradient of {layer}.{name}"
            check_finite(total, what, "the loss is numerically broken on the calibration images")
            (weights if name == "weight" else biases)[layer] = total.detach()
        yield Gradients(len(inputs), weights, biases)


@contextmanager
def _used(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[tuple[str, str], list[Tensor]]]:
    """Give the weights and biases that the network computes with, ready for gradients.

    Within ``parametrize.cached`` a constrained weight is computed once, so that the tensor read
    here is the one that the network uses.
    """
    sharing: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        if isinstance(getattr(module, "weight", None), Tensor):
            sharing.setdefault(id(_parameter(module, "weight")), []).append(module)
    used: dict[tuple[str, str], list[Tensor]] = {}
    for layer in layers:
        module = model.get_submodule(layer)
        modules = sharing[id(_parameter(module, "weight"))]
        weights: list[Any] = [m.weight for m in modules]
        used[layer, "weight"] = list({id(w): w for w in weights}.values())
        if isinstance(module.bias, Tensor):
            used[layer, "bias"] = [module.bias]
    frozen = [t for group in used.values() for t in group if not t.requires_grad]
    for tensor in frozen:
        tensor.requires_grad_()
    try:
        yield used
    finally:
        for tensor in frozen:
            tensor.requires_grad_(False)  # noqa: FBT003


def _parameter(module: nn.Module, name: str) -> object:
    """Return the parameter behind a tensor, constrained or not."""
    if is_constrained(module, name):
        return module.parametrizations[name].original  # type: ignore[index, union-attr]
    return getattr(module, name)
