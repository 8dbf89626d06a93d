"""What a covered window costs: heat maps from predictions alone, without chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.attributions.images import (
    Empty,
    Output,
    check_inputs,
    finite,
    score,
    without_content,
)
from shrinkproof.errors import UsageError
from shrinkproof.protocols import Explained
from shrinkproof.registry import component


@component
class Occlusion:
    """How much the class loses where a window covers the image.

    The window moves in steps of ``stride``; at the lower and right edge it may reach over. A pixel
    gets the mean loss over the windows that cover it. Costs one prediction per window and image,
    49 for the default at 32x32 pixels.

    Attributes:
        window: side of the square window, pixels.
        stride: step between windows, pixels; at most ``window``, so that no pixel is left out.
        fill: what the window shows: ``black``, ``zero`` (as the network is given it), ``mean`` (the
            image's own mean color) or ``blur`` (the image blurred).
        output: what is lost: the ``logit`` of the class, or its ``probability``, which hardly
            moves where the network is sure.

    Input: predictions; inputs (n, C, H, W), target (n,).
    Output: maps (n, H, W), signed.
    Reference: Zeiler and Fergus 2014, arXiv:1311.2901, section 4.2.
    """

    name: ClassVar[str] = "occlusion"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "predictions"

    window: Annotated[int, pydantic.Field(ge=1)] = 8
    stride: Annotated[int, pydantic.Field(ge=1)] = 4
    fill: Empty = "zero"
    output: Output = "logit"

    @pydantic.model_validator(mode="after")
    def _covers_every_pixel(self) -> Occlusion:
        if self.stride > self.window:
            raise ValueError(
                f"stride must be at most the window of {self.window}, got {self.stride}; pixels "
                "between the windows would have no value"
            )
        return self

    @property
    def is_signed(self) -> bool:
        """True: covering a place may help the class."""
        return True

    def maps(
        self,
        subject: Explained,
        inputs: NDArray[np.float32],
        target: NDArray[np.int64],
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (n, H, W); nothing is random."""
        del stream
        check_inputs(self.name, inputs, target)
        fill = without_content(self.fill, subject, inputs)
        whole = score(self.name, subject, inputs, target, self.output)
        count, _, height, width = inputs.shape
        loss = np.zeros((count, height, width))
        cover = np.zeros((height, width))
        for top in self._starts(height):
            for left in self._starts(width):
                rows, columns = slice(top, top + self.window), slice(left, left + self.window)
                shown = inputs.copy()
                shown[:, :, rows, columns] = fill[:, :, rows, columns]
                left_over = score(self.name, subject, shown, target, self.output)
                loss[:, rows, columns] += (whole - left_over)[:, None, None]
                cover[rows, columns] += 1
        return finite(self.name, (loss / cover).astype(np.float32))

    def resolution(
        self,
        subject: Explained,  # noqa: ARG002
        inputs: NDArray[np.float32],
    ) -> tuple[int, int]:
        """Return the number of windows, along rows and columns."""
        return len(self._starts(inputs.shape[2])), len(self._starts(inputs.shape[3]))

    def _starts(self, side: int) -> range:
        """Return where the windows start along one side."""
        if self.window > side:
            raise UsageError(
                f"{self.name}: window must be at most the side of the images, {side}, got "
                f"{self.window}; lower it"
            )
        steps = -(-(side - self.window) // self.stride)
        return range(0, steps * self.stride + 1, self.stride)
