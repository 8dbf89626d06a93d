"""The training loop: supervised recovery, short and reproducible."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import CompressionError, DataError, UsageError
from shrinkproof.protocols import Feed, Task, ignore_note
from shrinkproof.records import Json
from shrinkproof.tasks import CountsHits
from shrinkproof.training.augmentation import augmentation

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Optimizer = Literal["sgd", "adam"]
Schedule = Literal["constant", "cosine", "onecycle"]
Precision = Literal["float32", "bfloat16"]

WARMUP: Final = 0.3
"""Share of the steps in which ``onecycle`` climbs to its peak."""


def train(
    model: nn.Module,
    feed: Feed,
    *,
    task: Task,
    epochs: int,
    batch: int,
    learning_rate: float,
    optimizer: Optimizer = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: Schedule = "cosine",
    label_smoothing: float = 0.0,
    augment: tuple[str, ...] = (),
    precision: Precision = "float32",
    stream: Callable[..., np.random.Generator],
    note: Callable[[Mapping[str, Any]], None] = ignore_note,
    adjust: Callable[[], None] | None = None,
    each_step: Callable[[int, int], None] | None = None,
) -> list[Json]:
    """Train a model in place and return one entry of history for each epoch.

    Every epoch sees the images once in a new order; a last batch of a single image is left out,
    because batch normalization has no variance for it. Frozen parameters stay as they are. Weight
    decay acts on tensors of two or more dimensions only, so never on biases, batch normalization
    or codebook levels. For a given stream, thread count and machine the result is bit-identical
    on a CPU; torch's global random state is left as it was.

    Args:
        model: the network; ends in evaluation mode, without gradients.
        feed: the training images.
        task: the loss.
        epochs: passes over the images, >= 1.
        batch: images of a step, >= 1.
        learning_rate: peak step size, > 0.
        optimizer: ``sgd`` (Nesterov-free momentum) or ``adam`` (decoupled weight decay,
            Loshchilov & Hutter 2019, arXiv:1711.05101).
        momentum: of ``sgd``, 0 to 1.
        weight_decay: strength, >= 0.
        schedule: ``constant``; ``cosine`` to zero; ``onecycle``: linear warm-up, then cosine.
        label_smoothing: share of the target spread over all classes, 0 to 1.
        augment: random changes of the images, of ``crop`` and ``flip``.
        precision: arithmetic of the forward pass; weights stay float32.
        stream: named parts -> random generator; called with what it is for and the epoch.
        note: receives ``epoch, epochs, loss, accuracy`` after each epoch.
        adjust: called between the gradients and the step.
        each_step: called after each step with how many are done and how many there are.

    Returns:
        For each epoch ``epoch`` (from 1), ``epochs``, ``loss`` (mean over images), ``accuracy``
        (fraction, of the training-mode outputs; absent for tasks without one),
        ``learning_rate`` (of its last step) and ``seconds`` (never part of an identity).

    Raises:
        CompressionError: the loss is not finite, or nothing can be trained.
        DataError: there are no images.
        UsageError: a setting is out of range.
    """
    import torch

    _check(epochs=epochs, batch=batch, learning_rate=learning_rate, weight_decay=weight_decay)
    if feed.count < 1:
        raise DataError("training: needs at least one image, got none")
    stepper = _optimizer(model, optimizer, learning_rate, momentum, weight_decay)
    orders = (_order(feed.count, batch, stream("order", epoch)) for epoch in range(epochs))
    steps = epochs * math.ceil(len(_whole(np.arange(feed.count), batch)) / batch)
    run = _Run(model, task, stepper, label_smoothing, precision, adjust)
    history: list[Json] = []
    with _private_seed(stream("torch"), run.device):
        model.train()
        try:
            for epoch, order in enumerate(orders):
                start = time.perf_counter()
                change = augmentation(augment, stream("augment", epoch))
                batches = feed.batches(batch, order=order, augment=change)
                for inputs, target in batches:
                    rate = rate_at(run.step, steps, learning_rate, schedule)
                    run.learn(inputs, target, rate, epoch + 1)
                    if each_step is not None:
                        each_step(run.step, steps)
                history.append(run.finish(epoch + 1, epochs, time.perf_counter() - start))
                note({k: history[-1][k] for k in _NOTED if k in history[-1]})
        finally:
            model.eval()
            stepper.zero_grad(set_to_none=True)
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise CompressionError(
            f"training: weights must stay finite, got NaN or infinity after {epochs} epochs at "
            f"learning rate {learning_rate:g}; lower the learning rate"
        )
    return history


_NOTED: Final = ("epoch", "epochs", "loss", "accuracy")


def rate_at(step: int, steps: int, peak: float, schedule: Schedule) -> float:
    """Return the learning rate of a step, 0 to ``steps - 1``.

    ``cosine`` is ``peak * (1 + cos(pi * step / steps)) / 2`` (Loshchilov & Hutter 2017,
    arXiv:1608.03983, without restarts); ``onecycle`` first climbs linearly for 30 % of the steps.
    """
    if schedule == "constant":
        return peak
    warmup = max(1, round(WARMUP * steps)) if schedule == "onecycle" and steps > 1 else 0
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@dataclass
class _Run:
    """The state that a step changes."""

    model: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    label_smoothing: float
    precision: Precision
    adjust: Callable[[], None] | None
    step: int = 0
    images: int = 0
    loss: float = 0.0
    rate: float = 0.0
    hits: int = 0

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def learn(self, inputs: Tensor, target: Tensor, rate: float, epoch: int) -> None:
        """Take one step."""
        import torch

        if inputs.ndim == 4:
            # Convolutions train about 15 % faster on this layout; the weights keep theirs.
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        inputs, target = inputs.to(self.device), target.to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        half = self.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            outputs = self.model(inputs)
            loss = self.task.loss(outputs, target, label_smoothing=self.label_smoothing)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CompressionError(
                f"training: the loss must stay finite, got {value} in epoch {epoch}, step "
                f"{self.step + 1}, at learning rate {rate:g}; lower the learning rate, or use "
                "the schedule 'onecycle', which warms up"
            )
        loss.backward()
        if self.adjust is not None:
            self.adjust()
        self.optimizer.step()
        self.step += 1
        self.rate = rate
        self.images += len(target)
        self.loss += value * len(target)
        if isinstance(self.task, CountsHits):
            self.hits += int(self.task.hits(outputs.detach(), target))

    def finish(self, epoch: int, epochs: int, seconds: float) -> Json:
        """Return the entry of an epoch and start the next one."""
        entry: Json = {
            "epoch": epoch,
            "epochs": epochs,
            "loss": self.loss / self.images,
            "learning_rate": self.rate,
            "seconds": seconds,
        }
        if isinstance(self.task, CountsHits):
            entry["accuracy"] = self.hits / self.images
        self.images, self.loss, self.hits = 0, 0.0, 0
        return entry


def _check(*, epochs: int, batch: int, learning_rate: float, weight_decay: float) -> None:
    rules = (
        ("epochs", "at least 1", epochs, epochs >= 1),
        ("batch", "at least 1", batch, batch >= 1),
        ("learning_rate", "greater than 0", learning_rate, 0 < learning_rate < math.inf),
        ("weight_decay", "at least 0", weight_decay, 0 <= weight_decay < math.inf),
    )
    for name, rule, value, holds in rules:
        if not holds:
            raise UsageError(f"training: {name} must be {rule}, got {value}")


def _optimizer(
    model: nn.Module, name: Optimizer, rate: float, momentum: float, decay: float
) -> torch.optim.Optimizer:
    import torch

    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise CompressionError(
            "training: the model must have trainable parameters, got none; they are all frozen "
            "(requires_grad is False)"
        )
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum)
    if name == "adam":
        return torch.optim.AdamW(groups, lr=rate)
    raise UsageError(f"training: optimizer must be 'sgd' or 'adam', got {name!r}")


def _order(count: int, batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return _whole(rng.permutation(count).astype(np.int64), batch)


def _whole(order: NDArray[np.int64], batch: int) -> NDArray[np.int64]:
    """Drop a last batch of one image, unless all batches are of one image."""
    return order[:-1] if batch > 1 and len(order) > 1 and len(order) % batch == 1 else order


@contextmanager
def _private_seed(rng: np.random.Generator, device: torch.device) -> Iterator[None]:
    """Give dropout and its like a stream of their own; the global one is put back afterwards."""
    import torch

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(rng.integers(2**63)))
        yield
