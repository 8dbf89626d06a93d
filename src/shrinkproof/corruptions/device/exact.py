"""Arithmetic that rounds on every device as it does in numpy.

Everything is float64 and elementwise in the order of the numpy code, unless a twin says otherwise:
float64 never uses reduced-precision matrix units, and the result for one image cannot depend on
the others of its batch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def divided(values: Tensor, divisor: float) -> Tensor:
    """Return ``values / divisor``, correctly rounded.

    With a plain number torch multiplies by its reciprocal on CUDA, which can be one unit in the
    last place off, and then truncation to a level can be one level off.
    """
    return values / torch.full((), divisor, dtype=values.dtype, device=values.device)


def unit(images: Tensor) -> Tensor:
    """Return uint8 levels on the scale 0 to 1, float64 of the same shape."""
    return divided(images.to(torch.float64), 255.0)


def levels(values: Tensor) -> Tensor:
    """Return numbers on the scale 0 to 1 clipped and truncated to uint8; overwrites them."""
    return values.clamp_(0, 1).mul_(255).to(torch.uint8)


def table(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return a copy of a table of the host on a device, same shape and type.

    The copy is complete when this returns, so it may be cached and used on any stream.
    """
    return torch.tensor(np.ascontiguousarray(values), device=device)


def picked(values: Tensor, dim: int, index: NDArray[np.int64]) -> Tensor:
    """Return the entries ``index`` along one dimension."""
    return values.index_select(dim, table(index, values.device))
