"""A training left off on the way: the network as it was after some epochs of a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pydantic

from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.protocols import Context, Needs, Role
from shrinkproof.records import Change
from shrinkproof.registry import component, fields_of
from shrinkproof.training.settings import outcome

if TYPE_CHECKING:
    from torch import nn


Steps = tuple[Any, ...]


@component
class PartialTraining:
    """Train as a schedule says, but leave off after some of its epochs.

    The learning rate follows the whole schedule, so the result is the whole training's network
    after that epoch, bit for bit: a dense checkpoint on the way, with which a compressed network of
    equal clean accuracy is compared.

    Attributes:
        training: the whole training.
        epoch: after how many of its epochs to leave off, >= 1.

    Raises:
        CompressionError: as the whole training.
    """

    name: ClassVar[str] = "finetune.until"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.RECOVER
    scratch_name: ClassVar[str] = FineTuning.name

    training: FineTuning
    epoch: Annotated[int, pydantic.Field(ge=1)]

    @pydantic.model_validator(mode="after")
    def _fits_training(self) -> PartialTraining:
        if self.epoch > self.training.epochs:
            raise ValueError(
                f"epoch must be at most the {self.training.epochs} epochs of the training, got "
                f"{self.epoch}; lower it"
            )
        return self

    @property
    def needs(self) -> Needs:
        """What the whole training needs."""
        return self.training.needs

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Train the model; return it with the loss and accuracy of the last epoch it saw."""
        from shrinkproof.compressors.constraint import average_level_gradients

        history = self.training.run(
            model, context, adjust=average_level_gradients(model), until=self.epoch
        )
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"epochs": self.epoch},
            achieved={
                **outcome(history),
                "images": context.training.count if context.training else 0,
            },
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: what was learned comes with the weights."""
        return model


def checkpoints_of(schedule: Steps, count: int) -> list[tuple[int, Steps]]:
    """Return the parts of a schedule that end at evenly spaced epochs of its last training.

    Args:
        schedule: the steps of a dense control.
        count: most checkpoints that are wanted.

    Returns:
        (epoch, steps) of each checkpoint, ascending, none of them the whole schedule; fewer than
        ``count`` where the last training has fewer epochs, none where the last step is no training
        or one that may stop early: which epoch is then the last is only known afterwards.
    """
    last = schedule[-1] if schedule else None
    if not isinstance(last, FineTuning) or last.patience is not None:
        return []
    epochs = {round(last.epochs * k / (count + 1)) for k in range(1, count + 1)}
    return [
        (epoch, (*schedule[:-1], PartialTraining(training=last, epoch=epoch)))
        for epoch in sorted(epochs)
        if 1 <= epoch < last.epochs
    ]


def whole_of(steps: Steps) -> Steps:
    """Return the schedule that the steps are a part of."""
    return tuple(s.training if isinstance(s, PartialTraining) else s for s in steps)
