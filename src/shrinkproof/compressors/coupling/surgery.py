"""Removing classes of channels: as zeros, for real, and once more without data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from shrinkproof.compressors.constraint import Codebook, Mask, constraints_of
from shrinkproof.compressors.coupling import pads
from shrinkproof.compressors.coupling.coupled import Axis, Coupling
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.records import Json

STEP = "prune.channels"


def silence(model: nn.Module, coupling: Coupling, removed: NDArray[np.bool_]) -> None:
    """Set all parameters at removed positions to zero, in place: the masked model.

    What removed channels hold then reaches nothing that stays, because the weights that read
    them are zero. Buffers stay as they are: a variance of zero could divide by zero.

    Raises:
        CompressionError: a class is locked, an axis would be empty, or a layer has a codebook or
            a quantizer.
        ModelError: the model is not the one that was coupled.
    """
    _check(coupling, removed)
    tensors = _Tensors(model)
    with torch.no_grad():
        for axis, classes in coupling.axes.items():
            gone = np.flatnonzero(removed[classes])
            if gone.size:
                tensor = tensors.named(axis, classes.size)
                if isinstance(tensor, nn.Parameter):
                    index = torch.from_numpy(gone).to(tensor.device)
                    tensor.index_fill_(axis.dim, index, 0.0)


def cut(model: nn.Module, coupling: Coupling, removed: NDArray[np.bool_]) -> Json:
    """Remove classes of channels for real, in place.

    Args:
        model: the network that was coupled, or a copy; masks on its weights are cut too.
        coupling: its coupling.
        removed: (classes,) bool.

    Returns:
        What ``cut_again`` needs to repeat it. ``cuts``: kept positions, and the axes
        (``tensor:dim``) that keep them; ``pads``: calls that add channels of zeros.

    Raises:
        CompressionError: a class is locked, an axis would be empty, or a layer has a codebook or
            a quantizer.
        ModelError: the model is not the one that was coupled.
    """
    _check(coupling, removed)
    account = _account(coupling, removed)
    cut_again(model, account)
    return account


def cut_again(model: nn.Module, account: Mapping[str, Any]) -> None:
    """Repeat a cut on a fresh model of the same architecture, in place and without data.

    Raises:
        CompressionError: a layer has a codebook or a quantizer.
        ModelError: the model does not have the tensors and sizes that the account names.
    """
    tensors = _Tensors(model)
    new: dict[int, Tensor] = {}
    for entry in account["cuts"]:
        kept = torch.tensor(entry["kept"], dtype=torch.int64)
        for text in entry["axes"]:
            axis = Axis.parse(text)
            old = tensors.named(axis, entry["size"])
            for part in (old, *tensors.masks_of(old)):
                present = new.get(id(part), part.detach())
                new[id(part)] = present.index_select(axis.dim, kept.to(part.device))
    edits = [pads.Edit.of(entry) for entry in account["pads"]]
    for edit in edits:
        pads.check(model, edit)
    for holder in tensors.holders:
        holder.replace(new)
    for edit in edits:
        pads.apply(model, edit)


def _check(coupling: Coupling, removed: NDArray[np.bool_]) -> None:
    """Refuse a removal that cannot work."""
    empty = coupling.emptied(removed)
    fixed = [k for k in np.flatnonzero(removed).tolist() if k in coupling.locked]
    if fixed:
        names = sorted({a.tensor for a, c in coupling.axes.items() if np.isin(fixed, c).any()})
        raise CompressionError(
            f"{STEP}: removed channels must be free to go, got {len(fixed)} that are not "
            f"({', '.join(names[:3])}: {coupling.locked[fixed[0]]}); leave them out"
        )
    if empty:
        raise CompressionError(
            f"{STEP}: at least one channel of every layer must stay, got none for "
            f"{', '.join(axis.tensor for axis in empty[:3])}; remove fewer channels"
        )


def _account(coupling: Coupling, removed: NDArray[np.bool_]) -> Json:
    cuts: dict[tuple[int, bytes], Json] = {}
    for axis, classes in coupling.axes.items():
        kept = np.flatnonzero(~removed[classes])
        if kept.size < classes.size:
            entry = {"size": int(classes.size), "kept": kept.tolist(), "axes": []}
            cuts.setdefault((classes.size, kept.tobytes()), entry)["axes"].append(str(axis))
    sites = []
    for pad in coupling.pads:
        before = [pad.before.size, pad.after.size]
        after = [int((~removed[pad.before]).sum()), int((~removed[pad.after]).sum())]
        if before != after:
            place: Json = {"module": pad.module, "pair": pad.pair, "ordinal": pad.ordinal}
            sites.append({**place, "before": before, "after": after})
    # Calls are counted without those that add nothing, so later ones are edited first.
    return {"cuts": list(cuts.values()), "pads": sites[::-1]}


@dataclass(slots=True)
class _Holder:
    """One module and the tensors it holds: its own, and those under our masks."""

    module: nn.Module
    prefix: str
    originals: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, list[Mask]] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the name of each tensor as the network knows it, and the tensor."""
        own: Iterable[tuple[str, Tensor | None]] = (
            *self.module._parameters.items(),
            *self.module._buffers.items(),
        )
        for name, tensor in (*own, *self.originals.items()):
            if tensor is not None:
                yield f"{self.prefix}.{name}" if self.prefix else name, tensor

    def replace(self, new: dict[int, Tensor]) -> None:
        """Exchange tensors for their cut versions, and correct the sizes that modules state."""
        before = _weight_shape(self)
        changed = False
        for name, tensor in list(self.items()):
            if id(tensor) in new:
                self._set(name.removeprefix(f"{self.prefix}."), tensor, new)
                changed = True
        if changed:
            _correct_sizes(self.module, before, _weight_shape(self))

    def _set(self, name: str, old: Tensor, new: dict[int, Tensor]) -> None:
        value = _as_parameter(old, new) if isinstance(old, nn.Parameter) else new[id(old)]
        if name in self.originals:
            chain: Any = self.module.parametrizations[name]  # type: ignore[index]
            chain.original = self.originals[name] = value
            for mask in self.masks[name]:
                mask.mask = new[id(mask.mask)]
        elif isinstance(value, nn.Parameter):
            self.module._parameters[name] = value
        else:
            self.module._buffers[name] = value


def _as_parameter(old: nn.Parameter, new: dict[int, Tensor]) -> nn.Parameter:
    """Return one parameter per tensor, however many modules share it."""
    value = new[id(old)]
    if not isinstance(value, nn.Parameter):
        value = new[id(old)] = nn.Parameter(value, requires_grad=old.requires_grad)
    return value


class _Tensors:
    """The tensors of a model by name, with the masks on them."""

    def __init__(self, model: nn.Module) -> None:
        self.holders = [_holder(name, module) for name, module in model.named_modules()]
        self._found = {name: t for h in reversed(self.holders) for name, t in h.items()}
        self._model = type(model).__name__
        self._other: dict[int, str] = {}
        for holder in self.holders:
            for name, tensor in holder.originals.items():
                for rule in constraints_of(holder.module, name):
                    if not isinstance(rule, Mask):
                        step = "cluster" if isinstance(rule, Codebook) else "quantization"
                        self._other[id(tensor)] = f"a {rule.label}; put {STEP} before the {step}"

    def named(self, axis: Axis, size: int) -> Tensor:
        """Return a tensor, checked to have an axis of this size and no rule besides masks."""
        tensor = self._found.get(axis.tensor)
        shape = None if tensor is None else tuple(tensor.shape)
        if tensor is None or tensor.ndim <= axis.dim or tensor.shape[axis.dim] != size:
            raise ModelError(
                f"{STEP}: {axis.tensor} of {self._model} must have {size} positions on axis "
                f"{axis.dim}, got {'no such tensor' if shape is None else f'shape {shape}'}; "
                "give the architecture that was cut"
            )
        if id(tensor) in self._other:
            raise CompressionError(
                f"{STEP}: {axis.tensor} must not be clustered or quantized yet, got "
                f"{self._other[id(tensor)]} step"
            )
        return tensor

    def masks_of(self, tensor: Tensor) -> list[Tensor]:
        """Return the masks on a tensor, in all modules that share it."""
        return [
            mask.mask
            for holder in self.holders
            for name, original in holder.originals.items()
            if original is tensor
            for mask in holder.masks[name]
        ]


def _holder(prefix: str, module: nn.Module) -> _Holder:
    holder = _Holder(module, prefix)
    if parametrize.is_parametrized(module):
        for name in module.parametrizations:  # type: ignore[union-attr]
            rules = constraints_of(module, name)
            if rules:
                chain: Any = module.parametrizations[name]  # type: ignore[index]
                holder.originals[name] = chain.original
                holder.masks[name] = [rule for rule in rules if isinstance(rule, Mask)]
    return holder


def _weight_shape(holder: _Holder) -> tuple[int, ...]:
    """Return the shape of the first tensor that tells a module's width."""
    own = holder.module._parameters.get("weight")
    mean = holder.module._buffers.get("running_mean")
    for tensor in (holder.originals.get("weight"), own, mean):
        if tensor is not None:
            return tuple(tensor.shape)
    return ()


def _correct_sizes(module: Any, before: tuple[int, ...], after: tuple[int, ...]) -> None:
    """Set the numbers of channels that a module states to those of its tensors."""
    if isinstance(module, _ConvNd):
        depthwise = module.groups > 1 and module.groups == module.in_channels
        transposed = isinstance(module, _ConvTransposeNd)
        if depthwise:
            module.groups = module.groups * after[0] // before[0]
        wide, narrow = after[0], after[1] * module.groups
        module.in_channels, module.out_channels = (wide, narrow) if transposed else (narrow, wide)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = after
    elif isinstance(module, _NormBase):
        module.num_features = after[0]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = after[0]
