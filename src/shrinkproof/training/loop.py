"""The training loop: supervised recovery, short, reproducible, and resumable after a kill."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.ahead import read_ahead
from shrinkproof.errors import CompressionError, DataError
from shrinkproof.protocols import Context, Feed, Target
from shrinkproof.records import Json
from shrinkproof.registry import fields_of
from shrinkproof.tasks import CountsHits
from shrinkproof.training.augmentation import augmentation
from shrinkproof.training.checkpoint import Checkpoint, fingerprint
from shrinkproof.training.objective import batch_loss, moved, scale_penalty
from shrinkproof.training.rates import rate_at
from shrinkproof.training.seeding import private_seed
from shrinkproof.training.settings import Training
from shrinkproof.training.stopping import Best, validation_loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Batch = tuple[Tensor, Target]

_FEW_CHANNELS: Final = 32
"""Fewer channels than this may crash the gradient of a strided 1x1 convolution."""

_NOTED: Final = ("epoch", "epochs", "loss", "accuracy", "validation_loss", "seconds")


def train(
    model: nn.Module,
    settings: Training,
    context: Context,
    *,
    adjust: Callable[[], None] | None = None,
    each_step: Callable[[int, int], None] | None = None,
    identity: Json | None = None,
    until: int | None = None,
) -> list[Json]:
    """Train a model in place and return one entry of history for each epoch.

    Every epoch sees the images once in a new order; a last batch of a single image is left out,
    because batch normalization has no variance for it. Frozen parameters stay as they are. Weight
    decay acts on tensors of two or more dimensions only, so never on biases, batch normalization
    or codebook levels. ``sgd`` has momentum without Nesterov's correction, ``adam`` decouples the
    decay (Loshchilov & Hutter 2019, arXiv:1711.05101).

    For a given stream, thread count and machine the result is bit-identical on a CPU, whether or
    not the training was interrupted; torch's global random state is left as it was. The context
    receives ``epoch, epochs, loss, accuracy, seconds, seconds_left`` after each epoch.

    Arguments, result and errors: see `Training.run`.
    """
    import torch

    run = _Run(model, settings, context, adjust, each_step, until or settings.epochs)
    checkpoint = run.checkpoint(identity)
    run.resume(checkpoint.read())
    try:
        while not run.is_over:
            run.epoch()
            checkpoint.write(run.state(), finished=run.is_over)
    finally:
        model.eval()
        run.optimizer.zero_grad(set_to_none=True)
    run.keep_best()
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise CompressionError(
            "training: weights must stay finite, got NaN or infinity after "
            f"{len(run.history)} epochs at learning rate {settings.learning_rate:g}; lower the "
            "learning rate"
        )
    return run.history


@dataclass
class _Epoch:
    """Sums over the images of one epoch."""

    images: int = 0
    loss: float = 0.0
    hits: int = 0


@dataclass
class _Run:
    """The state that a step changes."""

    model: nn.Module
    settings: Training
    context: Context
    adjust: Callable[[], None] | None
    each_step: Callable[[int, int], None] | None
    until: int
    step: int = 0
    history: list[Json] = field(default_factory=list)
    resumed: int = 0
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.feed.count < 1:
            raise DataError("training: needs at least one image, got none")
        self.optimizer = _optimizer(self.model, self.settings)
        self.penalize = scale_penalty(self.model, self.settings.gamma_l1)
        self.best = None if self.settings.patience is None else Best(self.settings.patience)
        whole = len(_whole(np.arange(self.feed.count), self.settings.batch))
        self.steps = self.settings.epochs * math.ceil(whole / self.settings.batch)

    @property
    def feed(self) -> Feed:
        """The training images."""
        if self.context.training is None:
            raise DataError("training: needs at least one image, got none")
        return self.context.training

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.model.parameters()).device

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left to run."""
        done = len(self.history)
        return done >= self.until or (self.best is not None and self.best.is_over(done))

    def checkpoint(self, identity: Json | None) -> Checkpoint:
        """Return where the run is kept, under the identity of everything that decides it."""
        context, mark = self.context, ""
        if context.scratch is not None:
            validation = context.validation if self.settings.patience is not None else None
            parts: Json = {
                "settings": fields_of(self.settings),
                "identity": identity,
                "task": context.task.name,
                "images": [_identity(f) for f in (self.feed, validation, context.calibration)],
                "stream": int(context.draw_training("checkpoint").integers(2**63)),
            }
            teacher = context.teacher if self.settings.distill is not None else None
            mark = fingerprint(parts, self.model, teacher)
        return Checkpoint(context.scratch, mark, context.note)

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on."""
        best = self.best
        return {
            "step": self.step,
            "history": self.history,
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "best": best and {"epoch": best.epoch, "loss": best.loss, "state": best.state},
        }

    def resume(self, state: dict[str, Any] | None) -> None:
        """Go on from a state that is not too far, and tell the history so far."""
        if state is None or len(state["history"]) > self.until:
            return
        self.step, self.history = state["step"], state["history"]
        self.resumed = len(self.history)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.best is not None:
            self.best = Best(self.best.patience, **state["best"])
        for entry in self.history:
            self.context.note({k: entry[k] for k in _NOTED if k in entry})

    def epoch(self) -> None:
        """Pass over the images once."""
        start = time.perf_counter()
        epoch, stream = len(self.history), self.context.draw_training
        order = _order(self.feed.count, self.settings.batch, stream("order", epoch))
        change = augmentation(self.settings.augment, stream("augment", epoch))
        sums = _Epoch()
        self.model.train()
        batches = self.feed.batches(self.settings.batch, order=order, augment=change)
        with private_seed(stream("torch", epoch), self.device), self.taken(batches) as taken:
            for inputs, target in taken:
                self.learn(inputs, target, sums)
        entry: Json = {
            "epoch": epoch + 1,
            "epochs": self.settings.epochs,
            "loss": sums.loss / sums.images,
            "learning_rate": self.rate,
        }
        if isinstance(self.context.task, CountsHits):
            entry["accuracy"] = sums.hits / sums.images
        if self.best is not None:
            loss = validation_loss(self.model, self.context, self.settings.batch)
            entry["validation_loss"] = loss
            self.best.see(epoch + 1, loss, self.model)
        entry["seconds"] = time.perf_counter() - start
        self.history.append(entry)
        self.tell(entry)

    def tell(self, entry: Json) -> None:
        """Report an epoch and about how long the rest will take."""
        fresh = self.history[self.resumed :]
        mean = sum(e["seconds"] for e in fresh) / len(fresh)
        left = 0 if self.is_over else self.until - len(self.history)
        noted: Json = {k: entry[k] for k in _NOTED if k in entry}
        self.context.note({**noted, "seconds_left": mean * left})

    @property
    def reads_ahead(self) -> bool:
        """Whether the next batches are made meanwhile: where the network runs beside the CPU."""
        return self.device.type != "cpu"

    @contextlib.contextmanager
    def taken(self, batches: Iterator[Batch]) -> Iterator[Iterator[Batch]]:
        """Give the batches in order; a thread that makes them ends with the block."""
        if not self.reads_ahead:
            yield batches
            return
        with contextlib.closing(read_ahead(batch for batch in batches)) as ready:
            yield ready

    @cached_property
    def takes_channels_last(self) -> bool:
        """Whether images may be laid out with their channels last.

        The gradient of a 1x1 convolution with a stride and few channels crashes the process in
        float32 on that layout (torch 2.13 on a CPU; seen with at most 12 input and 16 output
        channels).
        """
        from torch.nn import Conv2d

        return not any(
            isinstance(layer, Conv2d)
            and layer.kernel_size == (1, 1)
            and max(layer.stride) > 1
            and min(layer.in_channels, layer.out_channels) < _FEW_CHANNELS
            for layer in self.model.modules()
        )

    def learn(self, inputs: Tensor, target: Target, sums: _Epoch) -> None:
        """Take one step."""
        import torch

        inputs, target = inputs.to(self.device), moved(target, self.device)
        if inputs.ndim == 4 and self.takes_channels_last:
            # Convolutions train about 15 % faster on this layout; the weights keep theirs.
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.rate = rate_at(self.settings, self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.zero_grad(set_to_none=True)
        half = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            outputs = self.forward(inputs)
            loss = batch_loss(self.settings, self.context, inputs, outputs, target)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise CompressionError(
                f"training: the loss must stay finite, got {value} in epoch "
                f"{len(self.history) + 1}, step {self.step + 1}, at learning rate {self.rate:g}; "
                "lower the learning rate, or use the schedule 'onecycle', which warms up"
            )
        loss.backward()
        for change in (self.adjust, self.penalize):
            if change is not None:
                change()
        self.optimizer.step()
        self.step += 1
        sums.images += len(target)
        sums.loss += value * len(target)
        if isinstance(self.context.task, CountsHits) and not isinstance(target, Sequence):
            sums.hits += int(self.context.task.hits(outputs.detach(), target))
        if self.each_step is not None:
            self.each_step(self.step, self.steps)

    def forward(self, inputs: Tensor) -> Any:
        """Return the outputs of a batch."""
        try:
            return self.model(inputs)
        except ValueError as error:
            if len(inputs) > 1:
                raise
            raise CompressionError(
                "training: each step must have at least 2 images, because batch normalization has "
                f"no variance for one, got 1 ({error}); raise batch, or add images"
            ) from error

    def keep_best(self) -> None:
        """Go back to the weights of the best epoch of a whole training, and mark it."""
        if self.best is None or self.until < self.settings.epochs:
            return
        self.model.load_state_dict(self.best.state)
        self.history[self.best.epoch - 1]["kept"] = True


def _identity(feed: Feed | None) -> Json | None:
    """Return what tells images from others; a feed without a fingerprint only has its number."""
    if feed is None:
        return None
    return {"count": feed.count, "fingerprint": getattr(feed, "fingerprint", None)}


def _optimizer(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    import torch

    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise CompressionError(
            "training: the model must have trainable parameters, got none; they are all frozen "
            "(requires_grad is False)"
        )
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _order(count: int, batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return _whole(rng.permutation(count).astype(np.int64), batch)


def _whole(order: NDArray[np.int64], batch: int) -> NDArray[np.int64]:
    """Drop a last batch of one image, unless all batches are of one image."""
    return order[:-1] if batch > 1 and len(order) > 1 and len(order) % batch == 1 else order
