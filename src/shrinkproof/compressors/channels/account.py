"""What pruning channels did to a model, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from shrinkproof.compressors.channels.selection import CellKey
from shrinkproof.compressors.constraint import effective_parameters, weight_of
from shrinkproof.compressors.coupling import Coupling
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
        params: number of parameters.
    """

    widths: dict[str, tuple[int, int]]
    macs: dict[str, int]
    params: int

    @classmethod
    def of(cls, model: nn.Module, coupling: Coupling) -> Size:
        """Return the size; where layers run, and how often, is known from a coupling."""
        layers = {name: model.get_submodule(name) for name in coupling.layers}
        return cls(
            widths={name: _widths(layer) for name, layer in layers.items()},
            macs={
                name: coupling.layers[name].positions * weight_of(layer).numel()
                for name, layer in layers.items()
            },
            params=sum(p.numel() for p in effective_parameters(model)),
        )

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of one image in all weighted layers."""
        return sum(self.macs.values())


def _widths(layer: Any) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    return int(layer.out_channels), int(layer.in_channels)


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
