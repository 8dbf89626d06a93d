"""Heat maps from predictions of randomly masked images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Final, Literal

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
from shrinkproof.registry import OpenFraction, component

# Shape suffixes: M masks, H height, W width, S cells along a side, K numbers of one mask.

_NUMBERS: Final = 500_000
"""How many numbers the masked images of one prediction may have, 2 MB: more no longer fit into the
cache, which halves the speed of small networks."""


@component
class Rise:
    """How much better the class does when a place is visible, over many random masks.

    A mask is a coarse grid, each cell visible with ``probability``, enlarged smoothly and shifted
    by a random part of a cell. The map is ``sum_m (score_m - mean score) mask_m``, divided by
    ``masks * probability``. The masks are drawn once from the stream and are the same for all
    images, networks and batches.

    The published map does not subtract the mean score. Masks that are shared then make maps alike
    by themselves: where the masks happen to show more, every map is higher. Two networks with
    random weights, which have nothing to agree about, agree to 1.00 (Pearson, 800 masks), and
    centered to 0.45; two halves of the masks agree to 0.14 for one of them, and centered to 0.72
    (``benchmarks/saliency.py``).

    For the reliability of a map, compare ``half: 0`` with ``half: 1``: they use disjoint halves of
    the same masks, given the same stream.

    Attributes:
        masks: number of masks; each costs one prediction per image.
        cells: cells along a side of the grid.
        probability: how likely a cell is visible, 0 to 1.
        fill: what hidden places show: ``black``, ``zero`` (as the network is given it), ``mean``
            (the image's own mean color) or ``blur`` (the image blurred).
        output: the score of the class: its ``probability``, as published, or its ``logit``.
        centered: subtract the image's mean score over the masks; False as published.
        half: use only the masks with even (0) or odd (1) number; None uses all.

    Input: predictions; inputs (n, C, H, W), target (n,).
    Output: maps (n, H, W), signed; not negative for probabilities without ``centered``.
    Differences: centered unless told otherwise; where the published code enlarges the grid, the
        library it calls treats the border differently, here the edge value is continued.
    Reference: Petsiuk et al. 2018, arXiv:1806.07421, equation 6 and section 3.2.
    """

    name: ClassVar[str] = "rise"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "predictions"

    masks: Annotated[int, pydantic.Field(ge=2)] = 1000
    cells: Annotated[int, pydantic.Field(ge=2)] = 8
    probability: OpenFraction = 0.5
    fill: Empty = "zero"
    output: Output = "probability"
    centered: bool = True
    half: Literal[0, 1] | None = None

    @property
    def is_signed(self) -> bool:
        """True unless the scores are probabilities as they are."""
        return self.centered or self.output == "logit"

    def draw(
        self, stream: Callable[..., np.random.Generator], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Return the masks for images of height and width ``shape``, (M, H, W), 0 to 1.

        More masks begin with the same ones. The random numbers come from the stream ``masks``.

        Raises:
            UsageError: the grid has more cells than the images have pixels.
        """
        return self.enlarged(self.numbers(stream, shape), shape)

    def numbers(
        self, stream: Callable[..., np.random.Generator], shape: tuple[int, int]
    ) -> NDArray[np.float64]:
        """Return the random numbers of each mask, (M, K).

        Raises:
            UsageError: the grid has more cells than the images have pixels.
        """
        if self.cells > min(shape):
            raise UsageError(
                f"{self.name}: cells must be at most the side of the images, {min(shape)}, got "
                f"{self.cells}; lower it"
            )
        numbers_MK = stream("masks").random((self.masks, self.cells**2 + 2))
        return numbers_MK if self.half is None else numbers_MK[self.half :: 2]

    def enlarged(
        self, numbers_MK: NDArray[np.float64], shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Return the masks (M, H, W) that their random numbers stand for."""
        grid = numbers_MK[:, 2:].reshape(-1, self.cells, self.cells) < self.probability
        rows_MHS, columns_MWS = (
            _stretched(side, self.cells, numbers_MK[:, axis]) for axis, side in enumerate(shape)
        )
        return rows_MHS @ grid.astype(np.float32) @ columns_MWS.mT

    def maps(
        self,
        subject: Explained,
        inputs: NDArray[np.float32],
        target: NDArray[np.int64],
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (n, H, W); the masks come from the stream ``masks``."""
        check_inputs(self.name, inputs, target)
        fill = without_content(self.fill, subject, inputs)
        height, width = inputs.shape[2:]
        numbers_MK = self.numbers(stream, (height, width))
        maps = np.zeros((len(inputs), height * width))
        shown, total, first = np.zeros(height * width), np.zeros(len(inputs)), np.zeros(len(inputs))
        size = max(1, _NUMBERS // inputs[0].size)
        for start in range(0, len(numbers_MK), size):
            masks_MHW = self.enlarged(numbers_MK[start : start + size], (height, width))
            flat = masks_MHW.reshape(len(masks_MHW), -1)
            shown += flat.sum(axis=0, dtype=np.float64)
            for position, (image, empty) in enumerate(zip(inputs, fill, strict=True)):
                seen = masks_MHW[:, None] * (image - empty) + empty
                label = np.full(len(seen), target[position])
                scores_M = score(self.name, subject, seen, label, self.output)
                if self.centered:
                    # Counted from the first score, so that constant scores give exactly zero and
                    # not the remains of rounding, which would correlate with anything.
                    first[position] = first[position] if start else scores_M[0]
                    scores_M -= first[position]
                maps[position] += scores_M.astype(np.float32) @ flat
                total[position] += scores_M.sum()
        if self.centered:
            maps -= np.outer(total / len(numbers_MK), shown)
        maps /= len(numbers_MK) * self.probability
        return finite(self.name, maps.astype(np.float32).reshape(-1, height, width))

    def resolution(
        self,
        subject: Explained,  # noqa: ARG002
        inputs: NDArray[np.float32],  # noqa: ARG002
    ) -> tuple[int, int]:
        """Return the cells of the grid, along rows and columns."""
        return self.cells, self.cells


def _stretched(side: int, cells: int, shift_M: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what enlarges one axis of each mask's grid and cuts it out, (M, side, cells).

    The grid is enlarged by linear interpolation to ``cells + 1`` cells of a whole number of pixels,
    of which ``side`` pixels are cut out, starting within the first cell.
    """
    pixels = -(-side // cells)
    total = (cells + 1) * pixels
    center = np.clip((np.arange(total) + 0.5) * cells / total - 0.5, 0, cells - 1)
    # The weight of a cell falls linearly to 0 at the centers of its neighbors.
    weights = np.maximum(0, 1 - np.abs(center[:, None] - np.arange(cells))).astype(np.float32)
    start_M = (shift_M * pixels).astype(np.int64)
    stretched: NDArray[np.float32] = weights[start_M[:, None] + np.arange(side)]
    return stretched
