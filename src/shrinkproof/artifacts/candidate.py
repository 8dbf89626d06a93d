"""A candidate on disk: weights, changes, identity and exported file; written and loaded again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shrinkproof.errors import ModelError
from shrinkproof.records import Candidate, Change

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shrinkproof.artifacts.export import ExportReport

WEIGHTS: Final = "weights.safetensors"
PACKED: Final = "weights.packed.safetensors"
CHANGES: Final = "changes.json"
RECIPE: Final = "recipe.json"
LAYERS: Final = "layers.json"
NETWORK: Final = "model.onnx"


def write_candidate(
    directory: Path,
    *,
    module: nn.Module,
    changes: Sequence[Change],
    candidate: Candidate,
    example: Tensor,
) -> ExportReport:
    """Write everything that reloads a candidate without its recipe's data.

    ``weights.safetensors`` (state dict), ``weights.packed.safetensors`` (the same numbers in the
    fewest bytes), ``changes.json``, ``layers.json`` (what each layer costs), ``recipe.json`` (the
    candidate) and ``model.onnx``, the user's own file where the model came as one. Each file is
    written whole or not at all, ``recipe.json`` last; equal candidates give equal bytes.

    Args:
        directory: made where it is missing.
        module: the model after its recipe, baked, in evaluation mode.
        changes: what the recipe did, in order.
        candidate: who it is.
        example: (n, C, H, W) float32 input.

    Returns:
        What was exported.

    Raises:
        ExportError: a file cannot be written, the model cannot be exported, or its weights do not
            come back from their packed form.
    """
    from shrinkproof.artifacts.export import export_onnx
    from shrinkproof.artifacts.proto import write_bytes
    from shrinkproof.models.onnx_network import OnnxNetwork

    _write_twin(directory, module, changes, example)
    if isinstance(module, OnnxNetwork):
        report = _copied(module.path, directory / NETWORK)
    else:
        report = export_onnx(module, example, directory / NETWORK, changes=changes)
    write_bytes(directory / RECIPE, _as_bytes(candidate.as_json()))
    return report


def _copied(source: Path, path: Path) -> ExportReport:
    """Copy a file that was exported elsewhere."""
    from shrinkproof.artifacts.export import ExportReport
    from shrinkproof.artifacts.proto import write_bytes

    write_bytes(path, source.read_bytes())
    return ExportReport(
        path=path,
        bytes=path.stat().st_size,
        integers=(),
        weight_only=(),
        packed=(),
        notes=("exported elsewhere, and copied as it is",),
        difference=0.0,
    )


def write_without_file(
    directory: Path,
    *,
    module: nn.Module,
    changes: Sequence[Change],
    candidate: Candidate,
    example: Tensor,
) -> None:
    """Write what `write_candidate` writes, without the exported file.

    Raises:
        ExportError: a file cannot be written, or the weights do not come back from their packed
            form.
    """
    from shrinkproof.artifacts.proto import write_bytes

    # An export that failed while it compared the file with the model has left one.
    (directory / NETWORK).unlink(missing_ok=True)
    _write_twin(directory, module, changes, example)
    write_bytes(directory / RECIPE, _as_bytes(candidate.as_json()))


def _write_twin(
    directory: Path, module: nn.Module, changes: Sequence[Change], example: Tensor
) -> None:
    """Write the weights, dense and packed, what happened to them, and what each layer costs."""
    import safetensors.torch

    from shrinkproof.artifacts.account import account_of
    from shrinkproof.artifacts.packed import write_packed
    from shrinkproof.artifacts.proto import write_bytes

    state = {name: t.detach().cpu() for name, t in module.state_dict().items()}
    # Shared tensors are written once per name: a state dict has both names, too.
    copies = {name: t.clone().contiguous() for name, t in state.items()}
    write_bytes(directory / WEIGHTS, safetensors.torch.save(copies))
    forms = write_packed(directory / PACKED, state)
    write_bytes(directory / LAYERS, _as_bytes(account_of(module, example, forms, changes)))
    write_bytes(directory / CHANGES, _as_bytes([change.as_json() for change in changes]))


def _as_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_changes(directory: Path) -> tuple[Change, ...]:
    """Return what the recipe of a stored candidate did, in order.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = directory / CHANGES
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return tuple(_checked(Change.from_json(value)) for value in values)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path}: must be the changes of a candidate, got {type(error).__name__}: {error}; "
            "make the candidate again"
        ) from error


def _checked(change: Change) -> Change:
    """Return a change, or refuse it where what restoring reads is of another type."""
    if not isinstance(change.step, str):
        raise TypeError(f"step must be a text, got {change.step!r}")
    for name in ("fields", "layers", "structure"):
        if not isinstance(getattr(change, name), dict):
            raise TypeError(f"{name} must be a mapping, got {getattr(change, name)!r}")
    return change


def load_candidate(directory: Path, fresh: nn.Module, *, packed: bool | None = None) -> nn.Module:
    """Return the stored model, bit for bit, in evaluation mode.

    Args:
        directory: written by `write_candidate`.
        fresh: the model the recipe started from; copied, never edited, its weights do not matter.
        packed: whether to read the packed weights; None for the dense ones where they are there.

    Raises:
        ModelError: a file is missing or damaged, or the weights do not fit the architecture.
    """
    from shrinkproof.compressors.recipe import Recipe

    changes = read_changes(directory)
    module: nn.Module = Recipe().restore(fresh, changes)
    use_packed = not (directory / WEIGHTS).is_file() if packed is None else packed
    path = directory / (PACKED if use_packed else WEIGHTS)
    state = _read_weights(path)
    problems = _misfits(module.state_dict(), state)
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" * (len(problems) > 5))
        raise ModelError(
            f"{path}: the weights must fit the model the recipe started from, got "
            f"{shown}. Load the same architecture, with the same number of classes."
        )
    module.load_state_dict(state, strict=True)
    return module.eval()


def _read_weights(path: Path) -> dict[str, Tensor]:
    import safetensors
    import safetensors.torch

    if path.name == PACKED:
        from shrinkproof.artifacts.packed import read_packed

        return read_packed(path)
    try:
        state: dict[str, Tensor] = safetensors.torch.load(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            f"{path}: must be the weights of a candidate, got {type(error).__name__}: {error}; "
            "make the candidate again"
        ) from error
    return state


def _misfits(expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """Return one line per tensor that is missing, unexpected, or of another shape."""
    lines = [f"{name} is missing" for name in expected if name not in got]
    lines += [f"{name} is unexpected" for name in got if name not in expected]
    lines += [
        f"{name} has shape {tuple(got[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in got and got[name].shape != tensor.shape
    ]
    return lines
