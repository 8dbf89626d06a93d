"""Weight clustering: the weights of a tensor share a few values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.compressors.kmeans import Initialization, distortion, kmeans_1d
from shrinkproof.compressors.layers import Scope, select_layers
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Needs, Role
from shrinkproof.records import Change, Json
from shrinkproof.registry import Strings, component, fields_of

if TYPE_CHECKING:
    from torch import nn


@component
class Clustering:
    """Replace the weights of each tensor by at most ``levels`` shared values.

    The values come from one-dimensional k-means per tensor and are tuned by later training; which
    weight has which value stays. Zeros are kept: where a tensor holds exact zeros, zero is one of
    the values and stays exactly zero. A tensor that has no more than ``levels`` distinct values
    keeps them exactly. The file shrinks only when the indices are packed.

    Attributes:
        levels: number of values of a tensor, 2 to 256; 16 fit into 4 bits, 256 into 8.
        initialization: where k-means starts, ``density``, ``linear`` or ``kmeans++``.
        layers: ``conv`` or ``conv+linear``; ``full-conv`` and ``full-conv+linear`` leave depthwise
            convolutions alone.
        include: patterns of the names of layers to treat; ``*`` stands for any text.
        exclude: names of layers to leave alone although ``include`` matches them.
        keep_zeros: pin zero where a tensor holds zeros; without it a mask is lost on purpose.
        minimum_size: weights below which a tensor is left alone, where a table would not pay.

    Raises:
        CompressionError: no layer to treat, a pattern matches none, a layer was clustered or
            quantized before, or a weight is not finite.

    Reference: Han et al. 2016, arXiv:1510.00149, section 3.
    """

    name: ClassVar[str] = "cluster"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS
    makes: ClassVar[frozenset[str]] = frozenset({"levels"})
    destroys: ClassVar[frozenset[str]] = frozenset({"levels", "grid"})

    levels: Annotated[int, pydantic.Field(ge=2, le=256)]
    initialization: Initialization = "density"
    layers: Scope = "conv+linear"
    include: Strings = ("*",)
    exclude: Strings = ()
    keep_zeros: bool = True
    minimum_size: Annotated[int, pydantic.Field(ge=1)] = 64

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Give every treated weight a codebook; return the model and what was reached."""
        from shrinkproof.compressors.constraint import weight_of

        chosen = select_layers(
            model, self.layers, step=self.name, include=self.include, exclude=self.exclude
        )
        untouched = dict(chosen.untouched)
        layers: dict[str, Json] = {}
        for layer, modules in chosen.treated.items():
            weight = weight_of(modules[0])
            if weight.numel() < self.minimum_size:
                untouched[layer] = (
                    f"{weight.numel()} weights, fewer than the minimum_size of {self.minimum_size}"
                )
                continue
            values = weight.cpu().numpy()
            _check(modules[0], values, layer)
            found = self._codebook(values, layer, context)
            _attach(modules, found, layer)
            layers[f"{layer}.weight".lstrip(".")] = {
                "levels": len(found.levels),
                "zero_pinned": found.zero_pinned,
                "mse": found.mse,
                "size": int(values.size),
            }
        most = max((entry["levels"] for entry in layers.values()), default=0)
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"levels": self.levels},
            achieved={"levels": most, "tensors": len(layers)},
            layers=layers,
            untouched=untouched,
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: the shared values come with the weights."""
        return model

    def _codebook(self, values: NDArray[np.float32], layer: str, context: Context) -> _Found:
        pin_zero = self.keep_zeros and bool((values == 0).any())
        levels, index = kmeans_1d(
            values,
            self.levels,
            self.initialization,
            context.stream("k-means", layer),
            pin_zero=pin_zero,
        )
        mse = distortion(values, levels, index)
        return _Found(levels, index, pin_zero, mse)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    levels: NDArray[np.float32]
    index: NDArray[np.unsignedinteger]
    zero_pinned: bool
    mse: float


def _attach(modules: list[nn.Module], found: _Found, layer: str) -> None:
    import torch

    from shrinkproof.compressors.constraint import Codebook, constrain, weight_of

    weight = weight_of(modules[0])
    codebook = Codebook(
        torch.from_numpy(found.levels).to(weight), torch.from_numpy(found.index), found.zero_pinned
    )
    for module in modules:
        constrain(module, "weight", codebook, layer=layer)


def _check(module: nn.Module, values: NDArray[np.float32], layer: str) -> None:
    from shrinkproof.compressors.constraint import Mask, constraints_of

    for constraint in constraints_of(module):
        if not isinstance(constraint, Mask):
            raise CompressionError(
                f"{Clustering.name}: {layer} must not be clustered or quantized yet, got a "
                f"{constraint.label}; put one {Clustering.name} step before any quantization step"
            )
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise CompressionError(
            f"{Clustering.name}: the weights of {layer} must be finite, got NaN or infinity {bad} "
            f"times of {values.size}; repair the model"
        )
