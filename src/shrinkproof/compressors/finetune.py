"""Fine-tuning: let a compressed model recover by training on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from shrinkproof.protocols import Context, Role
from shrinkproof.records import Change
from shrinkproof.registry import component, fields_of
from shrinkproof.training.settings import Training, outcome

if TYPE_CHECKING:
    from torch import nn


@component
class FineTuning(Training):
    """Train the model on, with its masks, codebooks and grids in force.

    Zeros stay zero, shared values move together (along the mean gradient of their weights, so
    one learning rate suits dense and clustered layers), quantized weights learn straight through
    the rounding. Parameters that were frozen stay frozen.

    Attributes:
        epochs: most passes over the training images, >= 1.
        learning_rate: peak step size, > 0.
        optimizer: ``sgd`` or ``adam`` (with decoupled weight decay).
        momentum: of ``sgd``, 0 to 1; left out with ``adam``.
        weight_decay: >= 0; spares biases, batch normalization and shared values.
        schedule: ``constant``, ``cosine``, ``onecycle`` (linear warm-up, then cosine) or ``step``.
        milestones: after how many epochs the schedule ``step`` lowers the rate, rising.
        gamma: factor of the schedule ``step`` at each milestone, 0 to 1.
        batch: images of a step, >= 1.
        label_smoothing: share of the target spread over all classes, 0 to 1.
        augment: random changes of the images, of ``crop`` (4 pixels; up to an eighth of each side
            where images have boxes) and ``flip``.
        precision: ``float32``, or ``bfloat16`` arithmetic with float32 weights.
        distill: learn from the model before the recipe too: ``weight`` and ``temperature``.
        patience: stop after so many epochs in a row without a lower loss on the images of the split
            'select', and keep the weights of the best epoch; without it the last epoch is kept.
        gamma_l1: strength of the L1 penalty on the scales of batch normalization, >= 0; it drives
            channels to zero before they are pruned (Liu et al. 2017, arXiv:1708.06519).

    Raises:
        CompressionError: no training images, a loss that is not finite, everything is frozen, or
            what ``distill``, ``patience`` or ``gamma_l1`` needs is missing.
    """

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.RECOVER

    @classmethod
    def of(cls, training: Training) -> FineTuning:
        """Return the step that only trains, for the dense control of one that compresses too."""
        return cls(**{f.name: getattr(training, f.name) for f in dataclasses.fields(Training)})

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Train the model; return it with the loss and accuracy of the epoch that was kept."""
        from shrinkproof.compressors.constraint import average_level_gradients

        history = self.run(model, context, adjust=average_level_gradients(model))
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"epochs": self.epochs},
            achieved={
                **outcome(history),
                "images": context.training.count if context.training else 0,
            },
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: what was learned comes with the weights."""
        return model
