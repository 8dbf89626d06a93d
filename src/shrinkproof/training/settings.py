"""How a model is trained: the settings that every step with training inside shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Needs
from shrinkproof.records import Json
from shrinkproof.registry import Fraction, component

if TYPE_CHECKING:
    from torch import nn

Optimizer = Literal["sgd", "adam"]
Schedule = Literal["constant", "cosine", "onecycle", "step"]
Precision = Literal["float32", "bfloat16"]


@component
class Distillation:
    """Learn from the outputs of the model before the recipe, besides the labels.

    The loss is ``(1 - weight) * L + weight * T**2 * KL(p || q)``: L is the loss against the labels,
    p and q are the softmax of the teacher's and of the trained model's logits divided by the
    temperature T. The factor T**2 keeps the gradients of both terms on one scale. The teacher sees
    the same augmented images, in evaluation mode.

    Attributes:
        weight: share of the teacher, 0 to 1.
        temperature: above 1 it brings out how the teacher ranks the wrong classes, > 0.

    Reference: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """

    weight: Fraction = 0.5
    temperature: Annotated[float, pydantic.Field(gt=0)] = 4.0


@component
class Training:
    """One training run: how long, how fast, on what, towards what.

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
        distill: learn from the model before the recipe too.
        patience: stop after so many epochs in a row without a lower loss on the images of the split
            'select', and keep the weights of the best epoch; without it the last epoch is kept.
        gamma_l1: strength of the L1 penalty on the scales of batch normalization, >= 0; it drives
            channels to zero before they are pruned (Liu et al. 2017, arXiv:1708.06519).
    """

    epochs: Annotated[int, pydantic.Field(ge=1)]
    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 0.01
    optimizer: Optimizer = "sgd"
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 1e-4
    schedule: Schedule = "cosine"
    milestones: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=1)], ...], pydantic.Field(strict=False)
    ] = ()
    gamma: Fraction = 0.1
    batch: Annotated[int, pydantic.Field(ge=1)] = 128
    label_smoothing: Fraction = 0.0
    augment: Annotated[tuple[Literal["crop", "flip"], ...], pydantic.Field(strict=False)] = ()
    precision: Precision = "float32"
    distill: Distillation | None = None
    patience: Annotated[int, pydantic.Field(ge=1)] | None = None
    gamma_l1: Annotated[float, pydantic.Field(ge=0)] = 0.0

    @pydantic.model_validator(mode="after")
    def _fits_schedule(self) -> Training:
        steps = self.schedule == "step"
        if steps != bool(self.milestones):
            raise ValueError(
                "milestones must be given with the schedule 'step' and with no other, got "
                f"{list(self.milestones)} with {self.schedule!r}"
            )
        if not steps and self.gamma != 0.1:
            raise ValueError(
                f"gamma must be left out with the schedule {self.schedule!r}, got {self.gamma:g}; "
                "it belongs to 'step'"
            )
        if self.optimizer != "sgd" and self.momentum != 0.9:
            raise ValueError(
                f"momentum must be left out with the optimizer {self.optimizer!r}, got "
                f"{self.momentum:g}; it belongs to 'sgd'"
            )
        rising = all(a < b for a, b in pairwise((*self.milestones, self.epochs)))
        if not rising:
            raise ValueError(
                f"milestones must rise and lie before the last of {self.epochs} epochs, got "
                f"{list(self.milestones)}"
            )
        return self

    @property
    def needs(self) -> Needs:
        """Training images, and whatever the settings ask for."""
        needs = Needs.TRAINING
        if self.distill is not None:
            needs |= Needs.TEACHER
        if self.patience is not None:
            needs |= Needs.VALIDATION
        return needs

    def run(
        self,
        model: nn.Module,
        context: Context,
        *,
        adjust: Callable[[], None] | None = None,
        each_step: Callable[[int, int], None] | None = None,
        identity: Json | None = None,
        until: int | None = None,
    ) -> list[Json]:
        """Train a model in place and return one entry of history for each epoch.

        Where the context has a folder for it, a run that was killed goes on from its last
        checkpoint, and one that is finished is not repeated; the result is the same bit for bit.

        Args:
            model: the network; ends in evaluation mode, without gradients.
            context: images, streams, device, teacher, and the folder for the checkpoint.
            adjust: called between the gradients and the optimizer's step.
            each_step: called after each optimizer's step with how many are done and how many
                there are; what it changes in the model must be part of the state dict.
            identity: what else decides the result: settings behind ``adjust`` and ``each_step``.
            until: leave off after so many epochs of the schedule, with the weights of that epoch;
                None for the whole training.

        Returns:
            For each epoch ``epoch`` (from 1), ``epochs``, ``loss`` (mean over images), ``accuracy``
            (fraction, of the training-mode outputs; absent for tasks without one),
            ``learning_rate`` (of its last step), ``validation_loss`` (with ``patience``) and
            ``seconds`` (never part of an identity); with ``patience`` the epoch whose weights were
            kept has ``kept``.

        Raises:
            CompressionError: images or a teacher that are needed are missing, a loss is not
                finite, or nothing can be trained.
            DataError: a split has no images.
            StoreError: the checkpoint cannot be written.
        """
        from shrinkproof.training.loop import train

        for given, what, advice in (
            (context.training, "images of the split 'train'", "add data.train"),
            (
                context.validation if self.patience is not None else True,
                "images of the split 'select' to stop early",
                "add data.select, or leave patience out",
            ),
            (
                context.teacher if self.distill is not None else True,
                "a teacher to distill from",
                "run it as a step of a recipe, or leave distill out",
            ),
        ):
            if given is None:
                raise CompressionError(f"training: needs {what}, got none; {advice}")
        return train(
            model,
            self,
            context,
            adjust=adjust,
            each_step=each_step,
            identity=identity,
            until=until,
        )


def outcome(history: Sequence[Json]) -> Json:
    """Return what a training reached, for a step's account, from what `Training.run` returned.

    ``loss`` and ``accuracy`` are those of the epoch whose weights were kept.
    """
    kept = next((entry for entry in history if entry.get("kept")), history[-1])
    reached: dict[str, Any] = {"epochs": len(history)}
    reached |= {k: kept[k] for k in ("loss", "accuracy", "validation_loss") if k in kept}
    if "kept" in kept:
        reached["kept_epoch"] = kept["epoch"]
        reached["stopped_early"] = len(history) < kept["epochs"]
    return reached
