"""H-Rank: channels whose feature maps have a low rank carry little information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import pydantic

from shrinkproof.compressors.criteria.filters import (
    calibration_batches,
    check_finite,
    filters_of,
)
from shrinkproof.protocols import Context, Needs
from shrinkproof.records import Json
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shrinkproof.compressors.criteria.rank import Ranks

_SAMPLED: Final = 53
"""In the mode ``fast``, one of so many maps is ranked exactly too; a prime meets all channels."""


@component
class HRank:
    """Average matrix rank of a channel's feature map over calibration images.

    The map is the output of the rectifier behind the layer, through a batch norm in between;
    where the layer feeds an addition first, of the rectifier of the sum; where there is none, of
    the batch norm behind the layer, else of the layer. A layer that runs several times has the
    average over all its maps. Linear layers and those that do not run are left out. The rank is
    the number of singular values above epsilon * max(H, W) times the largest, in float32.

    Ranks saturate on small maps. So a part of the step between two averages, 1 / number of maps,
    is added: half a step times the L1 norm of the filter over the largest of the layer. Channels
    of equal rank are then in the order of their L1 norms, and no others change places.

    The change of the step that asks tells the number of images and maps and, in the mode
    ``fast``, how far the ranks of a sample of the maps are off.

    Attributes:
        images: most calibration images, spread evenly over the split.
        batch: most images of a batch.
        mode: ``exact`` gives the ranks of ``torch.linalg.matrix_rank``; ``fast`` errs where a
            singular value is close to the limit.

    Raises:
        CompressionError: no calibration images, a map that is not finite, a model whose path
            depends on the images.

    Input: convolutions whose maps are (N, out, H, W), and calibration images.
    Output: one score per output channel, (out,) float64, 0 to min(H, W) and half a step; layers
        are not comparable.
    Reference: Lin et al. 2020, arXiv:2002.10179.
    """

    name: ClassVar[str] = "hrank"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = False

    images: Annotated[int, pydantic.Field(ge=1)] = 640
    batch: Annotated[int, pydantic.Field(ge=1)] = 128
    mode: Literal["exact", "fast"] = "exact"

    @property
    def needs(self) -> Needs:
        """Calibration images."""
        return Needs.CALIBRATION

    def scores(
        self, model: nn.Module, layers: Sequence[str], context: Context
    ) -> Mapping[str, Tensor]:
        """Return the average ranks from one pass over the images, ties broken by the L1 norm."""
        from torch.nn.modules.conv import _ConvNd

        from shrinkproof.compressors.criteria.following import follow, read_maps
        from shrinkproof.compressors.criteria.rank import rank_threads

        batches = calibration_batches(
            context, images=self.images, batch=self.batch, criterion=self.name
        )
        trail = follow(model, layers, context.example.to(context.device))
        # A linear layer over an image has four axes, too, but its channels are on the last one.
        chains = {
            layer: chains
            for layer in layers
            if isinstance(model.get_submodule(layer), _ConvNd) and (chains := trail.chains(layer))
        }
        used = 0
        with rank_threads() as ranks:
            totals = _Totals(ranks, is_fast=self.mode == "fast")
            for inputs, _ in batches:
                read_maps(model, chains, inputs, totals.add)
                used += len(inputs)
        found = {
            layer: _with_ties_broken(total, totals.maps[layer], _l1(model, layer))
            for layer, total in totals.ranks.items()
        }
        context.note(self._account(totals, used, [n for n in layers if n not in found]))
        return {layer: found[layer] for layer in layers if layer in found}

    def _account(self, totals: _Totals, images: int, left_out: list[str]) -> Json:
        account: Json = {"criterion": self.name, "mode": self.mode, "images": images}
        account["maps"] = sum(totals.maps[n] * len(total) for n, total in totals.ranks.items())
        if left_out:
            account["left_out"] = dict.fromkeys(left_out, "has no feature maps (N, out, H, W)")
        if self.mode == "fast":
            account["disagreement"] = totals.disagreement()
        return account


class _Totals:
    """Sums of ranks, layer by layer.

    Attributes:
        ranks: layer -> sum of the ranks of each channel, (out,) int64.
        maps: layer -> number of maps of each channel.
    """

    def __init__(self, ranks: Ranks, *, is_fast: bool) -> None:
        self._compute = ranks
        self._is_fast = is_fast
        self._sampled = self._different = self._off = 0
        self.ranks: dict[str, Tensor] = {}
        self.maps: dict[str, int] = {}

    def add(self, layers: tuple[str, ...], maps: Tensor) -> None:
        """Add the ranks of the maps that some layers share; (N, out, H, W)."""
        if maps.ndim != 4:
            return
        total = self._ranks(layers, maps.detach().float().cpu()).sum(0)
        for layer in layers:
            self.ranks[layer] = self.ranks.get(layer, 0) + total
            self.maps[layer] = self.maps.get(layer, 0) + len(maps)

    def _ranks(self, layers: tuple[str, ...], maps: Tensor) -> Tensor:
        """Return the rank of each map, (N, out) int64."""
        from shrinkproof.compressors.criteria.rank import exact_ranks, fast_ranks

        if not maps.sum().isfinite():
            what = f"criterion {HRank.name!r}: the feature maps of {', '.join(layers)}"
            check_finite(maps, what, "the model is numerically broken on the calibration images")
        matrices = maps.flatten(0, 1).contiguous()
        found = self._compute(fast_ranks if self._is_fast else exact_ranks, matrices)
        if self._is_fast:
            exact = self._compute(exact_ranks, matrices[::_SAMPLED])
            off = (exact - found[::_SAMPLED]).abs()
            self._sampled += len(off)
            self._different += int((off > 0).sum())
            self._off += int(off.sum())
        return found.view(maps.shape[:2])

    def disagreement(self) -> dict[str, Any]:
        """Return how the fast ranks of the sampled maps differ from the exact ones."""
        sampled = max(1, self._sampled)
        return {
            "sampled": self._sampled,
            "share": self._different / sampled,
            "mean": self._off / sampled,
        }


def _l1(model: nn.Module, layer: str) -> Tensor:
    return filters_of(model, layer, criterion=HRank.name).abs().sum(1)


def _with_ties_broken(total: Tensor, maps: int, l1: Tensor) -> Tensor:
    """Return the average ranks with at most half a step added, (out,) float64."""
    largest = l1.max()
    part = l1 / largest if largest > 0 else l1
    return (total.to(l1.device) + 0.5 * part) / maps
