"""Unstructured pruning: single weights become zero and stay zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.compressors.criteria import CriterionField
from shrinkproof.compressors.criteria.weights import Magnitude
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.layers import Scope, select_layers
from shrinkproof.compressors.lowest import Ranking, lowest_of
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Compressor, Context, Criterion, Needs, Role
from shrinkproof.records import Change, Json
from shrinkproof.registry import Fraction, OpenFraction, Strings, component, fields_of, identity_of
from shrinkproof.training.settings import Training, outcome

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shrinkproof.compressors.constraint import Mask


@component
class WeightPruning:
    """Set the least important weights to zero and hold them there.

    The number of zeros is exact: ``round(ratio * size)``, of all treated tensors together or of
    each; ties go to the earlier position. Zeros of an earlier pruning count and never come back,
    so masks of growing ratio are nested. A pruned tensor is as large and as fast as before in
    most runtimes; the file shrinks only when it is packed or zipped.

    The schedules ``constant`` and ``gradual`` prune while the network trains: at the start, then
    after every ``every`` optimizer steps, weights are ranked anew, and the mask is final after the
    share ``until`` of all steps. Until then a removed weight is only hidden: it gets no gradient
    and keeps its value (momentum and weight decay still act on it), and it comes back as soon as
    others rank below it (Zhu & Gupta 2017, arXiv:1710.01878, section 3). ``constant`` hides the
    full ratio from the start. ``gradual`` begins with ``initial`` and slows down:
    ``ratio + (initial - ratio) * (1 - t / end)**3`` after t of ``end`` steps (the same, eq. 1).

    Attributes:
        ratio: fraction of the treated weights that are zero afterwards, 0 to 1, both excluded.
        scope: ``global`` ranks the weights of all layers together, ``layer`` each on its own.
        layers: ``conv`` or ``conv+linear``; ``full-conv`` and ``full-conv+linear`` leave depthwise
            convolutions alone.
        include: patterns of the names of layers to treat; ``*`` stands for any text.
        exclude: patterns of the names of layers to leave alone.
        criterion: what scores the weights: a registered name, or a name with its settings.
        floor: fraction of each tensor that is kept in any case, and at least one weight.
        schedule: ``one-shot``, ``constant`` or ``gradual``.
        initial: fraction that ``gradual`` removes before the first step, 0 to the ratio.
        every: optimizer steps between two masks of a schedule, >= 1.
        until: share of the optimizer's steps after which a schedule's mask is final; the rest is
            recovery under it.
        finetune: the training of a schedule; to train after ``one-shot``, add a step.

    Raises:
        CompressionError: no layer to treat, a pattern that matches none, a layer was clustered or
            quantized before, a weight or score is not finite, no training images.

    Reference: Han et al. 2015, arXiv:1506.02626.
    """

    name: ClassVar[str] = "prune.weights"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    destroys: ClassVar[frozenset[str]] = frozenset({"levels", "grid"})

    ratio: OpenFraction
    scope: Ranking = "global"
    layers: Scope = "conv"
    include: Strings = ("*",)
    exclude: Strings = ()
    criterion: CriterionField = Magnitude()
    floor: Fraction = 0.02
    schedule: Literal["one-shot", "constant", "gradual"] = "one-shot"
    initial: Fraction = 0.0
    every: Annotated[int, pydantic.Field(ge=1)] = 100
    until: Fraction = 0.75
    finetune: Training | None = None

    @pydantic.model_validator(mode="after")
    def _fits_floor(self) -> WeightPruning:
        if self.ratio + self.floor > 1 + 1e-12:
            raise ValueError(
                f"ratio must leave the floor of each tensor: at most {1 - self.floor:g}, got "
                f"{self.ratio:g}; lower the ratio, or the floor of {self.floor:g}"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _fits_schedule(self) -> WeightPruning:
        if (self.schedule == "one-shot") != (self.finetune is None):
            raise ValueError(
                "finetune must be given with the schedules 'constant' and 'gradual', and not with "
                f"'one-shot', got {'none' if self.finetune is None else 'one'} with "
                f"{self.schedule!r}; after 'one-shot' add a step finetune"
            )
        if self.initial and (self.schedule != "gradual" or self.initial > self.ratio):
            raise ValueError(
                "initial must belong to the schedule 'gradual' and be at most the ratio of "
                f"{self.ratio:g}, got {self.initial:g} with {self.schedule!r}"
            )
        if self.finetune is not None and self.finetune.patience is not None:
            raise ValueError(
                f"finetune.patience must be left out, got {self.finetune.patience}: the mask of "
                "the best epoch would not have the ratio; add a step finetune that stops early"
            )
        return self

    @property
    def needs(self) -> Needs:
        """What the criterion needs, and the training of a schedule."""
        needs: Needs = self.criterion.needs
        return needs if self.finetune is None else needs | self.finetune.needs

    @property
    def recovery(self) -> tuple[Compressor, ...]:
        """The same training without pruning; nothing for ``one-shot``."""
        return () if self.finetune is None else (FineTuning.of(self.finetune),)

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Put a mask on every treated weight; return the model and what was reached."""
        chosen = select_layers(
            model, self.layers, step=self.name, include=self.include, exclude=self.exclude
        )
        for layer, modules in chosen.treated.items():
            for module in modules:
                _check_order(module, layer)
        masks = _Masks.on(model, chosen.treated)
        training: Json = {}
        masks.renew(self, context, self.initial if self.schedule == "gradual" else self.ratio)
        if self.finetune is not None:
            training = outcome(self._train(self.finetune, masks, context))
        layers = {layer: masks.count(layer) for layer in chosen.treated}
        zeros = sum(entry["zeros"] for entry in layers.values())
        size = sum(entry["size"] for entry in layers.values())
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"ratio": self.ratio},
            achieved={"ratio": zeros / size, "sparsity": _sparsity(model), **training},
            layers=layers,
            untouched=dict(chosen.untouched),
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: the zeros come with the weights."""
        return model

    def _train(self, settings: Training, masks: _Masks, context: Context) -> list[Json]:
        from shrinkproof.compressors.constraint import average_level_gradients

        def each_step(done: int, steps: int) -> None:
            end = max(1, round(self.until * steps))
            if done == end or (done < end and done % self.every == 0):
                masks.renew(self, context, self.ratio_after(done, end))

        return settings.run(
            masks.model,
            context,
            adjust=average_level_gradients(masks.model),
            each_step=each_step,
            identity=identity_of(self),
        )

    def ratio_after(self, done: int, end: int) -> float:
        """Return the fraction to remove after so many of the steps that the schedule takes."""
        if self.schedule != "gradual" or done >= end:
            return self.ratio
        return self.ratio + (self.initial - self.ratio) * (1 - done / end) ** 3


@dataclass(frozen=True, slots=True, eq=False)
class _Masks:
    """The masks of the treated layers, whole while weights are ranked.

    Attributes:
        model: the network.
        masks: layer -> the mask of every module that holds this weight.
        kept: layer -> what earlier prunings have left, bool, of the shape of the weight.
    """

    model: nn.Module
    masks: dict[str, list[Mask]]
    kept: dict[str, Tensor]

    @classmethod
    def on(cls, model: nn.Module, treated: Mapping[str, Sequence[nn.Module]]) -> _Masks:
        """Put a mask that removes nothing more on every weight."""
        import torch

        from shrinkproof.compressors.constraint import Mask, constrain, constraints_of, weight_of

        masks: dict[str, list[Mask]] = {}
        for layer, modules in treated.items():
            for module in modules:
                everything = torch.ones_like(weight_of(module), dtype=torch.bool)
                constrain(module, "weight", Mask(everything), layer=layer)
                found = [c for c in constraints_of(module) if isinstance(c, Mask)]
                masks.setdefault(layer, []).extend(found)
        return cls(model, masks, {layer: found[0].mask.clone() for layer, found in masks.items()})

    def renew(self, step: WeightPruning, context: Context, ratio: float) -> None:
        """Remove the weights that now score lowest; those hidden before may come back."""
        import torch

        self._set(self.kept)
        with _evaluating(self.model):
            pool = _scores(step.criterion, self.model, tuple(self.masks), context)
        sizes = [kept.numel() for kept in self.kept.values()]
        parts = np.split(pool, np.cumsum(sizes)[:-1])
        for values, kept in zip(parts, self.kept.values(), strict=True):
            values[~kept.cpu().numpy().ravel()] = -np.inf
        gone = lowest_of(pool, sizes, ratio, scope=step.scope, floor=step.floor)
        left = {}
        for (layer, kept), removed in zip(self.kept.items(), gone, strict=True):
            left[layer] = kept & ~torch.from_numpy(removed).view(kept.shape).to(kept.device)
        self._set(left)

    def count(self, layer: str) -> Json:
        """Return how many of a layer's weights are removed."""
        mask = self.masks[layer][0].mask
        return {"zeros": mask.numel() - int(mask.count_nonzero()), "size": mask.numel()}

    def _set(self, masks: Mapping[str, Tensor]) -> None:
        for layer, mask in masks.items():
            for holder in self.masks[layer]:
                holder.mask.copy_(mask)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _scores(
    criterion: Criterion, model: nn.Module, layers: Sequence[str], context: Context
) -> NDArray[np.floating]:
    """Return the scores of all layers one after the other, flat, checked."""
    import torch

    from shrinkproof.compressors.constraint import weight_of

    shapes = {}
    for layer in layers:
        weight = weight_of(model.get_submodule(layer))
        _check_finite(weight, f"{WeightPruning.name}: the weights of {layer}", "repair the model")
        shapes[layer] = weight.shape
    scores = criterion.scores(model, layers, context)
    for layer, shape in shapes.items():
        what = f"criterion {criterion.name!r}: the scores of {layer}"
        got = scores[layer].shape if layer in scores else None
        if got != shape:
            raise CompressionError(
                f"{what} must have the shape of the weight {tuple(shape)}, got "
                f"{None if got is None else tuple(got)}; repair the criterion"
            )
        _check_finite(scores[layer], what, "repair the criterion")
    double = any(scores[layer].dtype == torch.float64 for layer in layers)
    size = sum(shape.numel() for shape in shapes.values())
    # Written into one array at once: for large networks each copy less is a hundred megabytes less.
    pool = torch.empty(size, dtype=torch.float64 if double else torch.float32)
    torch.cat([scores[layer].detach().reshape(-1).to(pool) for layer in layers], out=pool)
    values: NDArray[np.floating] = pool.numpy()
    return values


def _check_finite(values: Tensor, what: str, advice: str) -> None:
    # Not finite anywhere, not finite in the sum; only then is it worth counting.
    bad = 0 if bool(values.sum().isfinite()) else int((~values.isfinite()).sum())
    if bad:
        raise CompressionError(
            f"{what} must be finite, got NaN or infinity {bad} times of {values.numel()}; {advice}"
        )


def _check_order(module: nn.Module, layer: str) -> None:
    from shrinkproof.compressors.constraint import Codebook, Mask, constraints_of

    for constraint in constraints_of(module):
        if not isinstance(constraint, Mask):
            earlier = "cluster" if isinstance(constraint, Codebook) else "quantization"
            raise CompressionError(
                f"{WeightPruning.name}: {layer} must not be clustered or quantized yet, got a "
                f"{constraint.label}; put {WeightPruning.name} before the {earlier} step"
            )


def _sparsity(model: nn.Module) -> float:
    """Return the fraction of zeros among all parameters, as the network uses them."""
    from shrinkproof.compressors.constraint import effective_parameters

    zeros = size = 0
    for parameter in effective_parameters(model):
        zeros += parameter.numel() - int(parameter.count_nonzero())
        size += parameter.numel()
    return zeros / size
