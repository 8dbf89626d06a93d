"""8-bit integers after training: weights per channel, activations per tensor, nothing trained."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import pydantic

from shrinkproof.compressors.layers import NOT_SELECTED, matching
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.protocols import Context, Needs, Role
from shrinkproof.records import Change, Json
from shrinkproof.registry import Strings, component, fields_of

if TYPE_CHECKING:
    from torch import fx, nn

    from shrinkproof.protocols import Feed

QUANTIZERS: Final = "activation_quantizers"
"""Submodule of a quantized model that holds one quantizer per place."""

BESIDE: Final = "stays in floating point beside a layer that is not selected"
"""Reason of an addition or pooling that does not lie among the selected layers."""

LARGEST_BIAS: Final = 2.0**30
"""A bias may use half of the 32-bit accumulator; the other half is for the sum of products."""


@component
class StaticQuantization:
    """Quantize weights and activations to 8-bit integers after training.

    Batch norms are folded. Each convolution and linear layer gets symmetric signed weights with
    one scale per output channel (one per tensor where the weight is clustered, so that its levels
    stay as few as they are). The network input, the output of each of these layers, of additions
    and of average pooling become unsigned 8-bit with one scale and zero point each, taken from all
    calibration images; a rectifier is merged into the place before it. The logits stay in
    floating point, biases become 32-bit integers in the exported file.

    Layers that ``include`` and ``exclude`` leave out stay in floating point, weights and
    arithmetic; their batch norms are folded, too. Then the places are the inputs and outputs of
    the selected layers, and those of each addition and average pooling that no number reaches from
    another layer unless a selected one has written or reads it on the way, and whose numbers go
    on to a selected layer if they go on to another. A value has one place: where a selected layer
    reads it rounded, so does every other.

    ``w ~ scale * integer`` with ``scale = max|w| / 127``, rounded half to even (Krishnamoorthi
    2018, arXiv:1806.08342, sections 2.2 and 3). Zeros stay exactly zero.

    Needs: calibration images. Basis: simulated in PyTorch, real in the exported file.

    Attributes:
        weight_bits: bits of a weight.
        activation_bits: bits of an activation.
        observer: range of an activation: ``minmax`` covers every value seen, ``percentile`` all but
            the lowest and highest 0.01 %, ``mse`` has the least mean squared error, ``entropy``
            the least relative entropy (TensorRT's procedure); the last three read a histogram.
        batch: images per calibration batch; it does not change the result.
        reduce_range: use 7 of the 8 weight bits, because an x86 CPU without VNNI adds pairs of
            products in 16 bits, which saturate. None decides by the CPU at hand and records it.
        include: patterns of the names of layers to treat; ``*`` stands for any text.
        exclude: patterns of the names of layers to leave alone.
    """

    name: ClassVar[str] = "quantize.static"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS
    makes: ClassVar[frozenset[str]] = frozenset({"grid", "folded"})
    destroys: ClassVar[frozenset[str]] = frozenset({"grid"})

    weight_bits: Literal[8] = 8
    activation_bits: Literal[8] = 8
    observer: Literal["minmax", "percentile", "mse", "entropy"] = "minmax"
    batch: Annotated[int, pydantic.Field(ge=1)] = 128
    reduce_range: bool | None = None
    include: Strings = ("*",)
    exclude: Strings = ()

    @property
    def needs(self) -> Needs:
        """Calibration images."""
        return Needs.CALIBRATION

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Return the model with imitated integers, and the scales that were chosen.

        Raises:
            UnsupportedLayerError: the model cannot be traced.
            CompressionError: there are no calibration images, nothing can be quantized, a pattern
                matches no layer, the model is quantized already, or an activation is not finite.
        """
        placed = self._place(model, context)
        return placed.graph, self._settle(placed, context)

    def _place(self, model: nn.Module, context: Context) -> Placed:
        """Fold, put all quantizers in place, and set their ranges by the calibration images."""
        from shrinkproof.compressors.placement import attach

        if context.calibration is None or context.calibration.count == 0:
            raise CompressionError(
                f"{self.name}: needs calibration images to set the range of each activation, got "
                "none; name a calibrate split"
            )
        reduced = cpu_needs_reduced_range() if self.reduce_range is None else self.reduce_range
        bits = self.weight_bits - int(reduced)
        graph, layers, untouched = self._prepare(model)
        places = attach(graph, QUANTIZERS, layers)
        per_tensor = quantize_weights(graph, layers, bits=bits, step=self.name)
        ranges = observe(graph, places, context.calibration, self, context)
        return Placed(
            graph=graph,
            layers=layers,
            places=places,
            per_tensor=per_tensor,
            ranges=ranges,
            bits=bits,
            untouched=untouched,
        )

    def _settle(self, placed: Placed, context: Context, **reached: Any) -> Change:
        """Put the biases on their grid and return the account of everything."""
        graph, bits = placed.graph, placed.bits
        widened = fit_biases(graph, placed.layers, placed.places)
        account: Json = {}
        for layer in placed.layers:
            account[f"{layer}.weight"] = _weight_account(
                graph.get_submodule(layer), bits, layer in placed.per_tensor, layer in widened
            )
        for place in placed.places:
            account[place] = {
                "bits": self.activation_bits,
                **_grid_account(graph.get_submodule(place), *placed.ranges[place]),
            }
        return Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            requested={"weight_bits": self.weight_bits, "activation_bits": self.activation_bits},
            achieved={
                "weight_bits": bits,
                "activation_bits": self.activation_bits,
                "quantized_layers": len(placed.layers),
                "activations": len(placed.places),
                "calibration_images": context.calibration.count if context.calibration else 0,
                "reduce_range": bits < self.weight_bits,
                "reduce_range_from": "cpu" if self.reduce_range is None else "settings",
                **reached,
            },
            layers=account,
            untouched=placed.untouched,
        )

    def _prepare(self, model: nn.Module) -> tuple[fx.GraphModule, list[str], Json]:
        """Fold, and return the graph, the layers to quantize, and what is left alone and why."""
        from shrinkproof.compressors.fold import fold
        from shrinkproof.compressors.graph import WEIGHTED, calls, unsupported_calls
        from shrinkproof.compressors.placement import left_out

        if hasattr(model, QUANTIZERS):
            raise CompressionError(
                f"{self.name}: a model can be quantized once, this one is quantized already; "
                "remove the second quantization from the recipe, or let one step include all layers"
            )
        graph, _, norms = fold(model)
        layers = [n for n in calls(graph) if isinstance(graph.get_submodule(n), WEIGHTED)]
        if not layers:
            raise CompressionError(
                f"{self.name}: the model must have a convolution or a linear layer, got none; "
                "quantization has nothing to do here"
            )
        untouched = {name: f"batch norm {reason}" for name, reason in norms.items()}
        untouched |= dict(unsupported_calls(graph))
        chosen, others = self._select(graph, layers)
        untouched |= others
        for node in left_out(graph, chosen):
            untouched[str(node.target) if node.op == "call_module" else node.name] = BESIDE
        return graph, chosen, untouched

    def _select(self, graph: fx.GraphModule, layers: list[str]) -> tuple[list[str], dict[str, str]]:
        """Return the layers to quantize, and why others are not or not under their own name."""
        owners = _owners(graph, layers)
        firsts = tuple(dict.fromkeys(owners.values()))
        chosen = frozenset(matching(firsts, self.include, self.exclude, step=self.name))
        untouched = {}
        for name, owner in owners.items():
            if owner != name:
                fate = "where it is treated" if owner in chosen else "which is not selected"
                untouched[name] = f"shares its weight with {owner}, {fate}"
            elif name not in chosen:
                untouched[name] = NOT_SELECTED
        return [name for name in layers if owners[name] in chosen], untouched

    def restore(self, model: nn.Module, change: Change) -> nn.Module:
        """Return a fresh model in the quantized structure; scales come from its state dict.

        Raises:
            ModelError: the model is not the one that the change was made for.
        """
        import torch

        from shrinkproof.compressors.placement import attach

        graph, layers, _ = self._prepare(model)
        places = attach(graph, QUANTIZERS, layers)
        got = {*places, *(f"{layer}.weight" for layer in layers)}
        differing = sorted(got ^ set(change.layers))
        if differing:
            raise ModelError(
                f"{self.name}: the model must be the one that was quantized, but "
                f"{len(differing)} layers or activations differ, first {differing[0]!r}; load "
                "the same architecture"
            )
        for layer in layers:
            count = int(change.layers[f"{layer}.weight"]["scales"])
            graph.get_submodule(layer).register_buffer("weight_scale", torch.ones(count))
        return graph


@dataclass(slots=True, eq=False)
class Placed:
    """A network with all its quantizers in place.

    Attributes:
        graph: the folded network.
        layers: names of the layers with quantized weights.
        places: quantizer name -> node, in graph order.
        per_tensor: layers whose weight has a single scale.
        ranges: quantizer name -> lowest and highest value it was set for.
        bits: of a weight.
        untouched: name -> why something stays as it was.
    """

    graph: fx.GraphModule
    layers: list[str]
    places: dict[str, fx.Node]
    per_tensor: set[str]
    ranges: dict[str, tuple[float, float]]
    bits: int
    untouched: Json


def cpu_needs_reduced_range(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether 8-bit products may saturate here: an x86 CPU not known to have VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    if not cpuinfo.is_file():
        return True
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return "vnni" not in flags


def quantize_weights(graph: fx.GraphModule, layers: list[str], *, bits: int, step: str) -> set[str]:
    """Put every layer's weight on an integer grid; return the layers with one scale per tensor.

    Raises:
        CompressionError: a weight is on a grid already, or is not finite.
    """
    from shrinkproof.compressors.constraint import (
        Codebook,
        FakeQuantWeight,
        ShortFloat,
        constrain,
        constraints_of,
        weight_scale,
    )

    per_tensor: set[str] = set()
    owners = _owners(graph, layers)
    shared: dict[str, FakeQuantWeight] = {}
    for name in layers:
        layer: Any = graph.get_submodule(name)
        rules = constraints_of(layer, "weight")
        if any(isinstance(rule, FakeQuantWeight | ShortFloat) for rule in rules):
            raise CompressionError(
                f"{step}: weight of {name!r} must be quantized once, it is already; "
                "remove the second quantization from the recipe"
            )
        if any(isinstance(rule, Codebook) for rule in rules):
            per_tensor.add(name)
        weight = layer.weight.detach()
        if not bool(weight.isfinite().all()):
            raise CompressionError(
                f"{step}: weight of {name!r} must be finite, got NaN or infinity; the model is "
                "broken before this step"
            )
        scale = weight_scale(weight, bits=bits, per_tensor=name in per_tensor)
        # Layers that share a weight share its grid: the weight is stored once.
        rule = shared.setdefault(owners[name], FakeQuantWeight(scale, bits=bits, axis=0))
        constrain(layer, "weight", rule, layer=name)
    return per_tensor


def _owners(graph: fx.GraphModule, layers: list[str]) -> dict[str, str]:
    """Return layer -> the first layer that holds the same weight."""
    from shrinkproof.compressors.constraint import is_constrained

    first: dict[int, str] = {}
    owners = {}
    for name in layers:
        layer: Any = graph.get_submodule(name)
        if is_constrained(layer):
            weight = layer.parametrizations.weight.original
        else:
            # A weight that is computed from other tensors is shared with nobody.
            weight = layer._parameters.get("weight", layer)
        owners[name] = first.setdefault(id(weight), name)
    return owners


def observe(
    graph: fx.GraphModule,
    places: dict[str, fx.Node],
    feed: Feed,
    step: StaticQuantization,
    context: Context,
) -> dict[str, tuple[float, float]]:
    """Run all calibration images and set every quantizer; return place -> range.

    Raises:
        CompressionError: an activation is not finite.
    """
    from shrinkproof.compressors.observers import Extremes, histogram_for, range_of

    quantizers: dict[str, Any] = {name: graph.get_submodule(name) for name in places}
    seen = {name: Extremes() for name in places}
    _watch(graph, quantizers, seen, feed, step, context)
    for name, extremes in seen.items():
        if not abs(extremes.low) + abs(extremes.high) < float("inf"):
            raise CompressionError(
                f"{step.name}: activations at {name!r} must be finite on the calibration images, "
                f"got {extremes.low:g} to {extremes.high:g}; the model is broken before this step"
            )
    counted = {name: histogram_for(step.observer, extremes) for name, extremes in seen.items()}
    if any(counted.values()):
        _watch(graph, quantizers, counted, feed, step, context)
    ranges = {name: range_of(step.observer, seen[name], counted[name]) for name in places}
    for name, (low, high) in ranges.items():
        quantizers[name].cover(low, high)
    return ranges


def _watch(
    graph: fx.GraphModule,
    quantizers: dict[str, Any],
    observers: Any,
    feed: Feed,
    step: StaticQuantization,
    context: Context,
) -> None:
    """Show every calibration image to the observers; other places quantize nothing meanwhile."""
    import torch

    from shrinkproof.compressors.observers import Extremes

    for name, quantizer in quantizers.items():
        quantizer.observer = observers.get(name) or Extremes()
    try:
        with torch.no_grad():
            for inputs, _ in feed.batches(step.batch):
                graph(inputs.to(context.device))
    finally:
        for quantizer in quantizers.values():
            quantizer.observer = None


def fit_biases(
    graph: fx.GraphModule, layers: list[str], places: dict[str, fx.Node]
) -> dict[str, int]:
    """Put biases on their integer grid; return layer -> channels whose weight scale grew for it.

    The integer unit of a bias is input scale times weight scale (Jacob et al. 2018, section 2.4).
    A channel with tiny weights and a large bias would overflow 32 bits; a wider scale costs that
    channel weights that hardly count.
    """
    import torch

    from shrinkproof.compressors.constraint import FakeQuantWeight, constraints_of
    from shrinkproof.compressors.placement import input_places

    widened: dict[str, int] = {}
    for name in layers:
        layer: Any = graph.get_submodule(name)
        inputs: list[Any] = [graph.get_submodule(p) for p in input_places(graph, name, places)]
        if layer.bias is None or not inputs:
            continue
        (rule,) = (c for c in constraints_of(layer, "weight") if isinstance(c, FakeQuantWeight))
        finest = min(float(quantizer.scale) for quantizer in inputs)
        least = layer.bias.detach().abs() / (finest * LARGEST_BIAS)
        least = least.max().reshape(1) if rule.scale.numel() == 1 else least
        count = int((least > rule.scale).sum())
        with torch.no_grad():
            if count:
                widened[name] = count
                rule.scale.copy_(torch.maximum(rule.scale, least))
            if len({float(quantizer.scale) for quantizer in inputs}) == 1:
                unit = rule.scale.double() * finest
                layer.bias.copy_((layer.bias.double() / unit).round() * unit)
    return widened


def _weight_account(layer: Any, bits: int, per_tensor: Any, widened: Any) -> Json:
    """Return what the reader should know about one quantized weight."""
    from shrinkproof.compressors.constraint import FakeQuantWeight, constraints_of

    (rule,) = (r for r in constraints_of(layer, "weight") if isinstance(r, FakeQuantWeight))
    return {
        "bits": bits,
        "scales": rule.scale.numel(),
        "per": "tensor" if per_tensor else "channel",
        "scale_low": float(rule.scale.min()),
        "scale_high": float(rule.scale.max()),
        "widened_for_bias": bool(widened),
    }


def _grid_account(quantizer: Any, low: float, high: float) -> Json:
    """Return what the reader should know about one quantized activation."""
    return {
        "scale": float(quantizer.scale),
        "zero_point": int(quantizer.zero_point),
        "low": low,
        "high": high,
    }
