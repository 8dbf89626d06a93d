"""What each layer of a model costs: parameters, operations, and bytes in the packed file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from torch import Tensor, nn

from shrinkproof.artifacts.levels import distinct
from shrinkproof.artifacts.packed import Packed, patterns
from shrinkproof.artifacts.sizes import counted_operations, refuse_constrained
from shrinkproof.records import Change, Json

WHOLE: Final = "(model)"
"""Name under which the model itself stands among its layers."""


def account_of(
    module: nn.Module,
    example: Tensor,
    forms: Mapping[str, Packed],
    changes: Sequence[Change],
) -> Json:
    """Return what each layer costs, what all cost together, and what the steps reached.

    A layer is a module that has parameters or buffers of its own, or does multiplications itself.
    Every parameter, operation and byte belongs to exactly one layer, so the columns add up to the
    totals, which are those of `sizes.parameter_counts` and `sizes.macs`. A tensor that layers
    share belongs to the first; each call of a layer adds to its operations.

    Args:
        module: baked, in evaluation mode.
        example: (n, C, H, W) float32; operations are for one of its images.
        forms: how each tensor of the state dict is stored, as `packed.write_packed` returns it.
        changes: what the recipe did.

    Returns:
        ``layers`` (name -> ``kind``, ``parameters``, ``nonzero``, ``macs``, ``bytes_dense``,
        ``bytes_packed``, and per tensor ``shape``, ``form``, ``bits``, ``zeros`` and
        ``distinct``, None where there are more than 4,096), ``totals`` and ``steps``.

    Raises:
        ModelError: constraints are still attached.
    """
    refuse_constrained(module)
    macs = macs_by_layer(module, example)
    layers: dict[str, Json] = {}
    seen: dict[int, str] = {}
    for name, layer in module.named_modules():
        own = _own_tensors(layer)
        if own or macs.get(name):
            layers[name or WHOLE] = _layer(name, layer, own, forms, seen, macs.get(name, 0))
    columns = ("parameters", "nonzero", "macs", "bytes_dense", "bytes_packed")
    totals = {column: sum(entry[column] for entry in layers.values()) for column in columns}
    steps = [
        {"step": change.step, "requested": change.requested, "achieved": change.achieved}
        for change in changes
    ]
    return {"layers": layers, "totals": totals, "steps": steps}


def macs_by_layer(module: nn.Module, example: Tensor) -> dict[str, int]:
    """Return the multiply-accumulates of one image that each module does itself, by its name.

    What a module lets its children do is theirs; what they do several times counts each time. The
    sum is `sizes.macs`.
    """
    with counted_operations() as counter:
        found = _spent(module, example, counter.get_total_flops)
    # The counter takes a multiplication and an addition for two operations.
    return {name: flops // (2 * len(example)) for name, flops in found.items() if flops}


def _spent(module: nn.Module, example: Tensor, count: Callable[[], int]) -> dict[str, int]:
    """Return what the count grows by in each module itself, by its name."""
    found: dict[str, int] = {}
    inner: list[int] = []
    started: list[int] = []

    def enter(_module: nn.Module, _inputs: object) -> None:
        inner.append(0)
        started.append(count())

    def leave(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, _outputs: object) -> None:
            spent = count() - started.pop()
            found[name] = found.get(name, 0) + spent - inner.pop()
            if inner:
                inner[-1] += spent

        return hook

    handles = []
    for name, layer in module.named_modules():
        handles.append(layer.register_forward_pre_hook(enter))
        handles.append(layer.register_forward_hook(leave(name)))
    try:
        module(example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _own_tensors(layer: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and saved buffers that a module holds itself."""
    return dict(_named(layer))


def _named(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in layer._parameters.items():
        if parameter is not None:
            yield name, parameter
    for name, buffer in layer._buffers.items():
        if buffer is not None and name not in layer._non_persistent_buffers_set:
            yield name, buffer


def _layer(
    name: str,
    layer: nn.Module,
    own: Mapping[str, Tensor],
    forms: Mapping[str, Packed],
    seen: dict[int, str],
    macs: int,
) -> Json:
    tensors: dict[str, Json] = {}
    entry: Json = {"kind": type(layer).__name__, "parameters": 0, "nonzero": 0, "macs": macs}
    entry |= {"bytes_dense": 0, "bytes_packed": 0, "tensors": tensors}
    for key, tensor in own.items():
        full = f"{name}.{key}".lstrip(".")
        owner = seen.setdefault(id(tensor), full)
        if owner != full:
            tensors[key] = {"same": owner}
            continue
        form = forms[full]
        tensors[key] = _tensor(tensor, form)
        entry["bytes_dense"] += tensor.numel() * tensor.element_size()
        entry["bytes_packed"] += form.bytes
        if isinstance(tensor, nn.Parameter):
            entry["parameters"] += tensor.numel()
            entry["nonzero"] += tensor.numel() - tensors[key]["zeros"]
    return entry


def _tensor(tensor: Tensor, form: Packed) -> Json:
    # Adding zero turns -0.0 into 0.0, which is one value, and not two.
    levels = distinct(patterns(tensor + 0))
    return {
        "shape": list(tensor.shape),
        "zeros": tensor.numel() - int(tensor.detach().count_nonzero()),
        "distinct": None if levels is None else len(levels),
        "form": form.form,
        "bits": form.bits,
    }
