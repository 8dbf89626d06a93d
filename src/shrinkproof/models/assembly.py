"""What every source does last: check a network and put it together with its settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from shrinkproof.detecting import Detections, Detector
from shrinkproof.errors import ModelError
from shrinkproof.models.loaded import LoadedModel, Preprocess
from shrinkproof.models.reference import ModelSpec
from shrinkproof.randomness import torch_seed


@contextmanager
def drawn(*parts: object) -> Iterator[None]:
    """Draw the weights of networks built inside from named parts, not from the global state."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch_seed("model weights", *parts))
        yield


def assemble(
    module: object,
    settings: ModelSpec,
    *,
    preprocess: Preprocess,
    input_shape: tuple[int, int, int],
    fingerprint: str,
) -> LoadedModel:
    """Return a checked model: finite weights, and finite logits (1, C) for one blank input.

    Args:
        module: the network with its weights; it is put into evaluation mode, float32, on the CPU.
        settings: the model's settings.
        preprocess: from uint8 images to its input.
        input_shape: (C, H, W) of one input.
        fingerprint: identity of the model.

    Raises:
        ModelError: the network is none, its weights or logits are not finite, it does not accept
            the input, or its classes are not as many as the settings say.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"model {settings.use!r}: must be a torch.nn.Module, got {type(module).__name__}"
        )
    module = module.to("cpu", torch.float32).eval()
    check_finite(module, settings.use)
    if isinstance(module, Detector):
        num_classes = _classes_of_detector(module, settings.use, input_shape)
        if preprocess.size is None:
            preprocess = replace(preprocess, size=input_shape[1:])
    else:
        num_classes = _logits(module, settings.use, input_shape).shape[1]
    check_classes(settings, num_classes, "the network has")
    return LoadedModel(
        module=module,
        preprocess=preprocess,
        input_shape=input_shape,
        num_classes=num_classes,
        fingerprint=fingerprint,
        seen=settings.seen,
    )


def _classes_of_detector(module: Detector, model: str, input_shape: tuple[int, int, int]) -> int:
    """Return the number of classes, after one blank image has gone through network and rule."""
    assert isinstance(module, nn.Module), "a network was given"
    outputs = _outputs(module, model, input_shape)
    if not isinstance(outputs, Tensor) or not outputs.ndim or len(outputs) != 1:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ModelError(
            f"model {model!r}: a detector must return one tensor (n, ...), that is (1, ...) for "
            f"one image, got {got}; let forward return the numbers before boxes are chosen, and "
            "decode choose them"
        )
    if not torch.isfinite(outputs).all():
        raise ModelError(
            f"model {model!r}: outputs must be finite, got NaN or infinity for a blank image "
            "although all weights are finite; is a running variance negative?"
        )
    try:
        found = module.decode(outputs.numpy())
    # A user's rule may fail in any way; the cause is kept.
    except Exception as error:
        raise ModelError(
            f"model {model!r}: decode must make boxes of the network's output "
            f"{tuple(outputs.shape)}, got {type(error).__name__}: {error}"
        ) from error
    if len(found) != 1 or not isinstance(found[0], Detections):
        raise ModelError(
            f"model {model!r}: decode must return one Detections for each image, got "
            f"{type(found).__name__} of length {len(found)}"
        )
    return module.num_classes


def check_classes(settings: ModelSpec, found: int, where: str) -> None:
    """Check that the settings say as many classes as were found, or nothing.

    Raises:
        ModelError: the numbers differ.
    """
    if settings.classes is not None and settings.classes != found:
        raise ModelError(
            f"model {settings.use!r}: 'classes' must be the number of logits; the study says "
            f"{settings.classes}, {where} {found}. Correct 'classes', or leave it out"
        )


def check_finite(module: nn.Module, model: str) -> None:
    """Check that every weight and buffer is finite.

    Raises:
        ModelError: one is not, or has no value yet; names it.
    """
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            continue
        if is_lazy(tensor):
            raise ModelError(
                f"model {model!r}: every weight needs a value, but {name} waits for a first "
                "input; run the network once before returning it"
            )
        bad = int(tensor.numel() - torch.isfinite(tensor).sum())
        if bad:
            raise ModelError(
                f"model {model!r}: weights must be finite, got NaN or infinity in {bad} of "
                f"{tensor.numel()} values of {name}; the training that made them has diverged, "
                "use an earlier checkpoint"
            )


def _outputs(module: nn.Module, model: str, input_shape: tuple[int, int, int]) -> object:
    try:
        with torch.no_grad():
            return module(torch.zeros(1, *input_shape))
    # A user's network may fail in any way; the cause is kept.
    except Exception as error:
        raise ModelError(
            f"model {model!r}: the network must accept an input of shape (1, C, H, W) = "
            f"{(1, *input_shape)}, got {type(error).__name__}: {error}. Is 'input_shape' right?"
        ) from error


def _logits(module: nn.Module, model: str, input_shape: tuple[int, int, int]) -> Tensor:
    logits = _outputs(module, model, input_shape)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"model {model!r}: the network must return logits (N, C), that is (1, C) for one "
            f"image, got {got}; wrap it so that it returns only the logits"
        )
    if logits.shape[1] < 2:
        raise ModelError(
            f"model {model!r}: the network must return one logit per class, at least 2, got "
            f"{logits.shape[1]}; give a two-class network two logits"
        )
    if not torch.isfinite(logits).all():
        raise ModelError(
            f"model {model!r}: logits must be finite, got NaN or infinity for a blank image "
            "although all weights are finite; is a running variance negative, or an input "
            "scale wrong?"
        )
    return logits
