"""Imitation of 8-bit activations: the operator and its module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from shrinkproof.compressors.observers import HIGHEST, LOWEST, Observer, grid_of


@torch.library.custom_op("shrinkproof::fake_quantize", mutates_args=())
def fake_quantize(inputs: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Return the nearest values that an unsigned 8-bit integer can stand for.

    ``clip(round(x / scale) + zero_point, 0, 255)`` and back, rounding half to even: QuantizeLinear
    followed by DequantizeLinear of ONNX. The gradient passes unchanged inside the range and is
    zero outside (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).

    Args:
        inputs: any shape, floating point.
        scale: size of one integer step, a float scalar, > 0.
        zero_point: the integer that stands for 0, a uint8 scalar.
    """
    zero = zero_point.to(inputs.dtype)
    levels = inputs.div(scale).round_().add_(zero).clamp_(LOWEST, HIGHEST)
    return levels.sub_(zero).mul_(scale)


@fake_quantize.register_fake
def _shape(inputs: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:  # noqa: ARG001
    return torch.empty_like(inputs)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _straight_through(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    values, scale, zero_point = ctx.saved_tensors
    zero = zero_point.to(values.dtype)
    inside = (values >= (LOWEST - zero) * scale) & (values <= (HIGHEST - zero) * scale)
    return gradient * inside, None, None


fake_quantize.register_autograd(_straight_through, setup_context=_keep)


class ActivationQuantizer(nn.Module):
    """One place of the network where values become unsigned 8-bit integers.

    While ``observer`` is set, values pass unchanged and are only watched. Between `follow` and
    `settle` the range is a moving average of the extremes of the training batches.
    """

    scale: Tensor
    zero_point: Tensor
    low: Tensor
    high: Tensor
    rate: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones((), dtype=torch.float32))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.uint8))
        self.observer: Observer | None = None
        self.following = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs on the integer grid; any shape."""
        if self.observer is not None:
            self.observer.see(inputs)
            return inputs
        if self.following and self.training:
            self._move(inputs)
        result: Tensor = fake_quantize(inputs, self.scale, self.zero_point)
        return result

    def cover(self, low: float, high: float) -> None:
        """Set scale and zero point so that ``low`` to ``high`` and zero are representable.

        A place that was always zero gets the range 0 to 1.
        """
        step, zero = grid_of(low, high)
        self.scale.fill_(step)
        self.zero_point.fill_(zero)

    def follow(self, low: float, high: float, rate: float) -> None:
        """Let training batches move the range from here on (Jacob et al. 2018, section 3.1).

        What changes meanwhile is in the state dict, the rate included.

        Args:
            low: where the lower end starts.
            high: where the upper end starts.
            rate: part of the way that an end goes towards the extreme of a batch; 0 for none.
        """
        for name, value in (("low", low), ("high", high), ("rate", rate)):
            self.register_buffer(name, self.scale.new_tensor(value))
        self.following = True

    def hold(self) -> None:
        """Keep the range where it is, for the rest of the training."""
        self.rate.zero_()

    def settle(self) -> tuple[float, float]:
        """End what `follow` began; return the range."""
        found = float(self.low), float(self.high)
        del self.low, self.high, self.rate
        self.following = False
        return found

    def _move(self, inputs: Tensor) -> None:
        """Move the range towards the extremes of a batch; no branch depends on a number."""
        low, high = torch.aminmax(inputs.detach())
        self.low.lerp_(low.to(self.low), self.rate)
        self.high.lerp_(high.to(self.high), self.rate)
        bottom = self.low.clamp(max=0.0)
        step = (self.high.clamp(min=0.0) - bottom) / (HIGHEST - LOWEST)
        usable = step >= torch.finfo(torch.float32).tiny
        self.scale.copy_(torch.where(usable, step, 1.0 / (HIGHEST - LOWEST)))
        zero = torch.where(usable, -bottom / self.scale, 0.0).round()
        self.zero_point.copy_(zero.clamp(LOWEST, HIGHEST))
