"""Unstructured pruning: single weights become zero and stay zero."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.compressors.criteria import CriterionField
from shrinkproof.compressors.criteria.weights import Magnitude
from shrinkproof.compressors.layers import Scope, select_layers
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Criterion, Needs, Role
from shrinkproof.records import Change
from shrinkproof.registry import Fraction, OpenFraction, component, fields_of

if TYPE_CHECKING:
    from torch import Tensor, nn


@component
class WeightPruning:
    """Set the least important weights to zero and hold them there.

    The number of zeros is exact: ``round(ratio * size)``, of all treated tensors together or of
    each; ties go to the earlier position. Zeros of an earlier pruning count and never come back,
    so masks of growing ratio are nested. A pruned tensor is as large and as fast as before in
    most runtimes; the file shrinks only when it is packed or zipped.

    Attributes:
        ratio: fraction of the treated weights that are zero afterwards, 0 to 1, both excluded.
        scope: ``global`` ranks the weights of all layers together, ``layer`` each on its own.
        layers: ``conv`` or ``conv+linear``.
        criterion: what scores the weights: a registered name, or a name with its settings.
        floor: fraction of each tensor that is kept in any case, and at least one weight.

    Raises:
        CompressionError: no layer to treat, a layer was clustered or quantized before, a weight
            or score is not finite.

    Reference: Han et al. 2015, arXiv:1506.02626.
    """

    name: ClassVar[str] = "prune.weights"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS

    ratio: OpenFraction
    scope: Literal["global", "layer"] = "global"
    layers: Scope = "conv"
    criterion: CriterionField = Magnitude()
    floor: Fraction = 0.02

    @pydantic.model_validator(mode="after")
    def _fits_floor(self) -> WeightPruning:
        if self.ratio + self.floor > 1 + 1e-12:
            raise ValueError(
                f"ratio must leave the floor of each tensor: at most {1 - self.floor:g}, got "
                f"{self.ratio:g}; lower the ratio, or the floor of {self.floor:g}"
            )
        return self

    @property
    def needs(self) -> Needs:
        """What the criterion needs."""
        needs: Needs = self.criterion.needs
        return needs

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Put a mask on every treated weight; return the model and what was reached."""
        import torch

        from shrinkproof.compressors.constraint import Mask, constrain, weight_of

        chosen = select_layers(model, self.layers, step=self.name)
        for layer, modules in chosen.treated.items():
            for module in modules:
                _check_order(module, layer)
        found = _scores(self.criterion, model, chosen.treated, context)
        scores, dead, layers = [], [], {}
        for layer, modules in chosen.treated.items():
            alive = _alive(modules[0])
            found[layer][~alive] = -np.inf
            scores.append(found[layer])
            dead.append(~alive)
        removed = self._select(scores)
        for (layer, modules), gone, old in zip(chosen.treated.items(), removed, dead, strict=True):
            gone |= old
            weight = weight_of(modules[0])
            kept = torch.from_numpy(~gone).view(weight.shape).to(weight.device)
            for module in modules:
                constrain(module, "weight", Mask(kept), layer=layer)
            layers[layer] = {"zeros": int(gone.sum()), "size": int(gone.size)}
        zeros = sum(entry["zeros"] for entry in layers.values())
        size = sum(entry["size"] for entry in layers.values())
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"ratio": self.ratio},
            achieved={"ratio": zeros / size, "sparsity": _sparsity(model)},
            layers=layers,
            untouched=dict(chosen.untouched),
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: the zeros come with the weights."""
        return model

    def _select(self, scores: list[NDArray[np.floating]]) -> list[NDArray[np.bool_]]:
        """Return for each tensor which weights go."""
        limits = [s.size - max(1, math.ceil(self.floor * s.size - 1e-9)) for s in scores]
        if self.scope == "layer":
            counts = [
                min(_part(self.ratio, s.size), m) for s, m in zip(scores, limits, strict=True)
            ]
            return [lowest(s, count) for s, count in zip(scores, counts, strict=True)]
        # Weights under a tensor's floor are set aside first, whatever the ratio: masks then nest.
        open_ = [np.where(lowest(s, m), s, np.inf) for s, m in zip(scores, limits, strict=True)]
        pool = np.concatenate(open_)
        gone = lowest(pool, min(_part(self.ratio, pool.size), sum(limits)))
        parts: list[NDArray[np.bool_]] = np.split(gone, np.cumsum([s.size for s in scores])[:-1])
        return parts


def lowest(scores: NDArray[np.floating], count: int) -> NDArray[np.bool_]:
    """Return which are the ``count`` lowest scores, (n,) bool; ties go to the earlier position.

    Linear in time (partial sort), and nested: a smaller count selects a subset.
    """
    if count <= 0:
        return np.zeros(scores.shape, dtype=bool)
    if count >= scores.size:
        return np.ones(scores.shape, dtype=bool)
    threshold = np.partition(scores, count - 1)[count - 1]
    chosen: NDArray[np.bool_] = scores < threshold
    ties = np.flatnonzero(scores == threshold)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen


def _part(ratio: float, size: int) -> int:
    """Return ``ratio * size`` to the nearest whole number, halves up."""
    return math.floor(ratio * size + 0.5)


def _scores(
    criterion: Criterion, model: nn.Module, layers: Mapping[str, list[nn.Module]], context: Context
) -> dict[str, NDArray[np.floating]]:
    """Return layer -> flat scores, checked."""
    from shrinkproof.compressors.constraint import weight_of

    weights = {layer: weight_of(modules[0]) for layer, modules in layers.items()}
    for layer, weight in weights.items():
        _check_finite(weight, f"{WeightPruning.name}: the weights of {layer}", "repair the model")
    scores = criterion.scores(model, tuple(layers), context)
    found: dict[str, NDArray[np.floating]] = {}
    for layer, weight in weights.items():
        what = f"criterion {criterion.name!r}: the scores of {layer}"
        shape = tuple(scores[layer].shape) if layer in scores else None
        if shape != tuple(weight.shape):
            raise CompressionError(
                f"{what} must have the shape of the weight {tuple(weight.shape)}, got {shape}; "
                "repair the criterion"
            )
        _check_finite(scores[layer], what, "repair the criterion")
        found[layer] = scores[layer].detach().cpu().numpy().ravel().copy()
    return found


def _alive(module: nn.Module) -> NDArray[np.bool_]:
    """Return which weights no mask has removed yet, flat."""
    from shrinkproof.compressors.constraint import Mask, constraints_of, weight_of

    alive = np.ones(weight_of(module).numel(), dtype=bool)
    for constraint in constraints_of(module):
        if isinstance(constraint, Mask):
            alive &= constraint.mask.cpu().numpy().ravel()
    return alive


def _check_finite(values: Tensor, what: str, advice: str) -> None:
    bad = int((~values.isfinite()).sum())
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
        zeros += int((parameter == 0).sum())
        size += parameter.numel()
    return zeros / size
