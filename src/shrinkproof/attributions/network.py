"""Running a network to look inside: it comes back as it was, and so does everybody else's run.

Autograd is off until the layer of interest has spoken: nothing is recorded for the layers before
it, which is what makes a Grad-CAM cheaper than a training step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.attributions.images import check_finite, check_logits
from shrinkproof.errors import ModelError, UsageError
from shrinkproof.protocols import Explained

if TYPE_CHECKING:
    from torch import Tensor, nn

# Hooks belong to a network and not to one run of it, so runs that hook take turns.
_TURN: Final = threading.RLock()


def network_of(method: str, subject: Explained) -> nn.Module:
    """Return the network of a candidate.

    Raises:
        UsageError: only its predictions can be had.
    """
    if subject.module is None:
        raise UsageError(
            f"{method}: the candidate must be a PyTorch network, got one that only predicts; use "
            "occlusion or rise"
        )
    return subject.module


@contextmanager
def quiet(module: nn.Module) -> Iterator[None]:
    """Run a network in evaluation mode and without autograd; restore its training mode."""
    import torch

    training = [part for part in module.modules() if part.training]
    with _TURN, torch.inference_mode(mode=False), torch.no_grad():
        try:
            # The flags themselves: `train` and `eval` may be overridden and do more.
            for part in training:
                part.training = False
            yield
        finally:
            for part in training:
                part.training = True


def as_tensor(module: nn.Module, inputs: NDArray[np.float32]) -> Tensor:
    """Return inputs where the network lives."""
    import torch

    place = next((p.device for p in module.parameters()), torch.device("cpu"))
    return torch.from_numpy(np.ascontiguousarray(inputs)).to(place)


def as_array(values: Tensor) -> NDArray[np.float32]:
    """Return values as float32 in numpy."""
    return np.asarray(values.detach().float().cpu().numpy())


def activations(method: str, module: nn.Module, layer: str, inputs: NDArray[np.float32]) -> Tensor:
    """Return the output of a layer, (n, channels, h, w); of its last call in a run.

    Raises:
        UsageError: the layer is not called, or its output is not spatial.
        DataError: the network's output is not finite.
    """
    import torch

    with quiet(module), _tapped(module, layer, is_leaf=False) as found:
        output = module(as_tensor(module, inputs))
        activation = _only(found, layer)
        if isinstance(output, torch.Tensor):
            check_finite(method, as_array(output))
    return activation


def activations_and_gradients(
    method: str,
    module: nn.Module,
    layer: str,
    inputs: NDArray[np.float32],
    target: NDArray[np.int64],
) -> tuple[Tensor, Tensor]:
    """Return the output of a layer and how the logit of each image's class changes with it.

    Both (n, channels, h, w). One run forward and a part of one backward for the whole batch: the
    logits of different images do not depend on each other in evaluation mode.

    Raises:
        UsageError: the layer is not called, not spatial, or does not lead to the logits.
        DataError: the network's output is no finite logits of these classes.
    """
    activation, (gradient,) = activations_and_slopes(
        module, layer, inputs, lambda logits: [_logits_of(method, logits, target).sum()]
    )
    return activation, gradient


def activations_and_slopes(
    module: nn.Module,
    layer: str,
    inputs: NDArray[np.float32],
    chosen: Callable[[Tensor], Sequence[Tensor]],
    what: str = "the logits",
) -> tuple[Tensor, list[Tensor]]:
    """Return the output of a layer and how several numbers of the network change with it.

    All (n, channels, h, w). One run forward, and for each number a part of one backward.

    Args:
        module: the network.
        layer: name of the layer.
        inputs: (n, C, H, W).
        chosen: makes the numbers, scalars, of the network's output.
        what: these numbers, for messages.

    Raises:
        UsageError: the layer is not called, not spatial, or does not lead to the numbers.
    """
    import torch

    with quiet(module), _tapped(module, layer, is_leaf=True) as found:
        output = module(as_tensor(module, inputs))
        activation = _only(found, layer)
        numbers = chosen(output)
        gradients: list[Tensor | None] = []
        for place, number in enumerate(numbers, start=1):
            gradient: Tensor | None = None
            if number.requires_grad:
                (gradient,) = torch.autograd.grad(
                    number, activation, allow_unused=True, retain_graph=place < len(numbers)
                )
            gradients.append(gradient)
    known = [gradient for gradient in gradients if gradient is not None]
    if len(known) < len(gradients):
        raise UsageError(f"layer {layer!r}: must lead to {what}, got no gradient; name another")
    return activation.detach(), known


def input_gradients(
    method: str, module: nn.Module, inputs: NDArray[np.float32], target: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return how the logit of each image's class changes with its input, (n, C, H, W).

    Raises:
        DataError: the network's output is no finite logits of these classes.
        ModelError: the network passes no gradient.
    """
    import torch

    with quiet(module), torch.enable_grad():
        values = as_tensor(module, inputs).requires_grad_()
        # A copy, because the first layer may write into what it is given.
        chosen = _logits_of(method, module(values.clone()), target)
        if not chosen.requires_grad:
            raise ModelError(f"{method}: the network must pass gradients to its input, got none")
        (gradient,) = torch.autograd.grad(chosen.sum(), values)
    return as_array(gradient)


def is_bypassed(module: nn.Module, layer: str, call: int, inputs: NDArray[np.float32]) -> bool:
    """Return whether the output depends on the inputs by ways around one call of a layer.

    Autograd tells: with the layer's output taken for a constant, no gradient reaches the inputs
    of a network in which every way goes through the layer.

    Args:
        module: the network.
        layer: name of the layer.
        call: which call of the layer in a run, from 1.
        inputs: (n, C, H, W).

    Raises:
        ModelError: the network's output is no tensor.
    """
    import torch

    owner = threading.get_ident()
    calls: list[str] = []

    def cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        if threading.get_ident() != owner:
            return None  # somebody else's run of the same network
        calls.append(layer)
        return output.detach().clone() if len(calls) == call else None

    with quiet(module), torch.enable_grad():
        values = as_tensor(module, inputs).requires_grad_()
        handle = module.get_submodule(layer).register_forward_hook(cut)
        try:
            output = module(values.clone())
        finally:
            handle.remove()
        if not isinstance(output, torch.Tensor):
            raise ModelError(
                f"heat maps: the network must give logits, got {type(output).__name__}"
            )
        if not output.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(output.sum(), values, allow_unused=True)
    return gradient is not None


def _logits_of(method: str, logits: Any, target: NDArray[np.int64]) -> Tensor:
    import torch

    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else ()
    check_logits(method, shape, target)
    check_finite(method, as_array(logits))
    picked: Tensor = logits.gather(1, torch.from_numpy(target).to(logits.device)[:, None])
    return picked


@contextmanager
def _tapped(module: nn.Module, layer: str, *, is_leaf: bool) -> Iterator[list[Tensor]]:
    """Keep the output of a layer; as a leaf, autograd records everything that follows from it."""
    import torch

    owner = threading.get_ident()
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
        if threading.get_ident() != owner:
            return None  # somebody else's run of the same network
        _check_spatial(layer, output)
        # A copy, because the next layer may write into it.
        kept = output.detach().clone()
        # A module that is used several times speaks several times; its last word counts.
        found[:] = [kept]
        if not is_leaf:
            return None
        kept.requires_grad_()
        torch.set_grad_enabled(True)  # until `quiet` ends
        copied: Tensor = kept.clone()
        return copied

    handle = module.get_submodule(layer).register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def _check_spatial(layer: str, output: Any) -> None:
    import torch

    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise UsageError(
            f"layer {layer!r}: its output must be spatial, (n, channels, h, w), got {got}; name a "
            "layer before the pooling"
        )


def _only(found: list[Tensor], layer: str) -> Tensor:
    if not found:
        raise UsageError(
            f"layer {layer!r}: must be called when the network runs, got no call; name a layer "
            "inside or behind it"
        )
    return found[0]
