"""Early stopping: the loss on images that are not trained on, and the best weights so far."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shrinkproof.errors import CompressionError, DataError
from shrinkproof.protocols import Context
from shrinkproof.training.objective import moved

if TYPE_CHECKING:
    from torch import nn


@dataclass(slots=True)
class Best:
    """The epoch with the lowest validation loss so far.

    Attributes:
        patience: epochs without a lower loss after which training stops.
        epoch: which one, from 1; 0 before the first.
        loss: its validation loss.
        state: its state dict.
    """

    patience: int
    epoch: int = 0
    loss: float = math.inf
    state: dict[str, Any] = field(default_factory=dict)

    def see(self, epoch: int, loss: float, model: nn.Module) -> None:
        """Take note of an epoch; of equal losses the earlier one stays."""
        if loss < self.loss:
            self.epoch, self.loss = epoch, loss
            self.state = copy.deepcopy(dict(model.state_dict()))

    def is_over(self, epoch: int) -> bool:
        """Return whether training stops after this epoch."""
        return epoch - self.epoch >= self.patience


def validation_loss(model: nn.Module, context: Context, size: int) -> float:
    """Return the mean loss over the validation images, in evaluation mode, without smoothing.

    Args:
        model: the network; ends in evaluation mode.
        context: task, device, validation images.
        size: images of a batch.

    Raises:
        CompressionError: the loss is not finite.
        DataError: there are no images.
    """
    import torch

    feed = context.validation
    if feed is None or feed.count < 1:
        raise DataError("training: needs at least one validation image, got none; add data.select")
    model.eval()
    total, images = 0.0, 0
    device = next(model.parameters()).device
    with torch.no_grad():
        for inputs, target in feed.batches(size):
            loss = context.task.loss(model(inputs.to(device)), moved(target, device))
            total += float(loss) * len(target)
            images += len(target)
    if not math.isfinite(total):
        raise CompressionError(
            f"training: the validation loss must stay finite, got {total / images}; lower the "
            "learning rate"
        )
    return total / images
