"""What a method for heat maps is given: a candidate that notes which layer is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof import randomness
from shrinkproof.attributions.layers import Layer, choose_layer, named_layer
from shrinkproof.data.division import stratified
from shrinkproof.errors import DataError, ModelError
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.models.loaded import Preprocess

if TYPE_CHECKING:
    from torch import nn

# Shape suffixes: n images, C channels, H height, W width.

THUMBNAIL: Final = 64
"""Longest side of the stored pictures, pixels."""

PIXELS: Final = 16 * 224 * 224
"""Pixels of the images that a network is given at once: gradients at the input of a ResNet-50 take
0.1 GB for an image of 224x224, so 1.6 GB; larger batches are no faster."""

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Onlooker:
    """A candidate as methods for heat maps see it.

    Args:
        module: the network; None where only predictions can be had.
        predict: (n, C, H, W) float32 -> logits (n, classes).
        black: a black pixel as the network is given it, (C,).
        example: one input, (1, C, H, W).
        wanted: name of the layer to look at, or ``auto``.
        beside: the baseline's network, which must have the layer too; None for the baseline.
    """

    def __init__(
        self,
        module: nn.Module | None,
        predict: Predict,
        black: NDArray[np.float32],
        example: NDArray[np.float32],
        wanted: str,
        beside: nn.Module | None = None,
    ) -> None:
        self.module = module
        self.predict = predict
        self.black = black
        self.example = example
        self._wanted = wanted
        self._beside = beside
        self._is_seen = False

    @classmethod
    def of(
        cls,
        module: nn.Module,
        black: NDArray[np.float32],
        example: NDArray[np.float32],
        wanted: str,
        beside: nn.Module | None = None,
    ) -> Onlooker:
        """Return a network as methods see it."""
        import torch

        def predict(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
            with torch.inference_mode():
                outputs: NDArray[np.float32] = module(torch.from_numpy(inputs)).numpy()
            return outputs

        return cls(module, predict, black, example, wanted, beside)

    @property
    def layer(self) -> str | None:
        """Name of the layer to look at; whoever asks for it looks at it."""
        if self.module is None:
            return None
        self._is_seen = True
        return self._chosen.name

    @cached_property
    def _chosen(self) -> Layer:
        assert self.module is not None, "only networks have layers"
        if self._wanted == "auto" or not self._wanted:
            return choose_layer(self.module, self.example)
        also = () if self._beside is None else (self.module,)
        return named_layer(self._wanted, self._beside or self.module, self.example, also=also)

    @property
    def seen(self) -> str:
        """Name of the layer that was looked at; empty for none."""
        return self._chosen.name if self._is_seen else ""

    @property
    def caveat(self) -> str:
        """What a reader must know about that layer."""
        return self._chosen.caveat if self._is_seen else ""


def network_of(
    subject: Subject, folder: Path | None = None, *, instead: str = "occlusion or rise"
) -> nn.Module:
    """Return the PyTorch network of a candidate, or of the one in another folder.

    Args:
        subject: the candidate.
        folder: directory of the other one.
        instead: what to use where there is none.

    Raises:
        ModelError: nobody can load it.
    """
    if subject.load_twin is None:
        raise ModelError(
            f"candidate {subject.cell.candidate}: must be there as a PyTorch network, got only its "
            f"predictions; use {instead}"
        )
    return subject.load_twin(subject.folder if folder is None else folder)


def randomized(module: nn.Module, example: NDArray[np.float32], seed: int) -> nn.Module:
    """Return a network of the same shape with weights drawn anew; the given one is edited.

    Raises:
        ModelError: a layer cannot be drawn anew.
    """
    import torch

    from shrinkproof.compressors.reinitialize import Reinitialization
    from shrinkproof.protocols import Context
    from shrinkproof.tasks import TASKS

    context = Context(
        task=TASKS.get("classification").of(module),
        example=torch.from_numpy(example),
        device=torch.device("cpu"),
        stream=partial(randomness.stream, seed, "saliency", "randomized"),
    )
    drawn, _ = Reinitialization().apply(module, context)
    return drawn.eval()


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The images that heat maps are made of.

    Attributes:
        target: (n,) int64, the true classes.
        index: (n,) int64, index of each image in its data set.
        groups: (n,) group of each image, or None.
        pixels: (n, H, W, 3) uint8, under the condition.
        batch: images per run of a network, at most.
    """

    target: NDArray[np.int64]
    index: NDArray[np.int64]
    groups: NDArray[np.str_] | None
    pixels: NDArray[np.uint8]
    batch: int

    @classmethod
    def of(cls, scene: Scene, count: int) -> Shown:
        """Return ``count`` images of a scene, classes in proportion, the same ones every time.

        Raises:
            DataError: there are none.
        """
        chosen = stratified(scene.images, min(count, len(scene.images)))
        if not len(chosen):
            raise DataError("heat maps: there must be at least one image, got none")
        pixels = np.empty((len(chosen), *chosen.one_shape, 3), dtype=np.uint8)
        for positions, images in replace(scene, images=chosen).batches():
            pixels[positions] = images
        return cls(chosen.labels, chosen.index, chosen.groups, pixels, scene.batch)

    def inputs(self, preprocess: Preprocess) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield which images, and what a network is given of them; never too many at once.

        Maps do not depend on the batch.
        """
        height, width = self.pixels.shape[1:3]
        size = max(1, min(self.batch, PIXELS // (height * width)))
        for start in range(0, len(self.pixels), size):
            which = slice(start, start + size)
            yield which, preprocess(self.pixels[which])

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return the images with their longer side at most 64 pixels, (n, h, w, 3) uint8."""
        height, width = self.pixels.shape[1:3]
        longest = max(height, width)
        if longest <= THUMBNAIL:
            return self.pixels
        from PIL import Image

        size = (max(1, width * THUMBNAIL // longest), max(1, height * THUMBNAIL // longest))
        small = [Image.fromarray(image).resize(size, Image.Resampling.BOX) for image in self.pixels]
        return np.stack([np.asarray(image) for image in small])
