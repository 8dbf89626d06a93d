"""What classification and detection do differently while a network is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from shrinkproof.detecting import LearnsBoxes
from shrinkproof.errors import DataError, ModelError
from shrinkproof.registry import Registry, component

if TYPE_CHECKING:
    from torch import Tensor, nn

TASKS = Registry(
    "task",
    "shrinkproof.tasks",
    {
        "classification": "shrinkproof.tasks:Classification",
        "detection": "shrinkproof.tasks:Detection",
    },
)


@runtime_checkable
class CountsHits(Protocol):
    """A task whose training progress can be told as an accuracy."""

    def hits(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the number of images answered correctly, an integer scalar."""
        ...


@component
class Classification:
    """One class for each image.

    Input of its methods: outputs (N, C) floating-point logits, target (N,) int64, 0 to C - 1.
    """

    name: ClassVar[str] = "classification"
    version: ClassVar[int] = 1

    @classmethod
    def of(cls, module: nn.Module) -> Self:  # noqa: ARG003 - every classifier has the same loss
        """Return the task of a network."""
        return cls()

    def loss(self, outputs: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross entropy of a batch in nats, a scalar.

        ``label_smoothing`` moves that share of each target's probability evenly to all classes
        (Szegedy et al. 2016, arXiv:1512.00567, section 7).

        Raises:
            ModelError: the outputs are not one row of logits for each image.
            DataError: a target is not a class of the model.
        """
        import torch.nn.functional as F

        if outputs.ndim != 2 or len(outputs) != len(target):
            raise ModelError(
                f"classification: the model must return logits (N, C) with N = {len(target)}, "
                f"got shape {tuple(outputs.shape)}"
            )
        try:
            return F.cross_entropy(outputs, target, label_smoothing=label_smoothing)
        except IndexError as error:
            raise DataError(
                f"classification: targets must be 0 to {outputs.shape[1] - 1} "
                f"({outputs.shape[1]} logits), got {int(target.min())} to {int(target.max())}; "
                "do the classes of the data and of the model agree?"
            ) from error

    def hits(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the number of images whose largest logit is the target's, an integer scalar."""
        return (outputs.argmax(dim=1) == target).sum()


@dataclass(frozen=True, slots=True)
class Detection:
    """Boxes, classes and scores in each image.

    The loss is the detector's own. It has no weights, so it is taken from the network as it was
    loaded, whatever a recipe makes of it.

    Attributes:
        detector: the uncompressed network.
    """

    name: ClassVar[str] = "detection"
    version: ClassVar[int] = 1

    detector: Any = None

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """Return the task of a network."""
        return cls(module)

    def loss(
        self,
        outputs: Tensor,
        target: Sequence[Mapping[str, Tensor]],
        *,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Return the detector's own loss of a batch, a scalar.

        Raises:
            ModelError: the detector has no loss, or something else than classes is smoothed.
        """
        if not isinstance(self.detector, LearnsBoxes):
            raise ModelError(
                f"detection: {type(self.detector).__name__} must have a method "
                "loss(outputs, target) to be trained, got none; write it, or use recipes that do "
                "not train"
            )
        if label_smoothing:
            raise ModelError(
                "detection: label_smoothing must be 0, because the loss is the detector's own, got "
                f"{label_smoothing:g}; leave it out"
            )
        return self.detector.loss(outputs, target)
