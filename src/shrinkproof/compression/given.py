"""What the caller gave: a copy of the network, and an example that it accepts."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from shrinkproof.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


def own_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the caller's network in evaluation mode."""
    from torch import nn
    from torch.nn.utils import parametrize

    if not isinstance(model, nn.Module):
        raise ModelError(f"model: must be a torch.nn.Module, got {type(model).__name__}")
    for name, layer in model.named_modules():
        if parametrize.is_parametrized(layer):
            raise ModelError(
                f"{type(model).__name__}: layers must have plain parameters, got a "
                f"parametrization in layer {name!r}; end it with "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
    try:
        original = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__}: must be copyable with copy.deepcopy, got "
            f"{type(error).__name__}: {error}. Tensors that carry gradients, locks and open files "
            "as attributes prevent it."
        ) from error
    original.zero_grad(set_to_none=True)
    return original.eval()


def checked_example(model: nn.Module, example: Any, device: Any) -> Tensor:
    """Return one input on the network's device, after running the network on it.

    Raises:
        UsageError: the example is no input.
        ModelError: the network does not accept it, or answers with NaN.
    """
    import torch

    is_input = isinstance(example, torch.Tensor) and example.ndim == 4 and len(example) > 0
    if not is_input or example.dtype != torch.float32:
        got = (
            f"{tuple(example.shape)} {str(example.dtype).removeprefix('torch.')}"
            if isinstance(example, torch.Tensor)
            else type(example).__name__
        )
        raise UsageError(
            f"example: must be one preprocessed input, (1, C, H, W) float32, got {got}"
        )
    checked: Tensor = example[:1].detach().to(device)
    try:
        with torch.no_grad():
            outputs = model(checked)
    # A caller's network may fail in any way; the cause is kept.
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__}: the network must accept the example of shape "
            f"{tuple(checked.shape)}, got {type(error).__name__}: {error}"
        ) from error
    if isinstance(outputs, torch.Tensor) and not bool(torch.isfinite(outputs).all()):
        raise ModelError(
            f"{type(model).__name__}: outputs must be finite, got NaN or infinity for the example; "
            "repair the weights, or the example"
        )
    return checked
