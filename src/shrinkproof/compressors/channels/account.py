"""What pruning channels did to a model, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvNd

from shrinkproof.compressors.channels.selection import CellKey
from shrinkproof.compressors.constraint import effective_parameters
from shrinkproof.compressors.coupling import Coupling, LayerUse
from shrinkproof.records import Change, Json
from shrinkproof.registry import fields_of

if TYPE_CHECKING:
    from shrinkproof.compressors.channels import ChannelPruning


@dataclass
class Ledger:
    """What has happened so far.

    Attributes:
        before: key of a cell -> its width and how many channels could go, at the start.
        untouched: layer -> why its channels stay, at the start.
        scores: layer -> scores of the channels that are left, where they are computed once.
        cuts: what each iteration cut, for `restore`.
        criteria: what the criterion tells about each time it scored.
        removed: number of channels that went; tied channels count as one.
        difference: largest difference between a cut and a silenced network, as a part of the
            largest value.
        reached: the number that was measured for a target.
        trainings: what each training reached.
    """

    before: dict[CellKey, tuple[int, int]] = field(default_factory=dict)
    untouched: dict[str, str] = field(default_factory=dict)
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    cuts: list[Json] = field(default_factory=list)
    criteria: list[Json] = field(default_factory=list)
    removed: int = 0
    difference: float = 0.0
    reached: Json = field(default_factory=dict)
    trainings: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a model is.

    Attributes:
        widths: weighted layer -> output and input channels.
        macs: weighted layer -> multiply-accumulates of one image.
        other_macs: those of other products, such as the attention of a transformer.
        params: number of parameters.
    """

    widths: dict[str, tuple[int, int]]
    macs: dict[str, int]
    other_macs: int
    params: int

    @classmethod
    def of(cls, model: nn.Module, coupling: Coupling) -> Size:
        """Return the size; where layers run, and how often, is known from a coupling."""
        uses = coupling.layers
        places = {name: use.weight.rpartition(".") for name, use in uses.items()}
        owners = {name: model.get_submodule(path) for name, (path, _, _) in places.items()}
        shapes = {name: getattr(owners[name], last).shape for name, (_, _, last) in places.items()}
        return cls(
            widths={n: _widths(owners[n], use, shapes[n]) for n, use in uses.items()},
            macs={n: use.positions * shapes[n].numel() for n, use in uses.items()},
            other_macs=coupling.other_macs,
            params=sum(p.numel() for p in effective_parameters(model)),
        )

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(self.macs.values()) + self.other_macs


def _widths(owner: Any, use: LayerUse, shape: Sequence[int]) -> tuple[int, int]:
    if isinstance(owner, nn.Linear):
        return owner.out_features, owner.in_features
    if isinstance(owner, _ConvNd):
        return owner.out_channels, owner.in_channels
    # A parameter in Python code, which cannot lose groups.
    is_tiled, into = use.out_axis.dim == 1, use.in_axis or use.out_axis
    groups = use.groups if use.in_axis else 1
    return (
        shape[use.out_axis.dim] * (groups if is_tiled else 1),
        shape[into.dim] * (1 if is_tiled else groups),
    )


def change_of(step: ChannelPruning, ledger: Ledger, start: Size, end: Size, count: int) -> Change:
    """Return the account of a step that made ``count`` iterations."""
    achieved: Json = {
        "ratio": ledger.removed / sum(could for _, could in ledger.before.values()),
        "macs": end.total_macs,
        "macs_before": start.total_macs,
        "macs_ratio": end.total_macs / start.total_macs,
        "params": end.params,
        "params_before": start.params,
        "params_ratio": end.params / start.params,
        "difference": ledger.difference,
        "iterations": count,
        **ledger.reached,
    }
    if ledger.trainings:
        achieved["finetune"] = ledger.trainings
    if ledger.criteria:
        achieved["criterion"] = ledger.criteria
    layers: Json = {
        name: {
            "channels": [start.widths[name][0], end.widths[name][0]],
            "inputs": [start.widths[name][1], end.widths[name][1]],
            "macs": [start.macs[name], end.macs[name]],
        }
        for name in start.widths
        if start.widths[name] != end.widths[name]
    }
    return Change(
        step=step.name,
        version=step.version,
        fields=fields_of(step),
        requested=_requested(step),
        achieved=achieved,
        layers=layers,
        structure={"cuts": ledger.cuts},
        untouched=ledger.untouched,
    )


def _requested(step: ChannelPruning) -> Json:
    """Return what was asked, under the names of what is reached."""
    if step.target is None:
        return {"ratio": step.ratio}
    name = {"macs": "macs_ratio", "params": "params_ratio"}.get(step.target.kind, step.target.kind)
    return {name: step.target.value}
