"""Ordered steps: copy the model once, run them, prove each kept what the earlier ones made."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.order import order_problem
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.protocols import Compressor, Context, Needs, Role, Trains
from shrinkproof.records import Change, Json
from shrinkproof.registry import identity_of

if TYPE_CHECKING:
    from torch import nn


def recovery_of(step: Compressor) -> tuple[Compressor, ...]:
    """Return what a dense control runs in place of a step; nothing for pure compression."""
    if step.role is Role.RECOVER:
        return (step,)
    return step.recovery if isinstance(step, Trains) else ()


@dataclass(frozen=True)
class Recipe:
    """Ordered steps, usable wherever one step is.

    Attributes:
        steps: compressors in order; a recipe among them counts as its steps.
    """

    steps: tuple[Compressor, ...] = ()

    def __post_init__(self) -> None:
        """Put the steps of inner recipes in their place."""
        flat: list[Compressor] = []
        for step in self.steps:
            flat.extend(step.steps if isinstance(step, Recipe) else [step])
        object.__setattr__(self, "steps", tuple(flat))

    @property
    def needs(self) -> Needs:
        """What any of the steps needs."""
        needs = Needs.NOTHING
        for step in self.steps:
            needs |= step.needs
        return needs

    def schedule(self) -> list[Json]:
        """Return the identities of the steps that recover, in order.

        The dense control of a recipe is the recipe of exactly these steps. A step that compresses
        and trains counts with its training.
        """
        return [identity_of(step) for step in self.recovery]

    @property
    def recovery(self) -> tuple[Compressor, ...]:
        """The steps of the recipe's dense control: its training, without its compression."""
        return tuple(inner for step in self.steps for inner in recovery_of(step))

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, tuple[Change, ...]]:
        """Return a compressed copy in evaluation mode, and one change for each step.

        The given model is never edited. The copy has plain parameters under the original's names
        (quantization adds ``<tensor>_scale`` buffers). After each step all zeros and numbers of
        distinct values that earlier steps made are measured again. The n-th step of a name draws
        from ``context.stream(name, n, ...)``, and the n-th training of the recipe from
        ``context.stream("training", n, ...)``, so equal schedules draw equal numbers.

        Raises:
            CompressionError: a step lacks data, cannot do what was asked, stands where it would
                destroy what an earlier one makes, or did so; there is nothing to compress.
            ModelError: the model cannot be copied.
        """
        from shrinkproof.compressors.constraint import bake
        from shrinkproof.compressors.promises import Promises

        self._check(model, context)
        model = _private_copy(model).to(context.device).eval()
        model.zero_grad(set_to_none=True)
        teacher = _teacher(model) if Needs.TEACHER in self.needs else None
        promises = Promises()
        trained = 0
        changes: list[Change] = []
        seen: Counter[str] = Counter()
        for position, step in enumerate(self.steps, start=1):
            inner = replace(
                context,
                stream=_substream(context.stream, step.name, seen[step.name]),
                scratch=context.scratch and context.scratch / f"{position}-{_scratch_name(step)}",
                changes=tuple(changes),
                teacher=teacher,
                trained=trained,
                schedule=partial(context.stream, "training"),
            )
            trained += sum(Needs.TRAINING in run.needs for run in recovery_of(step))
            seen[step.name] += 1
            model, change = step.apply(model, inner)
            model.eval()
            label = f"step {position} ({step.name})"
            zeros = change.fields.get("keep_zeros") is not False
            kept = promises.check(model, label, zeros=zeros)
            account = {**change.achieved, "kept": kept} if kept else change.achieved
            changes.append(replace(change, achieved=account))
            promises.collect(model)
        bake(model)
        promises.check(model, "baking", zeros=True)
        model.zero_grad(set_to_none=True)
        return model, tuple(changes)

    def restore(self, model: nn.Module, changes: Sequence[Change]) -> nn.Module:
        """Return a copy of a fresh model with the structure that the changes made, without data.

        Loading the saved state dict into it (``strict=True``) then gives the compressed model.
        The steps are built from the changes, so ``Recipe().restore`` serves any of them.

        Raises:
            ModelError: a change was made by another version of its step, or is damaged.
            UnknownNameError: a step is not installed.
        """
        model = _private_copy(model).eval()
        for change in changes:
            step = _step_of(change)
            model = step.restore(model, change)
        return model.eval()

    def _check(self, model: nn.Module, context: Context) -> None:
        for position, step in enumerate(self.steps, start=1):
            for need, split, argument, given in (
                (Needs.TRAINING, "train", "training", context.training),
                (Needs.CALIBRATION, "calibrate", "calibration", context.calibration),
                (Needs.VALIDATION, "select", "validation", context.validation),
            ):
                if need in step.needs and given is None:
                    raise CompressionError(
                        f"step {position} ({step.name}): needs images of the split {split!r}, got "
                        f"none; add data.{split} to the study (--{split} for `shrinkproof "
                        f"compress`, {argument}= in Python), or leave the step out"
                    )
        problem = order_problem(self.steps, has_batch_norms=_has_batch_norms(model))
        if problem is not None:
            raise CompressionError(f"step {problem[0] + 1}: {problem[1]}")
        compressing = [step.name for step in self.steps if step.role is Role.COMPRESS]
        if compressing and not _has_layers(model):
            raise CompressionError(
                f"{compressing[0]}: the model must have convolutions or fully connected layers, "
                f"got none in {type(model).__name__}"
            )


def _scratch_name(step: Compressor) -> str:
    """Return the name of a step's folder; a part of a training shares that of the whole."""
    return getattr(step, "scratch_name", step.name)


def _substream(
    stream: Callable[..., np.random.Generator], name: str, occurrence: int
) -> Callable[..., np.random.Generator]:
    return partial(stream, name, occurrence)


def _has_layers(model: nn.Module) -> bool:
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    return any(isinstance(module, (_ConvNd, nn.Linear)) for module in model.modules())


def _has_batch_norms(model: nn.Module) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return any(isinstance(module, _BatchNorm) for module in model.modules())


def _private_copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__}: must be copyable with copy.deepcopy, got "
            f"{type(error).__name__}: {error}. Tensors that carry gradients, locks and open files "
            "as attributes prevent it."
        ) from error


def _teacher(model: nn.Module) -> nn.Module:
    """Return a frozen copy of the model as it is now."""
    teacher = _private_copy(model).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad = False
    return teacher


def _step_of(change: Change) -> Any:
    cls = COMPRESSORS.get(change.step)
    if cls.version != change.version:
        raise ModelError(
            f"{change.step}: the change was made by version {change.version}, installed is "
            f"version {cls.version}; run the study again, or install the earlier release"
        )
    try:
        return COMPRESSORS.create(change.step, change.fields)
    except pydantic.ValidationError as error:
        raise ModelError(
            f"{change.step}: the fields of the change must be the step's settings, got "
            f"{change.fields}: {error}"
        ) from error
