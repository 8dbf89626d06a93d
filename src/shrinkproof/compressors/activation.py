"""Imitation of 8-bit activations: the operator, its module, and the observers that set it up."""

from __future__ import annotations

from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

LOWEST: Final = 0
HIGHEST: Final = 255
BINS: Final = 4096
"""Bins of the histogram behind the percentile observer."""


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


class Observer(Protocol):
    """Watches the values of one place in the network and proposes a range."""

    def see(self, values: Tensor) -> None:
        """Take one batch into account."""
        ...


class Extremes:
    """The smallest and the largest value seen; not finite if one value was not."""

    def __init__(self) -> None:
        self._low = torch.tensor(float("inf"))
        self._high = torch.tensor(float("-inf"))

    @property
    def low(self) -> float:
        """Smallest value seen."""
        return float(self._low)

    @property
    def high(self) -> float:
        """Largest value seen."""
        return float(self._high)

    def see(self, values: Tensor) -> None:
        """Take one batch into account."""
        low, high = torch.aminmax(values.detach())
        # Unlike those of Python, these keep a value that is no number.
        self._low = torch.minimum(self._low.to(low), low)
        self._high = torch.maximum(self._high.to(high), high)


class Histogram:
    """Counts of values between two known extremes, for percentiles in a second pass.

    Args:
        low: smallest value that will be seen.
        high: largest value that will be seen, > ``low``.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high
        self.counts = torch.zeros(BINS, dtype=torch.float64)

    def see(self, values: Tensor) -> None:
        """Take one batch into account."""
        found = torch.histc(values.detach().float(), bins=BINS, min=self.low, max=self.high)
        self.counts += found.cpu().double()

    def percentiles(self, fraction: float) -> tuple[float, float]:
        """Return the values below which ``1 - fraction`` and ``fraction`` of all values lie.

        Each is rounded outward to the edge of its bin.
        """
        share = self.counts.cumsum(0) / self.counts.sum()
        first = int((share <= 1 - fraction).sum())
        last = int((share < fraction).sum())
        step = (self.high - self.low) / BINS
        return self.low + first * step, self.low + min(last + 1, BINS) * step


class ActivationQuantizer(nn.Module):
    """One place of the network where values become unsigned 8-bit integers.

    While ``observer`` is set, values pass unchanged and are only watched.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones((), dtype=torch.float32))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.uint8))
        self.observer: Observer | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs on the integer grid; any shape."""
        if self.observer is not None:
            self.observer.see(inputs)
            return inputs
        result: Tensor = fake_quantize(inputs, self.scale, self.zero_point)
        return result

    def cover(self, low: float, high: float) -> None:
        """Set scale and zero point so that ``low`` to ``high`` and zero are representable.

        A place that was always zero gets the range 0 to 1.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / (HIGHEST - LOWEST)
        if step < torch.finfo(torch.float32).tiny:
            low, step = 0.0, 1.0 / (HIGHEST - LOWEST)
        self.scale.fill_(step)
        self.zero_point.fill_(min(max(round(-low / step), LOWEST), HIGHEST))
