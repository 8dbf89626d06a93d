"""Fine-tuning: let a compressed model recover by training on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from shrinkproof.protocols import Context, Role
from shrinkproof.records import Change, Json
from shrinkproof.registry import component, fields_of
from shrinkproof.training.settings import Training

if TYPE_CHECKING:
    from torch import nn


@component
class FineTuning(Training):
    """Train the model on, with its masks, codebooks and grids in force.

    Zeros stay zero, shared values move together (along the mean gradient of their weights, so
    one learning rate suits dense and clustered layers), quantized weights learn straight through
    the rounding. Parameters that were frozen stay frozen.

    Attributes:
        epochs: passes over the training images, >= 1.
        learning_rate: peak step size, > 0.
        optimizer: ``sgd`` or ``adam`` (with decoupled weight decay).
        momentum: of ``sgd``, 0 to 1.
        weight_decay: >= 0; spares biases, batch normalization and shared values.
        schedule: ``constant``, ``cosine`` or ``onecycle`` (linear warm-up, then cosine).
        batch: images of a step, >= 1.
        label_smoothing: share of the target spread over all classes, 0 to 1.
        augment: random changes of the images, of ``crop`` (4 pixels) and ``flip``.
        precision: ``float32``, or ``bfloat16`` arithmetic with float32 weights.

    Raises:
        CompressionError: no training images, the loss is not finite, or everything is frozen.
    """

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.RECOVER

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Train the model; return it with the last epoch's loss and accuracy."""
        from shrinkproof.compressors.constraint import average_level_gradients

        history = self.run(model, context, adjust=average_level_gradients(model))
        last = history[-1]
        images = context.training.count if context.training else 0
        reached: Json = {k: last[k] for k in ("loss", "accuracy") if k in last}
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"epochs": self.epochs},
            achieved={
                "epochs": len(history),
                "images": images,
                **reached,
            },
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: what was learned comes with the weights."""
        return model
