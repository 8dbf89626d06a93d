"""Tensors as images and back, for `corrupt`; torch comes from the caller, who has imported it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.anyimage import Form, Request
from shrinkproof.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def tensor_form(images: Tensor, torch: Any) -> Form:
    """Return the form of uint8 (N, H, W, 3) or floating (N, 3, H, W) images, or of one image.

    Args:
        images: on any device.
        torch: the module.

    Raises:
        DataError: type, shape or values do not fit.
    """
    images = images.detach()
    floating = images.is_floating_point()
    _check_kind(images, torch, floating=floating)
    single = images.ndim == 3
    height, width = images.shape[-2:] if floating else images.shape[-3:-1]
    levels = _levels(images, torch) if floating else images
    if single:
        levels = levels[None]

    def wrap(result: NDArray[np.uint8]) -> Tensor:
        return give_back(torch.from_numpy(result).to(images.device))

    def give_back(result: Tensor) -> Tensor:
        result = result[0] if single else result
        return _fractions(result, images.dtype, torch) if floating else result

    def on_cuda(request: Request, index: NDArray[np.int64]) -> Tensor:
        from shrinkproof.corruptions.device import corrupt_on_device

        return give_back(
            corrupt_on_device(
                levels.contiguous(),
                request.condition,
                preset=request.preset,
                seed=request.seed,
                index=index,
                frost_dir=request.frost_dir,
                jpeg85=request.jpeg85,
            )
        )

    return Form(
        count=len(levels),
        shape=(height, width),
        read=lambda: levels.cpu().numpy(),
        wrap=wrap,
        elsewhere=on_cuda if images.device.type == "cuda" else None,
    )


def _check_kind(images: Tensor, torch: Any, *, floating: bool) -> None:
    if not floating and images.dtype != torch.uint8:
        raise DataError(f"a tensor of images must be uint8 or floating, got {images.dtype}")
    if floating:
        kind, wanted, here, there = "floating", "(3, H, W) or (N, 3, H, W)", -3, -1
        advice = "; permute it to channels first, or make it uint8 if it has levels of 0 to 255"
    else:
        kind, wanted, here, there = "uint8", "(H, W, 3) or (N, H, W, 3)", -1, -3
        advice = "; permute it to channels last, or divide it by 255 to make it floating"
    known = images.ndim in (3, 4)
    if known and images.shape[here] == 3:
        return
    swapped = known and images.shape[there] == 3
    raise DataError(
        f"a {kind} tensor of images must be {wanted}, got {tuple(images.shape)}"
        f"{advice if swapped else ''}"
    )


def _levels(images: Tensor, torch: Any) -> Tensor:
    """Return floating images as rounded levels 0 to 255, (..., H, W, 3) uint8."""
    wide = images if images.dtype == torch.float64 else images.float()
    if wide.numel():
        low, high = (value.item() for value in wide.aminmax())
        if not (low >= 0 and high <= 1):
            raise DataError(
                "a floating tensor of images must have values from 0 to 1, got "
                f"{low:g} to {high:g}; corrupt images before they are normalized, "
                "and divide levels of 0 to 255 by 255"
            )
    levels: Tensor = (wide * 255).round_().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous()


def _fractions(levels: Tensor, dtype: Any, torch: Any) -> Tensor:
    """Return levels (..., H, W, 3) uint8 as k / 255, (..., 3, H, W) of a floating type."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    found: Tensor = levels.movedim(-1, -3).contiguous().to(wide).div_(255).to(dtype)
    return found
