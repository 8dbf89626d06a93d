"""Proof that removing channels did what silencing them does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode

from shrinkproof.compressors.coupling.state import tensors_in
from shrinkproof.errors import CompressionError

TOLERANCE: Final = 1e-4
"""Largest difference that rounding may make, as a part of the largest value of the tensor."""

_DEPENDS_ON_DATA: Final = frozenset(
    {"nonzero", "masked_select", "topk", "sort", "argsort", "unique", "_unique2", "nms", "propose"}
)
"""Operations whose result has a shape or an order that rounding can change."""


@dataclass
class Run:
    """What one run of a model gave.

    Attributes:
        outputs: all tensors that the model returned, in order.
        calls: name and output of each convolution and fully connected layer, channels on axis 1,
            in the order of the calls.
        certain: calls before the first operation whose result depends on the data; all of them
            where there is none.
        is_certain: whether there was none, so that outputs can be compared, too.
    """

    outputs: list[Tensor] = field(default_factory=list)
    calls: list[tuple[str, Tensor]] = field(default_factory=list)
    certain: int = 0
    is_certain: bool = True


class _Watch(TorchDispatchMode):
    """Note when the first operation runs whose result depends on the data."""

    def __init__(self, run: Run) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run = run

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition("::")[2].partition(".")[0]
        if self.run.is_certain and (name in _DEPENDS_ON_DATA or _picks(name, args)):
            self.run.is_certain = False
            self.run.certain = len(self.run.calls)
        return func(*args, **(kwargs or {}))


def _picks(name: str, args: Any) -> bool:
    """Return whether an operation picks elements by a mask."""
    if name != "index" or len(args) < 2:
        return False
    return any(isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1])


def probe_of(example: Tensor, device: torch.device | str) -> Tensor:
    """Return one input that shows differences: the example, which may be all zeros, plus noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(example[:1].shape, generator=generator)
    return (example[:1].cpu() + noise).to(device)


def run(model: nn.Module, layers: Mapping[str, Any], inputs: Tensor) -> Run:
    """Run a model and keep what its outputs and weighted layers gave.

    Raises:
        CompressionError: it does not run; the message names the innermost module.
    """
    found = Run()
    inside: list[str] = []
    try:
        with torch.no_grad(), _recording(model, layers, found, inside), _Watch(found):
            result = model(inputs)
    # Foreign code fails in any way; the place is what the reader needs.
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise CompressionError(
            f"prune.channels: the network must run without the removed channels, got "
            f"{type(error).__name__} in {inside[-1] if inside else 'the model itself'}: "
            f"{lines[0] if lines else 'no message'}. Usually a number of channels is written "
            "into its code; add the layers before it to `exclude`"
        ) from error
    if found.is_certain:
        found.certain = len(found.calls)
    found.outputs = list(tensors_in(result))
    return found


@contextmanager
def _recording(
    model: nn.Module, layers: Mapping[str, Any], into: Run, inside: list[str]
) -> Iterator[None]:
    """Keep the outputs of layers, and the names of the modules that are running."""
    handles = []

    def enter(name: str) -> Any:
        return lambda module, inputs: inside.append(name)  # noqa: ARG005

    def leave(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
            inside.pop()
            if name in layers and isinstance(module, (_ConvNd, nn.Linear)):
                # Cloned, because an activation behind it may work in place.
                into.calls.append((name, _channels_second(module, output.detach().clone())))

        return hook

    try:
        for name, module in model.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(enter(name)))
                handles.append(module.register_forward_hook(leave(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _channels_second(layer: nn.Module, output: Tensor) -> Tensor:
    """Return the output of a layer with its channels on axis 1, wherever the layer has them."""
    last = -1 - len(layer.kernel_size) if isinstance(layer, _ConvNd) else -1
    return output.movedim(last, 1)


def difference(silenced: Run, cut: Run, kept: Mapping[str, NDArray[np.int64]]) -> float:
    """Return the largest difference between a silenced and a cut model.

    Compared are the outputs of all weighted layers that run before the first operation whose
    result depends on the data (the boxes of a detector after sorting), and the model's outputs
    where there is no such operation. Every difference counts as a part of the largest value of
    the tensor that it is found in, so that a signal far below a bias is compared, too.

    Args:
        silenced: run of the model whose removed channels are zero.
        cut: run of the model without them.
        kept: weighted layer -> positions of the output channels that are left.

    Raises:
        CompressionError: they differ; the message names the first layer that does.
    """
    worst = 0.0
    for (name, before), (_, after) in zip(
        silenced.calls[: silenced.certain], cut.calls, strict=False
    ):
        index = torch.from_numpy(kept[name]).to(before.device)
        found = _distance(before.index_select(1, index), after)
        if not found <= TOLERANCE:
            raise CompressionError(
                f"{_RULE}, got a difference of {found:.3g} of the largest value from layer "
                f"{name!r} on. Usually an operation before it works across channels (a "
                f"normalization, a softmax); add the layers before {name!r} to `exclude`"
            )
        worst = max(worst, found)
    if not silenced.is_certain:
        return worst
    pairs = zip(silenced.outputs, cut.outputs, strict=False)
    far = max((_distance(before, after) for before, after in pairs), default=0.0)
    if len(silenced.outputs) != len(cut.outputs) or not far <= TOLERANCE:
        raise CompressionError(
            f"{_RULE}, got other outputs (by {far:.3g} of the largest value) although all "
            "convolutions and fully connected layers agree. Usually an operation behind the last "
            "one counts channels; add the layers before the output to `exclude`"
        )
    return max(worst, far)


_RULE: Final = (
    "prune.channels: the pruned network must give what the network with silent channels gives"
)


def _distance(expected: Tensor, got: Tensor) -> float:
    """Return the largest difference as a part of the largest value; infinity for other shapes."""
    if expected.shape != got.shape:
        return math.inf
    if not expected.numel() or torch.equal(expected, got):
        return 0.0
    largest = float(expected.double().abs().max())
    far = float((expected.double() - got.double()).abs().max())
    return far / largest if largest else math.inf
