"""What an evaluator is given: loaded candidates, and the images of one condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.detecting import Detector
from shrinkproof.evaluators.world import World
from shrinkproof.models.loaded import Preprocess
from shrinkproof.predictions import Predictions
from shrinkproof.records import Cell, Condition

if TYPE_CHECKING:
    from torch import nn


HandOver = Callable[[NDArray[np.float32]], Any]
"""What becomes of preprocessed images, (n, C, H, W) float32, before they are predicted."""


def as_it_is(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return preprocessed images as they are: what a network on the CPU takes."""
    return inputs


@dataclass(frozen=True, slots=True)
class InputKind:
    """How images become what a network is given; equal kinds are made once.

    Attributes:
        preprocess: from uint8 images to network input.
        hand_over: what becomes of it, for example a copy on a GPU; called in the thread that
            reads. Subjects that pass the same function share what it returns.
    """

    preprocess: Preprocess
    hand_over: HandOver = as_it_is


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The images of one split under one condition, read and corrupted once for everybody.

    Attributes:
        images: the split.
        condition: what the world does to it.
        world: shows the images under the condition; clean ones need none.
        batch: images per batch.
    """

    images: ImageSet
    condition: Condition
    world: World | None
    batch: int

    def batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield ``(positions (n,), images (n, H, W, 3) uint8)`` in order."""
        if self.condition.is_clean:
            return self.images.batches(self.batch)
        assert self.world is not None, "corrupted images come from somewhere"
        return self.world.batches(self.images, self.condition, self.batch)


def _drop(predictions: Predictions) -> None:
    """Keep nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One candidate in one form, loaded and ready to be measured.

    Attributes:
        cell: which cell is measured.
        predict: what ``hand_over`` returns, (n, C, H, W) float32 -> (n, classes) float32 logits,
            or a detector's output (n, ...) before boxes are chosen.
        preprocess: from uint8 images to its input.
        num_classes: number of logits, or of classes of objects.
        detector: makes boxes of what ``predict`` returns; None for classifiers.
        scene: the images; None for evaluators that read none.
        folder: the candidate's directory.
        reference: the baseline's directory, for measurements relative to it.
        facts: sizes that preparing the candidate has established.
        keep: stores the predictions.
        load_twin: loads the PyTorch form of a candidate from its directory, in any process (it is
            pickled); None where nobody can.
        is_simulated: whether the PyTorch form only imitates the arithmetic of the exported file.
        hand_over: what becomes of preprocessed images before ``predict`` takes them.
    """

    cell: Cell
    predict: Callable[[Any], NDArray[np.float32]]
    preprocess: Preprocess
    num_classes: int
    detector: Detector | None = None
    scene: Scene | None = None
    folder: Path = Path()
    reference: Path = Path()
    facts: Mapping[str, Any] = field(default_factory=dict)
    keep: Callable[[Predictions], None] = _drop
    load_twin: Callable[[Path], nn.Module] | None = None
    is_simulated: bool = False
    hand_over: HandOver = as_it_is

    @property
    def key(self) -> str:
        """Key of the cell that is measured."""
        return self.cell.key

    @property
    def input_kind(self) -> InputKind:
        """How images become what ``predict`` takes."""
        return InputKind(self.preprocess, self.hand_over)

    @property
    def form(self) -> str:
        """``twin`` or ``artifact``."""
        return self.cell.form
