"""Class activation maps of detected boxes: what in a layer raises the class score of one box."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.attributions.box_layers import choose_box_layer
from shrinkproof.attributions.boxes import ExplainedBoxes, ExplainedDetector, check_boxes
from shrinkproof.attributions.images import check_finite, finite
from shrinkproof.attributions.layers import check_name, choose_layer
from shrinkproof.attributions.network import (
    activations,
    activations_and_slopes,
    as_array,
)
from shrinkproof.detecting import Detector, ScoresBoxes
from shrinkproof.errors import DataError, UsageError
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import Tensor, nn

# Shape suffixes: n images, m boxes, C channels, P places.


class _OfLayer:
    """What maps of a layer's activations and of their gradients have in common."""

    name: ClassVar[str]

    @property
    def is_signed(self) -> bool:
        """Never: negative values are set to 0."""
        return False

    def resolution(
        self, subject: ExplainedDetector, inputs: NDArray[np.float32]
    ) -> tuple[int, int]:
        """Return rows and columns of the layer's output."""
        layer = self._layer(subject, inputs)
        found = activations(self.name, self._network(subject), layer, inputs[:1])
        return int(found.shape[2]), int(found.shape[3])

    def _made(
        self,
        subject: ExplainedDetector,
        inputs: NDArray[np.float32],
        boxes: ExplainedBoxes,
        weighted: Callable[[Tensor, Tensor], Tensor],
    ) -> NDArray[np.float32]:
        """Return the maps (m, h, w).

        Args:
            subject: the candidate.
            inputs: (n, C, H, W).
            boxes: m of them.
            weighted: activations and gradients, both (m, C, h, w) -> their weighted sum (m, h, w).
        """
        check_boxes(self.name, inputs, boxes)
        scores = _scores_of(self.name, subject.detector, boxes)
        layer = self._layer(subject, inputs)
        rounds = list(boxes.rounds())
        found, slopes = activations_and_slopes(
            self._network(subject),
            layer,
            inputs,
            lambda outputs: _sums(scores(outputs), rounds),
            "the class scores",
        )
        height, width = found.shape[2:]
        maps = np.empty((len(boxes), height, width), dtype=np.float32)
        for rows, slope in zip(rounds, slopes, strict=True):
            images = boxes.image[rows]
            maps[rows] = as_array(weighted(found[images], slope[images]).relu())
        return finite(self.name, maps)

    def _layer(self, subject: ExplainedDetector, inputs: NDArray[np.float32]) -> str:
        module = self._network(subject)
        if subject.layer is not None:
            check_name(subject.layer, module)
            return subject.layer
        if isinstance(subject.detector, ScoresBoxes):
            return choose_box_layer(module, inputs, subject.detector).name
        return choose_layer(module, inputs).name

    def _network(self, subject: ExplainedDetector) -> nn.Module:
        if subject.module is None:
            raise UsageError(
                f"{self.name}: the candidate must be a PyTorch network, got one that only "
                "predicts; use drise"
            )
        return subject.module


@component
class BoxGradCam(_OfLayer):
    """Channels of a layer, weighted by the mean gradient of the box's class score.

    ``relu(sum_k w_k A_k)``, where ``A_k`` is channel k of the layer's output and ``w_k`` the mean
    over all places of ``d score / d A_k``; the score is that of the box's class at the place where
    the box comes from, before non-maximum suppression, which is not differentiated. Weights belong
    to whole channels, so a map of one box also shows other objects that the same channels answer
    to; ``hirescam`` keeps to what the box itself depends on. One run forward per batch, and a part
    of one backward for each box of the image that has most.

    In a network with several levels, take a layer that all of them go through: a box of another
    level than the layer's has a map of zeros.

    Input: the network; inputs (n, C, H, W), m boxes with the place that they come from.
    Output: maps (m, h, w) of the size of the layer's output, not negative.
    Reference: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2, for the score of a box.
    """

    name: ClassVar[str] = "gradcam"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "gradients"

    def maps(
        self,
        subject: ExplainedDetector,
        inputs: NDArray[np.float32],
        boxes: ExplainedBoxes,
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (m, h, w); nothing is random."""
        del stream
        return self._made(subject, inputs, boxes, _by_channel)


@component
class BoxHiResCam(_OfLayer):
    """Activations times the gradient of the box's class score, place by place.

    ``relu(sum_k g_k A_k)`` with ``g_k = d score / d A_k`` at each place. The score of a box depends
    on a part of the image only, and so the map of one box leaves out other objects of its class.
    The cost is that of ``gradcam``.

    Input: the network; inputs (n, C, H, W), m boxes with the place that they come from.
    Output: maps (m, h, w) of the size of the layer's output, not negative.
    Differences: set to 0 below 0, as in Grad-CAM; without the smoothing of ODAM (Zhao and Chan
        2023, arXiv:2304.06354), which is otherwise the same for boxes.
    Reference: Draelos and Carin 2020, arXiv:2011.08891, equation 5.
    """

    name: ClassVar[str] = "hirescam"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["gradients", "activations", "predictions"]] = "gradients"

    def maps(
        self,
        subject: ExplainedDetector,
        inputs: NDArray[np.float32],
        boxes: ExplainedBoxes,
        *,
        stream: Callable[..., np.random.Generator],
    ) -> NDArray[np.float32]:
        """Return the maps (m, h, w); nothing is random."""
        del stream
        return self._made(subject, inputs, boxes, _by_place)


def _by_channel(found_mChw: Tensor, slope_mChw: Tensor) -> Tensor:
    return (slope_mChw.mean((2, 3), keepdim=True) * found_mChw).sum(1)


def _by_place(found_mChw: Tensor, slope_mChw: Tensor) -> Tensor:
    return (slope_mChw * found_mChw).sum(1)


def _scores_of(
    method: str, detector: Detector, boxes: ExplainedBoxes
) -> Callable[[Tensor], Callable[[NDArray[np.int64]], Tensor]]:
    """Return what makes the score of each box, picked by rows, of the network's output.

    Raises:
        UsageError: the detector has no such scores, or does not say where a box comes from.
    """
    place = boxes.place
    if not isinstance(detector, ScoresBoxes) or place is None:
        lack = "no place of its boxes" if isinstance(detector, ScoresBoxes) else "no class_scores"
        raise UsageError(
            f"{method}: the detector must have class_scores(outputs), and give the place of each "
            f"box that it decodes, got {lack}; add it, or use drise"
        )

    def scores(outputs: Tensor) -> Callable[[NDArray[np.int64]], Tensor]:
        check_finite(method, as_array(outputs), "the network's output")
        found = detector.class_scores(outputs)
        largest = int(place.max()), int(boxes.label.max())
        if found.ndim != 3 or largest[0] >= found.shape[1] or largest[1] >= found.shape[2]:
            raise DataError(
                f"{method}: class_scores must be (n, places, classes) with place {largest[0]} and "
                f"class {largest[1]}, got {tuple(found.shape)}"
            )
        return lambda rows: found[boxes.image[rows], place[rows], boxes.label[rows]]

    return scores


def _sums(
    picked: Callable[[NDArray[np.int64]], Tensor], rounds: list[NDArray[np.int64]]
) -> list[Tensor]:
    """Return the sum of the scores of each round, whose boxes are of different images."""
    return [picked(rows).sum() for rows in rounds]
