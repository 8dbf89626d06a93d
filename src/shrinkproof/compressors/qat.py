"""Quantization-aware training: the network learns with its integers in force."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.quantize import Placed, StaticQuantization
from shrinkproof.protocols import Compressor, Context, Needs, Role
from shrinkproof.records import Change
from shrinkproof.registry import Fraction, component, fields_of
from shrinkproof.training.settings import Training, outcome

if TYPE_CHECKING:
    from torch import nn


@component
class QuantizationAwareTraining(StaticQuantization):
    """Train the network with imitated 8-bit weights and activations, then keep them.

    Starts like ``quantize.static``: batch norms are folded, the same quantizers are put in the same
    places, and their ranges come from the calibration images. While it trains, the scale of a
    weight follows the weight in each step, the range of an activation is a moving average of the
    extremes of the batches and stays fixed for the last part, and gradients pass the rounding
    unchanged. Then all scales are fixed and biases put on their grid, so that the exported file
    holds real integers.

    Layers that ``include`` and ``exclude`` leave out stay in floating point and learn, too.

    Masked weights stay zero (PQAT), clustered ones keep their shared values, which learn on one
    integer grid per tensor (CQAT), or both (PCQAT).

    Needs: training and calibration images. Basis: simulated in PyTorch, real in the exported file.

    Attributes:
        weight_bits: bits of a weight.
        activation_bits: bits of an activation.
        observer: range of an activation before training: ``minmax``, ``percentile``, ``mse`` or
            ``entropy``, as in ``quantize.static``.
        batch: images per calibration batch; it does not change the result.
        reduce_range: use 7 of the 8 weight bits; None decides by the CPU at hand.
        include: patterns of the names of layers to treat; ``*`` stands for any text.
        exclude: patterns of the names of layers to leave alone.
        finetune: the training.
        momentum: of the moving average, 0 to 1: what a range keeps of itself in each step.
        freeze_after: part of the steps after which the ranges stay fixed, 0 to 1.

    Reference: Jacob et al. 2018, arXiv:1712.05877, section 3.
    """

    name: ClassVar[str] = "quantize.qat"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS

    finetune: Training
    momentum: Fraction = 0.99
    freeze_after: Fraction = 0.5

    @property
    def needs(self) -> Needs:
        """Calibration images, and what the training needs."""
        return Needs.CALIBRATION | self.finetune.needs

    @property
    def recovery(self) -> tuple[Compressor, ...]:
        """The same training without quantization."""
        return (FineTuning.of(self.finetune),)

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Return the trained model with imitated integers, and the scales it ended with.

        Raises:
            UnsupportedLayerError: the model cannot be traced.
            CompressionError: images are missing, nothing can be quantized, a pattern matches no
                layer, the model is quantized already, an activation or the loss is not finite, or
                everything is frozen.
        """
        from shrinkproof.compressors.constraint import average_level_gradients

        placed = self._place(model, context)
        quantizers: dict[str, Any] = {n: placed.graph.get_submodule(n) for n in placed.places}
        rules = _weight_rules(placed)
        rate = 1.0 - self.momentum if self.freeze_after else 0.0
        for name, quantizer in quantizers.items():
            quantizer.follow(*placed.ranges[name], rate)
        for rule in rules:
            rule.following = True

        def freeze(done: int, steps: int) -> None:
            if done == math.ceil(self.freeze_after * steps):
                for quantizer in quantizers.values():
                    quantizer.hold()

        history = self.finetune.run(
            placed.graph,
            context,
            adjust=average_level_gradients(placed.graph),
            each_step=freeze,
            identity=fields_of(self),
        )
        _fix_weight_scales(placed)
        placed.ranges = {name: quantizer.settle() for name, quantizer in quantizers.items()}
        images = context.training.count if context.training else 0
        change = self._settle(placed, context, images=images, **outcome(history))
        return placed.graph, change


def _weight_rules(placed: Placed) -> list[Any]:
    """Return the rules that keep the weights on their grids."""
    from shrinkproof.compressors.constraint import FakeQuantWeight, constraints_of

    layers = (placed.graph.get_submodule(name) for name in placed.layers)
    found = (rule for layer in layers for rule in constraints_of(layer))
    return [rule for rule in found if isinstance(rule, FakeQuantWeight)]


def _fix_weight_scales(placed: Placed) -> None:
    """Choose the scales of the final weights, and keep them."""
    from shrinkproof.compressors.constraint import weight_of

    for name in placed.layers:
        weight_of(placed.graph.get_submodule(name))
    for rule in _weight_rules(placed):
        rule.following = False
