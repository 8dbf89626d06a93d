"""Which layers suffer most: each one compressed alone, and how far the logits move."""

from __future__ import annotations

import functools
import glob
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from shrinkproof import randomness
from shrinkproof.compression.compressed import device_of
from shrinkproof.compression.feeds import as_feed
from shrinkproof.compression.given import checked_example, own_copy
from shrinkproof.compression.steps import as_steps
from shrinkproof.errors import CompressionError, ModelError, UsageError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Context, Feed, Needs
from shrinkproof.tasks import TASKS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shrinkproof.compression.replay import Replay

_NUMBERS: Final = 600_000
"""Input numbers of a batch; all activations of a batch are kept at once."""

_BATCH: Final = 64
"""Most images of a batch."""


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """How far the logits move when one layer alone is compressed.

    Attributes:
        layer: qualified name.
        parameters: number of its parameters.
        divergence: mean over the images of the Kullback-Leibler divergence of the compressed
            network's class probabilities from the original's, in nats; None where the layer
            cannot be compressed alone.
        largest_difference: largest absolute difference of a logit; None likewise.
        agreement: fraction of the images with the same top class; None likewise.
        reason: why the layer cannot be compressed alone; empty where it can.
    """

    layer: str
    parameters: int
    divergence: float | None = None
    largest_difference: float | None = None
    agreement: float | None = None
    reason: str = ""


def sensitivity(
    model: nn.Module,
    step: Any,
    *,
    example: Tensor,
    images: Any,
    calibration: Any = None,
    preprocess: Preprocess | None = None,
    task: str = "classification",
    seed: int = 0,
) -> tuple[LayerSensitivity, ...]:
    """Return how much each layer suffers, in the order of the network.

    The step is applied to one convolution or fully connected layer at a time, each time to a fresh
    copy, and the logits are compared with the original's. A layer that hardly moves them can be
    compressed further. The given network is not edited.

    Args:
        model: the network, in any mode, on one device.
        step: one step that selects layers by name (fields ``include`` and ``exclude``) and does
            not train: a compressor, a name, or a one-key mapping as in a study file.
        example: one preprocessed input, (1, C, H, W) float32.
        images: what the logits are compared on, in any form that `shrinkproof.compress` takes;
            their targets are not used.
        calibration: images for observers and criteria.
        preprocess: from the uint8 pixels of an `ImageSet` to network input.
        task: what the network does.
        seed: root of all random streams.

    Raises:
        SpecError: the step is not registered or a setting is wrong.
        UsageError: the step cannot be applied to one layer, or an argument is given in a form that
            cannot serve.
        DataError: images are missing, empty, or do not fit the example.
        ModelError: the network cannot be copied or run, or does not return finite logits.
        CompressionError: the step cannot be applied to any layer.
    """
    chosen = _selecting(step)
    original = own_copy(model)
    device = device_of(original)
    example = checked_example(original, example, device)
    feed = as_feed(images, "images", example, preprocess)
    if feed is None:
        raise UsageError("images: must be given, got None; the logits are compared on them")
    context = Context(
        task=TASKS.get(task).of(original),
        example=example,
        device=device,
        stream=functools.partial(randomness.stream, seed, "prepare", 0),
        calibration=as_feed(calibration, "calibration", example, preprocess),
    )
    return _Trials(original, chosen, context, feed).run()


def _selecting(step: Any) -> Any:
    """Return the one step, after checking that it can be kept to single layers."""
    steps = as_steps([step])
    if len(steps) != 1:
        names = ", ".join(found.name for found in steps)
        raise UsageError(f"step: must be one step, got {len(steps)}: {names}")
    (chosen,) = steps
    known = {f.name for f in fields(chosen)} if is_dataclass(chosen) else set()
    if not {"include", "exclude"} <= known:
        raise UsageError(
            f"step: must select layers by name, got {chosen.name}, which has no fields include "
            "and exclude; it cannot be applied to one layer alone"
        )
    if (Needs.TRAINING | Needs.VALIDATION) & chosen.needs:
        raise UsageError(
            f"step: must not train, got {chosen.name} with training; leave the training out, so "
            "that the layers are compared as they are"
        )
    return chosen


class _Trials:
    """One trial for each layer of a network.

    Args:
        original: the network, in evaluation mode.
        step: what is applied to one layer at a time.
        context: what the step may use.
        feed: what the logits are compared on.
    """

    def __init__(self, original: nn.Module, step: Any, context: Context, feed: Feed) -> None:
        self.original = original
        self.step = step
        self.context = context
        self.feed = feed
        self.size = max(1, min(_BATCH, _NUMBERS // context.example[0].numel()))
        self.problem: CompressionError | None = None
        with _without_gradients():
            self.logits = [self._logits(original(inputs)) for inputs in self._inputs()]
        if not all(bool(logits.isfinite().all()) for logits in self.logits):
            raise ModelError(
                f"{type(original).__name__}: logits must be finite, got NaN or infinity on the "
                "images; repair the weights, or the images"
            )

    def run(self) -> tuple[LayerSensitivity, ...]:
        """Compress each layer alone and measure what it does to the logits."""
        from shrinkproof.compression.replay import replaced_layers, replay_of

        layers = _weighted(self.original)
        if not layers:
            raise CompressionError(
                f"{self.step.name}: the model must have convolutions or fully connected layers, "
                f"got none in {type(self.original).__name__}"
            )
        replay = replay_of(self.original)
        targets = replay.targets if replay is not None else frozenset()
        reasons = self._left_out(layers)
        compared: dict[str, _Comparison] = {}
        replaced: dict[str, Mapping[str, nn.Module]] = {}
        for layer in [name for name in layers if name not in reasons]:
            compressed, reason = self._compress(layer)
            parts = None if compressed is None else replaced_layers(self.original, compressed)
            if compressed is None or (reason and parts == {}):
                reasons[layer] = reason
            elif parts is None or not parts.keys() <= targets:
                # Another structure is measured at once, so that one copy is held at a time.
                compared[layer] = self._compare(compressed)
            else:
                replaced[layer] = parts
        if replay is not None and replaced:
            compared |= self._compare_replaced(replay, replaced)
        if not compared and self.problem is not None:
            raise self.problem
        return tuple(
            compared[layer].row(layer, count)
            if layer in compared
            else LayerSensitivity(layer, count, reason=reasons[layer])
            for layer, count in layers.items()
        )

    def _left_out(self, layers: Mapping[str, int]) -> dict[str, str]:
        """Return the layers that the step's own patterns leave alone."""
        from shrinkproof.compressors.layers import NOT_SELECTED, matching

        wanted = matching(layers, self.step.include, self.step.exclude, step=self.step.name)
        return {layer: NOT_SELECTED for layer in layers if layer not in wanted}

    def _compress(self, layer: str) -> tuple[nn.Module | None, str]:
        """Return a copy with one layer compressed, and why it is left alone or not possible."""
        from shrinkproof.compressors.recipe import Recipe

        alone = replace(self.step, include=(glob.escape(layer),), exclude=())
        try:
            compressed, (change,) = Recipe((alone,)).apply(self.original, self.context)
        except CompressionError as error:
            said = str(error).removeprefix(f"{self.step.name}: ")
            return None, self._untouched.get(layer, said)
        return compressed, str(change.untouched.get(layer, ""))

    @functools.cached_property
    def _untouched(self) -> Mapping[str, str]:
        """What the step, applied to all its layers at once, leaves alone, and why.

        These reasons are better than the message of a step that was left without any layer.
        """
        from shrinkproof.compressors.recipe import Recipe

        try:
            _, (change,) = Recipe((self.step,)).apply(self.original, self.context)
        except CompressionError as error:
            self.problem = error
            return {}
        return {name: str(reason) for name, reason in change.untouched.items()}

    def _compare(self, module: Callable[[Tensor], Any]) -> _Comparison:
        found = _Comparison()
        with _without_gradients():
            for before, inputs in zip(self.logits, self._inputs(), strict=True):
                found.add(before, self._logits(module(inputs)))
        return found

    def _compare_replaced(
        self, replay: Replay, replaced: Mapping[str, Mapping[str, nn.Module]]
    ) -> dict[str, _Comparison]:
        found = {layer: _Comparison() for layer in replaced}
        with _without_gradients():
            for before, inputs in zip(self.logits, self._inputs(), strict=True):
                replay.record(inputs)
                for layer, parts in replaced.items():
                    found[layer].add(before, self._logits(replay.replay(parts)))
        return found

    def _inputs(self) -> Iterator[Tensor]:
        for inputs, _ in self.feed.batches(self.size):
            yield inputs.to(self.context.device)

    def _logits(self, outputs: Any) -> Tensor:
        import torch

        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
            got = tuple(outputs.shape) if hasattr(outputs, "shape") else type(outputs).__name__
            raise ModelError(
                f"{type(self.original).__name__}: must return logits (N, classes), got {got}; "
                "sensitivity compares class probabilities"
            )
        return outputs.double()


@dataclass(slots=True)
class _Comparison:
    """Sums over images of what two networks answer."""

    divergence: float = 0.0
    difference: float = 0.0
    same: int = 0
    count: int = 0

    def add(self, before: Tensor, after: Tensor) -> None:
        """Add the logits of some images, (N, classes) float64."""
        expected = before.log_softmax(1)
        found = after.log_softmax(1)
        self.divergence += float((expected.exp() * (expected - found)).sum())
        self.difference = max(self.difference, float((before - after).abs().max()))
        self.same += int((before.argmax(1) == after.argmax(1)).sum())
        self.count += len(before)

    def row(self, layer: str, parameters: int) -> LayerSensitivity:
        """Return the means; a reason where they are no numbers."""
        if not (math.isfinite(self.divergence) and math.isfinite(self.difference)):
            reason = "compressed alone, it makes logits that are not finite"
            return LayerSensitivity(layer, parameters, reason=reason)
        return LayerSensitivity(
            layer,
            parameters,
            # Rounding may leave a tiny negative number.
            divergence=max(0.0, self.divergence / self.count),
            largest_difference=self.difference,
            agreement=self.same / self.count,
        )


def _without_gradients() -> Any:
    import torch

    return torch.no_grad()


def _weighted(model: nn.Module) -> dict[str, int]:
    """Return the convolutions and fully connected layers with their numbers of parameters."""
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    return {
        name: sum(p.numel() for p in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, (_ConvNd, nn.Linear))
    }
