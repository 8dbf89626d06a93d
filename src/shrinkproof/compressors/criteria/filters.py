"""What all criteria read and check: the filters of a layer, calibration images, finite numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Target
from shrinkproof.training.objective import moved

if TYPE_CHECKING:
    from torch import Tensor, nn


def filters_of(model: nn.Module, layer: str, *, criterion: str) -> Tensor:
    """Return the weights that make each output channel, (out, n) float64, constraints applied.

    Raises:
        CompressionError: the layer is no convolution or fully connected layer, or a weight is not
            finite.
    """
    from shrinkproof.compressors.constraint import weight_of

    module = model.get_submodule(layer)
    filters = by_channel(module, weight_of(module), f"criterion {criterion!r}: {layer}")
    check_finite(filters, f"criterion {criterion!r}: the weights of {layer}", "repair the model")
    return filters


def by_channel(module: nn.Module, values: Tensor, what: str) -> Tensor:
    """Return values of the shape of a layer's weight, sorted by output channel, (out, n) float64.

    Raises:
        CompressionError: the layer is no convolution or fully connected layer.
    """
    from torch import nn
    from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

    if not isinstance(module, (_ConvNd, nn.Linear)):
        raise CompressionError(
            f"{what} must be a convolution or a fully connected layer, got "
            f"{type(module).__name__}; leave it out"
        )
    values = values.double()
    if isinstance(module, _ConvTransposeNd):
        # (in, out / groups, ...) -> (out, in / groups, ...)
        values = values.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    return values.flatten(1)


def check_finite(values: Tensor, what: str, advice: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        CompressionError: a value is not finite.
    """
    bad = int((~values.isfinite()).sum())
    if bad:
        raise CompressionError(
            f"{what} must be finite, got NaN or infinity {bad} times of {values.numel()}; {advice}"
        )


def calibration_batches(
    context: Context, *, images: int, batch: int, criterion: str
) -> Iterator[tuple[Tensor, Target]]:
    """Yield inputs and targets of at most ``images`` calibration images on the context's device.

    Where there are more, the images are spread evenly over the split, so that a split that is
    sorted by class still gives all classes.

    Raises:
        CompressionError: there are no calibration images.
    """
    feed = context.calibration
    if feed is None or feed.count < 1:
        raise CompressionError(
            f"criterion {criterion!r}: needs images of the split 'calibrate', got "
            f"{'none' if feed is None else 0}; add data.calibrate"
        )
    count = min(images, feed.count)
    order = np.arange(count, dtype=np.int64) * feed.count // count
    # Batches as equal in size as possible: none is much smaller than the others.
    size = math.ceil(count / math.ceil(count / batch))
    for inputs, target in feed.batches(size, order=order):
        yield inputs.to(context.device), moved(target, context.device)
