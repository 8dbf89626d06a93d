"""How a model is trained: the settings that every step with training inside shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Needs
from shrinkproof.records import Json
from shrinkproof.registry import Fraction, component
from shrinkproof.training.loop import Optimizer, Precision, Schedule, train

if TYPE_CHECKING:
    from torch import nn


@component
class Training:
    """One training run: how long, how fast, on what.

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
    """

    epochs: Annotated[int, pydantic.Field(ge=1)]
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 0.01
    optimizer: Optimizer = "sgd"
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 1e-4
    schedule: Schedule = "cosine"
    batch: Annotated[int, pydantic.Field(ge=1)] = 128
    label_smoothing: Fraction = 0.0
    augment: Annotated[tuple[Literal["crop", "flip"], ...], pydantic.Field(strict=False)] = ()
    precision: Precision = "float32"

    @property
    def needs(self) -> Needs:
        """Training images, and whatever the settings ask for."""
        return Needs.TRAINING

    def run(
        self,
        model: nn.Module,
        context: Context,
        *,
        adjust: Callable[[], None] | None = None,
        each_step: Callable[[int, int], None] | None = None,
    ) -> list[Json]:
        """Train a model in place and return one entry of history for each epoch.

        Args:
            model: the network; ends in evaluation mode, without gradients.
            context: images, streams, device.
            adjust: called between the gradients and the optimizer's step.
            each_step: called after each optimizer's step with how many are done and how many
                there are; what it changes in the model must be part of the state dict.

        Raises:
            CompressionError: images that are needed are missing, the loss is not finite, or
                everything is frozen.
        """
        if context.training is None:
            raise CompressionError(
                "training: needs images of the split 'train', got none; add data.train"
            )
        return train(
            model,
            context.training,
            task=context.task,
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            label_smoothing=self.label_smoothing,
            augment=self.augment,
            precision=self.precision,
            stream=context.stream,
            note=context.note,
            adjust=adjust,
            each_step=each_step,
        )
