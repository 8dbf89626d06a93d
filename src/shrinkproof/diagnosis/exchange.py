"""One network with single layers of another: what each layer alone does to the predictions."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from shrinkproof.compression.replay import replay_of
from shrinkproof.compressors.activation import ActivationQuantizer

Trials = Mapping[str, Mapping[str, nn.Module]]
"""Name of a trial -> layers that are replaced in it, by qualified name."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How the predictions of one network differ from another's on some images.

    Attributes:
        divergence: mean Kullback-Leibler divergence of its class probabilities from the other's,
            in nats; 0 or more.
        agreement: fraction of the images with the same top class.
        lost: number of images that only the other one gets right.
        won: number of images that only this one gets right.
    """

    divergence: float
    agreement: float
    lost: int
    won: int


class Tally:
    """Adds up how predictions differ, batch by batch."""

    def __init__(self) -> None:
        self._divergence = 0.0
        self._same = self._lost = self._won = self._count = 0

    def add(self, reference: Tensor, found: Tensor, target: Tensor) -> None:
        """Add the logits of some images, (n, classes) each, with their classes (n,)."""
        expected, got = reference.double().log_softmax(1), found.double().log_softmax(1)
        self._divergence += float((expected.exp() * (expected - got)).sum())
        before, after = reference.argmax(1), found.argmax(1)
        self._same += int((before == after).sum())
        self._lost += int(((before == target) & (after != target)).sum())
        self._won += int(((before != target) & (after == target)).sum())
        self._count += len(target)

    def effect(self) -> Effect | None:
        """Return the means; None where they are no numbers."""
        if not self._count or not math.isfinite(self._divergence):
            return None
        # Rounding may leave a tiny negative number.
        divergence = max(0.0, self._divergence / self._count)
        return Effect(divergence, self._same / self._count, self._lost, self._won)


def effects(
    network: nn.Module,
    trials: Trials,
    reference: Sequence[Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
) -> dict[str, Effect | None]:
    """Return how a network with some layers replaced differs from a reference, by trial.

    Args:
        network: in evaluation mode; not edited.
        trials: which layers are replaced, by trial; none of them for the network as it is.
        reference: logits of the reference for each batch.
        batches: ``(inputs (n, C, H, W), target (n,))``.
    """
    tallies = {name: Tally() for name in trials}
    replay = replay_of(network)
    spare = copy.deepcopy(network)
    with torch.no_grad():
        for before, (inputs, target) in zip(reference, batches, strict=True):
            if replay is not None:
                replay.record(inputs)
            for name, parts in trials.items():
                if replay is not None and parts.keys() <= replay.targets:
                    logits = replay.replay(parts)
                else:
                    logits = _swapped(spare, parts, inputs)
                tallies[name].add(before, logits, target)
    return {name: tally.effect() for name, tally in tallies.items()}


def logits_of(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Return the logits of each batch."""
    with torch.no_grad():
        return [network(inputs) for inputs, _ in batches]


def _swapped(network: nn.Module, parts: Mapping[str, nn.Module], inputs: Tensor) -> Tensor:
    """Return the logits with some layers replaced, and put the layers back."""
    before = {name: network.get_submodule(name) for name in parts}
    try:
        for name, part in parts.items():
            _put(network, name, part)
        logits: Tensor = network(inputs)
    finally:
        for name, part in before.items():
            _put(network, name, part)
    return logits


def _put(network: nn.Module, name: str, part: nn.Module) -> None:
    place, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(place), leaf, part)


def weighted(network: nn.Module) -> dict[str, nn.Module]:
    """Return the convolutions and fully connected layers, in the order of the network."""
    found = network.named_modules()
    return {name: layer for name, layer in found if isinstance(layer, (_ConvNd, nn.Linear))}


def is_folded(network: nn.Module, baseline: nn.Module) -> bool:
    """Return whether batch norms of the baseline are merged into the network's layers."""
    norms = {n for n, layer in baseline.named_modules() if isinstance(layer, _BatchNorm)}
    return bool(norms - {name for name, _ in network.named_modules()})


def in_same_form(baseline: nn.Module, network: nn.Module) -> nn.Module:
    """Return the baseline in the form of the network: folded where that is, with equal answers.

    Raises:
        UnsupportedLayerError: the baseline cannot be traced.
    """
    if not is_folded(network, baseline):
        return baseline
    from shrinkproof.compressors.fold import fold

    graph, _, _ = fold(copy.deepcopy(baseline).eval())
    folded: nn.Module = graph
    return folded


def has_same_shape(one: nn.Module, other: nn.Module | None) -> bool:
    """Return whether one layer can stand in the place of another."""
    if type(one) is not type(other) or other is None:
        return False
    shapes = [{name: p.shape for name, p in layer.named_parameters()} for layer in (one, other)]
    return shapes[0] == shapes[1]


def with_zeros_of(layer: nn.Module, compressed: nn.Module) -> nn.Module:
    """Return a copy of a layer whose weights are zero where the compressed layer's are."""
    masked = copy.deepcopy(layer)
    with torch.no_grad():
        masked.get_parameter("weight").mul_(weight_of(compressed) != 0)
    return masked


def zeros_of(layer: nn.Module) -> int:
    """Return how many weights of a layer are zero."""
    return int((weight_of(layer) == 0).sum())


def weight_of(layer: nn.Module) -> Tensor:
    """Return the weights of a layer, without those of a bias."""
    weight = layer.weight
    assert isinstance(weight, Tensor), "convolutions and fully connected layers have weights"
    return weight


@dataclass(frozen=True, slots=True)
class Cut:
    """Channels that pruning removes together.

    Attributes:
        layers: the convolutions and fully connected layers that lose outputs.
        kept: channels that stay.
        size: channels there were.
        parts: the baseline's layers with zeros in place of what is removed; with them the baseline
            answers as it does without these channels.
    """

    layers: tuple[str, ...]
    kept: int
    size: int
    parts: Mapping[str, nn.Module]


def cuts_of(baseline: nn.Module, structures: Sequence[Mapping[str, Any]]) -> Iterator[Cut]:
    """Yield the channels that pruning of channels removed, by what is tied together.

    Args:
        baseline: the network before.
        structures: what the change of each step recorded: for each iteration the kept positions,
            and the axes they belong to, ``conv1.weight:0``. A later step counts the channels that
            those before it have left.
    """
    original: dict[str, Tensor] = {}
    sizes: dict[str, int] = {}
    tied: dict[str, list[str]] = {}
    for entry in (entry for structure in structures for entry in structure.get("cuts", ())):
        for cut in entry["cuts"]:
            for axis in cut["axes"]:
                before = original.get(axis, torch.arange(cut["size"]))
                sizes.setdefault(axis, len(before))
                original[axis] = before[torch.tensor(cut["kept"], dtype=torch.long)]
            tied.setdefault(cut["axes"][0], list(cut["axes"]))
    layers = weighted(baseline)
    for first, axes in tied.items():
        outputs = [axis.removesuffix(".weight:0") for axis in axes if axis.endswith(".weight:0")]
        names = tuple(name for name in outputs if name in layers)
        if names:
            parts = _without(baseline, axes, original, sizes)
            yield Cut(names, len(original[first]), sizes[first], parts)


def _without(
    baseline: nn.Module,
    axes: Sequence[str],
    original: Mapping[str, Tensor],
    sizes: Mapping[str, int],
) -> dict[str, nn.Module]:
    """Return layers of the baseline with zeros where the axes lose positions."""
    parts: dict[str, nn.Module] = {}
    for axis in axes:
        name, _, dimension = axis.rpartition(":")
        place, _, leaf = name.rpartition(".")
        if leaf not in ("weight", "bias"):
            continue
        if getattr(baseline.get_submodule(place), leaf) is None:
            continue  # a bias that only folding made
        part = parts.setdefault(place, copy.deepcopy(baseline.get_submodule(place)))
        gone = torch.ones(sizes[axis], dtype=torch.bool)
        gone[original[axis]] = False
        with torch.no_grad():
            part.get_parameter(leaf).index_fill_(int(dimension), gone.nonzero().flatten(), 0.0)
    return parts


def quantizers(network: nn.Module) -> Iterator[str]:
    """Yield the names of the modules that round activations."""
    for name, layer in network.named_modules():
        if isinstance(layer, ActivationQuantizer):
            yield name
