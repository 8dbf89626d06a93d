"""From a checkpoint file to a filled network: read tensors, match names, check shapes."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from shrinkproof.detecting import Detector, ReadsWeights
from shrinkproof.errors import ModelError
from shrinkproof.models.architecture import Architectures, build
from shrinkproof.models.assembly import check_classes
from shrinkproof.models.reference import ModelSpec, need_input_shape

PICKLED: Final = (".pt", ".pth", ".th", ".tar")
NESTED: Final = ("state_dict", "model_state_dict", "model")
"""Names under which training scripts keep the weights inside a larger checkpoint."""

WRAPPERS: Final = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile put before every name."""

LISTED: Final = 10
OPTIONAL: Final = "num_batches_tracked"
"""A counter that evaluation never reads; converted checkpoints leave it out."""

_SAVE: Final = (
    "In the environment that made it, save only the weights: "
    "torch.save(model.state_dict(), 'weights.pt')"
)
_FOREIGN: Final = re.compile(r"GLOBAL ([\w.]+)|Unsupported class ([\w.]+)")


def read(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a checkpoint file; nothing in it is executed.

    Raises:
        ModelError: the file is corrupt or truncated, needs code to be read, is of no known kind,
            or does not hold one set of named tensors.
    """
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            _refuse_corrupt(path, error)
        return _plain(path, tensors)
    if suffix in PICKLED:
        return _plain(path, _nested(path, _unpickle(path)))
    raise ModelError(
        f"checkpoint {path}: the file name must end in .safetensors, {', '.join(PICKLED)}, got "
        f"{suffix or 'no suffix'!r}; rename or convert the file"
    )


def fill(
    source: Architectures,
    name: str,
    tensors: Mapping[str, Tensor],
    settings: ModelSpec,
    path: Path,
    roots: Mapping[str, Path],
) -> nn.Module:
    """Return the architecture with the given weights.

    The number of classes is taken from the last layer of the weights where the architecture
    would have another; a detector that can tells it itself.

    Raises:
        ModelError: names, shapes, kinds or the number of classes do not fit.
    """
    shape = need_input_shape(settings, source.arch_input_shape)
    module = build(source, name, None, roots, shape)
    tensors = _unwrapped(tensors, module)
    if isinstance(module, Detector):
        classes = settings.classes
        if isinstance(module, ReadsWeights):
            classes, tensors = module.read_weights(tensors)
        if classes is not None and classes != module.num_classes:
            check_classes(settings, classes, "the checkpoint has")
            module = build(source, name, classes, roots, shape)
    else:
        last = _last_layer(module)
        if last in tensors and tensors[last].ndim:
            found = len(tensors[last])
            check_classes(settings, found, f"the last layer of the checkpoint ({last}) has")
            if found != len(module.state_dict()[last]):
                module = build(source, name, found, roots, shape)
    _check_fit(module, tensors, f"checkpoint {path} does not fit {settings.arch!r}")
    module.load_state_dict(dict(tensors), strict=False)
    return module


def _unpickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle dialects; what matters is raised
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = _FOREIGN.search(str(error))
        if foreign is None:
            _refuse_corrupt(path, error)
        raise ModelError(
            f"checkpoint {path}: only tensors may be in it, got the Python object "
            f"{foreign[1] or foreign[2]}. Reading such a file (a whole model saved by "
            "torch.save(model), or a checkpoint with settings inside) would run arbitrary code "
            f"from it, so it is read with weights_only=True and refused. {_SAVE}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        if "TorchScript" in str(error):
            raise ModelError(
                f"checkpoint {path}: only tensors may be in it, got a TorchScript program, which "
                f"cannot be compressed. {_SAVE}"
            ) from error
        _refuse_corrupt(path, error)


def _refuse_corrupt(path: Path, error: Exception) -> NoReturn:
    # torch's text begins with the advice to load without protection, which nobody should follow.
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    detail = text.strip().splitlines()
    raise ModelError(
        f"checkpoint {path}: the file must be readable, but it is corrupt, truncated or no "
        f"checkpoint at all ({type(error).__name__}{': ' + detail[0] if detail else ''}); copy or "
        "download it again"
    ) from error


def _nested(path: Path, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ModelError(
            f"checkpoint {path}: must hold named tensors, got {type(value).__name__}. {_SAVE}"
        )
    inside = [name for name in NESTED if isinstance(value.get(name), Mapping)]
    if len(inside) > 1:
        raise ModelError(
            f"checkpoint {path}: must hold one set of weights, got {', '.join(inside)}; save the "
            "one you mean alone"
        )
    return value[inside[0]] if inside else value


def _plain(path: Path, value: Mapping[Any, Any]) -> dict[str, Tensor]:
    if not value:
        raise ModelError(f"checkpoint {path}: must hold named tensors, got none. {_SAVE}")
    strange = [
        f"{name} ({type(tensor).__name__})"
        for name, tensor in value.items()
        if not isinstance(name, str) or not isinstance(tensor, Tensor)
    ]
    if strange:
        raise ModelError(
            f"checkpoint {path}: must hold only named tensors, got {_some(strange)}. {_SAVE}"
        )
    coded = [
        f"{name} ({tensor.layout if tensor.layout != torch.strided else tensor.dtype})"
        for name, tensor in value.items()
        if tensor.is_quantized or tensor.layout != torch.strided
    ]
    if coded:
        raise ModelError(
            f"checkpoint {path}: tensors must be plain and dense, got {_some(coded)}; save the "
            "uncompressed float32 model"
        )
    return dict(value)


def _unwrapped(tensors: Mapping[str, Tensor], module: nn.Module) -> Mapping[str, Tensor]:
    own = set(module.state_dict())
    for prefix in WRAPPERS:
        is_wrapped = all(name.startswith(prefix) for name in tensors)
        if is_wrapped and not any(name.startswith(prefix) for name in own):
            return _unwrapped({k.removeprefix(prefix): v for k, v in tensors.items()}, module)
    return tensors


def _last_layer(module: nn.Module) -> str:
    """Return the name of the weight that makes the logits, empty where there is none."""
    names = [
        name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    return f"{names[-1]}.weight".removeprefix(".") if names else ""


def _check_fit(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    own = {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}
    both = [name for name in own if name in tensors]
    problems = {
        "missing in the checkpoint": [
            name for name in own if name not in tensors and not name.endswith(OPTIONAL)
        ],
        "unknown to the architecture": [name for name in tensors if name not in own],
        "of another shape": [
            f"{name} (checkpoint {tuple(tensors[name].shape)}, architecture "
            f"{tuple(own[name].shape)})"
            for name in both
            if tensors[name].shape != own[name].shape
        ],
        "of another kind": [
            f"{name} (checkpoint {tensors[name].dtype}, architecture {own[name].dtype})"
            for name in both
            if tensors[name].is_floating_point() != own[name].is_floating_point()
        ],
    }
    found = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
    if found:
        raise ModelError(
            f"{what}: every layer must have its weights. {'. '.join(found)}. "
            "Is 'arch' the network that was trained?"
        )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
