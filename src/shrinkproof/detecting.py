"""The contract of detectors: one tensor out of the network, boxes out of that tensor.

A detector is a network with a fixed input size and one output tensor, and a rule without weights
that makes boxes of it. So everything that compresses, exports and times networks works for
detectors, too, and the same rule reads the output of PyTorch, of an exported file, and of an
integer network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# Shape suffixes: n images, m detections, g objects, C classes.


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector found in one image.

    Attributes:
        boxes: (m, 4) ``x1, y1, x2, y2`` in pixels of the network's input.
        score: (m,) 0 to 1.
        label: (m,) class, 0 to C - 1, in the order of the data's classes.
        place: (m,) int64, which row of ``class_scores`` each box comes from; None where nobody
            knows, which leaves out the explanation of single boxes by gradients.
    """

    boxes: NDArray[np.floating]
    score: NDArray[np.floating]
    label: NDArray[np.int64]
    place: NDArray[np.int64] | None = None


@runtime_checkable
class Detector(Protocol):
    """A network whose output becomes boxes: a ``torch.nn.Module`` with these members.

    ``forward`` takes preprocessed images (n, 3, H, W) float32 of one fixed size and returns one
    float32 tensor (n, ...), in training as in evaluation. Everything that has weights is in there;
    ``decode`` is arithmetic on that tensor: anchors, thresholds, non-maximum suppression.
    """

    @property
    def num_classes(self) -> int:
        """Number of classes of objects, C; the background is none."""
        ...

    @property
    def rule(self) -> str:
        """How boxes are chosen, for readers: score threshold, suppression, largest number."""
        ...

    def decode(self, outputs: NDArray[np.float32]) -> Sequence[Detections]:
        """Return what was found in each image, from the output (n, ...) of the network."""
        ...


@runtime_checkable
class ReadsWeights(Protocol):
    """A detector that knows how many classes the weights of a checkpoint have."""

    def read_weights(
        self, tensors: Mapping[str, Tensor]
    ) -> tuple[int | None, Mapping[str, Tensor]]:
        """Return the number of classes, and the weights in the network's own layout.

        Args:
            tensors: name -> tensor, as they are in the file; perhaps for another number of classes.

        Returns:
            The number of classes, None where the weights are not of this kind of network; and the
            weights, with names and order of classes as this kind of network has them.
        """
        ...


@runtime_checkable
class LearnsBoxes(Protocol):
    """A detector that can be trained."""

    def loss(self, outputs: Tensor, target: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the mean training loss of a batch, a scalar.

        Args:
            outputs: what the network returned for n images.
            target: n mappings with ``boxes`` (g, 4) float32 ``x1, y1, x2, y2`` in pixels of the
                network's input, and ``labels`` (g,) int64, 0 to C - 1.
        """
        ...


@runtime_checkable
class ScoresBoxes(Protocol):
    """A detector whose scores can be traced back through the network."""

    def class_scores(self, outputs: Tensor) -> Tensor:
        """Return the differentiable score of every class at every place, (n, places, C).

        ``Detections.place`` counts the places. Scores are what Grad-CAM differentiates: logits
        where the network has them.
        """
        ...
