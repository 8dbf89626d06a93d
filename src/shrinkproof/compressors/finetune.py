"""Fine-tuning: let a compressed model recover by training on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic

from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Needs, Role
from shrinkproof.records import Change, Json
from shrinkproof.registry import Fraction, component, fields_of
from shrinkproof.training.loop import Optimizer, Precision, Schedule, train

if TYPE_CHECKING:
    from torch import nn


@component
class FineTuning:
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
        """Training images."""
        return Needs.TRAINING

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Train the model; return it with the last epoch's loss and accuracy."""
        from shrinkproof.compressors.constraint import average_level_gradients

        if context.training is None:
            raise CompressionError(
                f"{self.name}: needs images of the split 'train', got none; add data.train"
            )
        history = train(
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
            adjust=average_level_gradients(model),
        )
        last = history[-1]
        reached: Json = {k: last[k] for k in ("loss", "accuracy") if k in last}
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"epochs": self.epochs},
            achieved={"epochs": len(history), "images": context.training.count, **reached},
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: what was learned comes with the weights."""
        return model
