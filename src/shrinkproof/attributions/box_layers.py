"""Which layer the heat map of a box looks at: one that comes before the score itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shrinkproof.attributions.layers import Layer, choose_layer
from shrinkproof.attributions.network import activations_and_slopes
from shrinkproof.detecting import ScoresBoxes
from shrinkproof.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


def choose_box_layer(
    module: nn.Module, example: NDArray[np.float32], detector: ScoresBoxes
) -> Layer:
    """Return the last layer of enough places that all goes through and that a score looks around.

    As `choose_layer`, but without layers of which a score depends on one place only: these are the
    scores, or a part of them, and a map would say nothing of where they come from. Layers of one
    level of a pyramid are passed over where another level has the best box.

    Args:
        module: the network.
        example: inputs (n, C, H, W); the first is shown to the network.
        detector: makes the class scores of what the network returns.

    Raises:
        ModelError: there is no such layer.
    """

    def best_score(outputs: Tensor) -> list[Tensor]:
        scores = detector.class_scores(outputs).flatten()
        return [scores[int(scores.argmax())]]

    def looks_around(name: str) -> bool:
        try:
            _, (slope,) = activations_and_slopes(module, name, example[:1], best_score)
        except UsageError:
            return False  # it leads to other numbers than the best class score
        return int((slope != 0).any(dim=1).sum()) > 1

    return choose_layer(module, example, accepts=looks_around)
