"""Recalibration: batch normalization sees the compressed network's own activations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pydantic

from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context, Feed, Needs, Role
from shrinkproof.records import Change
from shrinkproof.registry import component, fields_of

if TYPE_CHECKING:
    from torch import nn


@component
class Recalibration:
    """Estimate the statistics of batch normalization anew; weights stay as they are.

    Mean and variance of each channel become the plain average over the batches of the calibration
    images, which are as equal in size as possible. A model without batch normalization is left
    as it is, and the change says so.

    Attributes:
        batch: most images of a batch, >= 2.

    Raises:
        CompressionError: no calibration images, fewer than two, or statistics that are not
            finite.

    Reference: Li et al. 2020, arXiv:2007.02491 (adaptive batch normalization after pruning).
    """

    name: ClassVar[str] = "recalibrate"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.RECOVER

    batch: Annotated[int, pydantic.Field(ge=2)] = 128

    @property
    def needs(self) -> Needs:
        """Calibration images."""
        return Needs.CALIBRATION

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Replace the running statistics; return the model and how many layers changed."""
        feed = context.calibration
        if feed is None or feed.count < 2:
            raise CompressionError(
                f"{self.name}: needs at least 2 images of the split 'calibrate', got "
                f"{feed.count if feed else 'none'}; add data.calibrate"
            )
        norms, untouched = _batch_norms(model)
        used = 0
        if norms:
            with _collecting(norms):
                used = self._run(model, feed, context)
        else:
            untouched["model"] = (
                "has no batch normalization with running statistics; nothing was estimated"
            )
        for name, norm in norms.items():
            if not (norm.running_mean.isfinite().all() and norm.running_var.isfinite().all()):
                raise CompressionError(
                    f"{self.name}: statistics must be finite, got NaN or infinity in {name}; the "
                    "model is numerically broken on the calibration images"
                )
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            achieved={"layers": len(norms), "images": used},
            layers={name: {"channels": int(norm.num_features)} for name, norm in norms.items()},
            untouched=untouched,
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: the statistics come with the weights."""
        return model

    def _run(self, model: nn.Module, feed: Feed, context: Context) -> int:
        import torch

        used = 0

        size = max(2, math.ceil(feed.count / math.ceil(feed.count / self.batch)))
        with torch.no_grad():
            for inputs, _ in feed.batches(size):
                # A batch of one image has no variance where the map is one pixel.
                if len(inputs) > 1:
                    model(inputs.to(context.device))
                    used += len(inputs)
        return used


def _batch_norms(model: nn.Module) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the layers to treat, and those without running statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm

    norms: dict[str, Any] = {}
    untouched: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            if module.track_running_stats and module.running_mean is not None:
                norms[name] = module
            else:
                untouched[name] = "keeps no running statistics"
    return norms, untouched


@contextmanager
def _collecting(norms: dict[str, Any]) -> Iterator[None]:
    """Let only these layers collect, as a cumulative average from nothing."""
    momenta = {name: norm.momentum for name, norm in norms.items()}
    try:
        for norm in norms.values():
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        yield
    finally:
        for name, norm in norms.items():
            norm.momentum = momenta[name]
            norm.eval()
