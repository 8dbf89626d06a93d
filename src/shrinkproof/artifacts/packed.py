"""A model's weights in the fewest bytes that give every bit back.

The file is a safetensors file. Tensors stand in it under their names, but those that have a
smaller form; these are listed in the header (``__metadata__``, entry ``shrinkproof``, JSON with
``version`` and ``tensors``) with ``dtype``, ``shape`` and how to rebuild them:

1. ``name:levels`` and ``name:index``: the distinct values, and which of them each element has, in
   ``bits`` bits (see ``bits``). No index where there is one level. Otherwise ``name:values``.
2. ``mask``: ``name:mask`` has one bit for each element; step 1 gave those where it is set, the
   others are zero.
3. ``stored``: type of levels or values where it is not ``dtype``. ``float16`` and ``bfloat16`` are
   widened. ``int8`` and ``int16`` are multiplied by the tensor ``name_scale``, per index of the
   first axis where it has several elements.

Which form a tensor gets follows from its numbers alone, not from what a recipe says it did.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from shrinkproof.artifacts.bits import bits_for, pack_bits, packed_bytes, unpack_bits
from shrinkproof.artifacts.levels import Unsigned, distinct, index_of
from shrinkproof.artifacts.proto import write_bytes
from shrinkproof.errors import ExportError, ModelError
from shrinkproof.records import Json

VERSION: Final = 1
KEY: Final = "shrinkproof"
SCALE: Final = "_scale"

PART: Final = 96
"""Bytes that one more tensor costs in the header, about."""

_SIGNED: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SAMPLE: Final = 4096
_DAMAGE: Final = (
    *(OSError, safetensors.SafetensorError, ExportError),
    *(ValueError, LookupError, TypeError, AttributeError, RuntimeError),
)


@dataclass(frozen=True, slots=True)
class Packed:
    """How one tensor is stored.

    Attributes:
        stored: type of the stored numbers, such as ``float32`` or ``int8``.
        levels: distinct values in a table; 0 where the numbers themselves are stored.
        bits: of one stored element: of an index where there is a table, else of a number.
        mask: whether zeros are left out and their places are a bit mask.
        parts: what the file holds, by suffix; an empty one for the tensor as it is.
    """

    stored: str
    levels: int
    bits: int
    mask: bool = False
    parts: Mapping[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def bytes(self) -> int:
        """Bytes of the numbers in the file, without its header."""
        return sum(part.numel() * part.element_size() for part in self.parts.values())

    @property
    def form(self) -> str:
        """The form in words, such as ``mask + 16 levels of int8``."""
        what = f"{self.levels} levels of {self.stored}" if self.levels else self.stored
        return f"mask + {what}" if self.mask else what


def write_packed(path: Path, state: Mapping[str, Tensor]) -> dict[str, Packed]:
    """Write a state dict in its smallest form, and prove that it comes back bit for bit.

    Equal numbers give equal bytes. The file is written whole or not at all.

    Returns:
        How each tensor is stored; a tensor under several names has the same storage twice.

    Raises:
        ExportError: the file cannot be written, or would not give back the same bits.
    """
    forms = {name: _smallest(name, state) for name in state}
    content = _as_bytes(state, forms)
    back = _from_bytes(content, str(path))
    for name, tensor in state.items():
        if not _same_bits(back[name], tensor):
            raise ExportError(
                f"{path}: {name} must come back bit for bit, but its packed form "
                f"({forms[name].form}) does not; report this with the model"
            )
    write_bytes(path, content)
    return forms


def read_packed(path: Path) -> dict[str, Tensor]:
    """Return the state dict that `write_packed` wrote, bit for bit.

    Raises:
        ModelError: the file is missing or damaged, or of a version that this release cannot read.
    """
    try:
        return _from_bytes(path.read_bytes(), str(path))
    except _DAMAGE as error:
        raise ModelError(
            f"{path}: must be the packed weights of a candidate, got {type(error).__name__}: "
            f"{error}; make the candidate again"
        ) from error


def _smallest(name: str, state: Mapping[str, Tensor]) -> Packed:
    """Return the smallest form of a tensor: on a grid or narrow, masked, with a table, or as is."""
    tensor = state[name]
    plain = Packed(_name_of(tensor.dtype), 0, 8 * tensor.element_size(), parts={"": tensor})
    if tensor.numel() * tensor.element_size() <= PART or tensor.element_size() not in _SIGNED:
        return plain
    stored = _integers(tensor, state.get(f"{name}{SCALE}"))
    if stored is None:
        stored = _narrow(tensor)
    found = _compact(stored)
    same = found.parts.keys() == {"values"} and stored.dtype == tensor.dtype
    return plain if same or found.bytes + PART * len(found.parts) >= plain.bytes else found


def _compact(stored: Tensor) -> Packed:
    """Return numbers with a mask, a table, both or neither, whatever takes the fewest bytes."""
    values_N = patterns(stored)
    width, count = stored.element_size(), values_N.size
    nonzero = int(np.count_nonzero(values_N))
    levels_K = distinct(values_N)
    choices = [(width * count, False, False), (_mask_bytes(count) + width * nonzero, True, False)]
    if levels_K is not None:
        table = width * levels_K.size + packed_bytes(count, bits_for(levels_K.size))
        inner = levels_K.size - int(levels_K[0] == 0)
        masked = width * inner + packed_bytes(nonzero, bits_for(inner))
        choices += [(table + PART, False, True), (_mask_bytes(count) + masked + PART, True, True)]
    _, mask, with_table = min(choices)
    parts: dict[str, Tensor] = {}
    if mask:
        chosen_N = values_N != 0
        parts["mask"] = torch.from_numpy(np.packbits(chosen_N, bitorder="little"))
        values_N = values_N[chosen_N]
    if levels_K is None or not with_table:
        parts["values"] = _tensor(values_N, stored.dtype)
        return Packed(_name_of(stored.dtype), 0, 8 * width, mask, parts)
    levels_K = levels_K[levels_K != 0] if mask else levels_K
    parts["levels"] = _tensor(levels_K, stored.dtype)
    bits = bits_for(levels_K.size)
    if bits:
        parts["index"] = torch.from_numpy(pack_bits(index_of(values_N, levels_K), bits))
    return Packed(_name_of(stored.dtype), levels_K.size, bits, mask, parts)


def _mask_bytes(count: int) -> int:
    return packed_bytes(count, 1) + PART


def _integers(tensor: Tensor, scale: Tensor | None) -> Tensor | None:
    """Return the integers behind a tensor, or None where it is not on the grid of the scale."""
    if scale is None or tensor.dtype != torch.float32 or not _fits(tensor, scale):
        return None
    steps = _along_first(scale, tensor)
    integers = (tensor / steps).round()
    highest = float(integers.abs().max())
    # Comparing this way round also refuses NaN.
    if not highest < 2**15:
        return None
    narrow = integers.to(torch.int8 if highest < 2**7 else torch.int16)
    return narrow if _same_bits(narrow.to(torch.float32) * steps, tensor) else None


def _fits(tensor: Tensor, scale: Tensor) -> bool:
    first = tensor.shape[0] if tensor.ndim else 1
    return scale.dtype == torch.float32 and scale.numel() in (1, first)


def _along_first(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (tensor.ndim - 1)) if tensor.ndim else scale.reshape(())


def _narrow(tensor: Tensor) -> Tensor:
    """Return float32 numbers as 16 bits where that loses nothing, anything else as it is."""
    if tensor.dtype != torch.float32:
        return tensor
    flat = tensor.reshape(-1)
    for dtype in (torch.float16, torch.bfloat16):
        # Most tensors show in their first numbers that it would lose something.
        for part in (flat[:_SAMPLE], flat):
            if not _same_bits(part.to(dtype).to(torch.float32), part):
                break
        else:
            return tensor.to(dtype)
    return tensor


def _as_bytes(state: Mapping[str, Tensor], forms: Mapping[str, Packed]) -> bytes:
    entries: dict[str, Json] = {}
    parts: dict[str, Tensor] = {}
    first: dict[Any, str] = {}
    for name, form in forms.items():
        tensor = state[name]
        storage = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        same = first.setdefault(storage, name) if tensor.numel() else name
        if same != name:
            entries[name] = {"same": same}
            continue
        if "" not in form.parts:
            entries[name] = _entry(tensor, form)
        parts.update({_part_name(name, suffix): part for suffix, part in form.parts.items()})
    expected = sum(len(forms[n].parts) for n in forms if "same" not in entries.get(n, {}))
    if len(parts) != expected:
        raise ExportError(
            "packing: names of tensors must stay different when a part is appended to them, such "
            "as 'weight:index', got two that do not; rename the layer with the colon"
        )
    header = {"version": VERSION, "tensors": entries}
    # One entry only: the order of several would differ from process to process.
    metadata = {KEY: json.dumps(header, sort_keys=True, separators=(",", ":"))}
    # Copies, because safetensors refuses tensors that are views of one memory.
    contiguous = {
        name: part.clone(memory_format=torch.contiguous_format) for name, part in parts.items()
    }
    content: bytes = safetensors.torch.save(contiguous, metadata)
    return content


def _entry(tensor: Tensor, form: Packed) -> Json:
    entry: Json = {"dtype": _name_of(tensor.dtype), "shape": list(tensor.shape)}
    if form.stored != entry["dtype"]:
        entry["stored"] = form.stored
    if form.levels:
        entry["bits"] = form.bits
    if form.mask:
        entry["mask"] = True
    return entry


def _part_name(name: str, suffix: str) -> str:
    return f"{name}:{suffix}" if suffix else name


def _from_bytes(content: bytes, where: str) -> dict[str, Tensor]:
    """Return the state dict in a file's bytes.

    Raises:
        ModelError: the version is unknown.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    listed = json.loads(header["__metadata__"][KEY])
    if listed["version"] != VERSION:
        raise ModelError(
            f"{where}: the packed weights must be of version {VERSION}, got {listed['version']}; "
            "install the release that wrote them"
        )
    parts: dict[str, Tensor] = safetensors.torch.load(content)
    entries: dict[str, Json] = listed["tensors"]
    own = {name: entry for name, entry in entries.items() if "same" not in entry}
    state = {name: part for name, part in parts.items() if name not in _parts_of(own)}
    # Scales first: weights on a grid are rebuilt with them.
    on_grid = {n for n, entry in own.items() if str(entry.get("stored", "")).startswith("int")}
    for name in sorted(own.keys() - on_grid):
        state[name] = _rebuilt(name, own[name], parts, state)
    shared = {name: entry["same"] for name, entry in entries.items() if "same" in entry}
    state.update({name: state[owner] for name, owner in shared.items() if owner in state})
    for name in sorted(on_grid, key=lambda name: (-len(name), name)):
        state[name] = _rebuilt(name, own[name], parts, state)
    state.update({name: state[owner] for name, owner in shared.items()})
    return state


def _parts_of(names: Iterable[str]) -> set[str]:
    suffixes = ("levels", "index", "values", "mask")
    return {_part_name(name, suffix) for name in names for suffix in suffixes}


def _rebuilt(
    name: str, entry: Json, parts: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> Tensor:
    shape: list[int] = entry["shape"]
    dtype: str = entry["dtype"]
    stored: str = entry.get("stored", dtype)
    count = int(np.prod(shape, dtype=np.int64))
    chosen_N: NDArray[np.bool_] | None = None
    if entry.get("mask"):
        mask = np.unpackbits(parts[f"{name}:mask"].numpy(), count=count, bitorder="little")
        chosen_N = mask.astype(bool)
    inner = count if chosen_N is None else int(np.count_nonzero(chosen_N))
    if "bits" in entry:
        values_N = patterns(parts[f"{name}:levels"])
        index_N: Unsigned = np.zeros(inner, np.uint8)
        if entry["bits"]:
            index_N = unpack_bits(parts[f"{name}:index"].numpy(), entry["bits"], inner)
        values_N = values_N.take(index_N)
    else:
        values_N = patterns(parts[f"{name}:values"])
    if chosen_N is not None:
        full_N = np.zeros(count, values_N.dtype)
        full_N[chosen_N] = values_N
        values_N = full_N
    tensor = _tensor(values_N, getattr(torch, stored)).reshape(shape)
    if stored == dtype:
        return tensor
    wide = tensor.to(getattr(torch, dtype))
    if not stored.startswith("int"):
        return wide
    return wide * _along_first(state[f"{name}{SCALE}"], wide)


def patterns(tensor: Tensor) -> Unsigned:
    """Return the bits of each number as an unsigned integer, flat; equal bits, equal integers."""
    size = tensor.element_size()
    signed = tensor.detach().cpu().contiguous().reshape(-1).view(_SIGNED[size]).numpy()
    return np.asarray(signed.view(f"u{size}"))


def _tensor(patterns: Unsigned, dtype: torch.dtype) -> Tensor:
    size = patterns.dtype.itemsize
    return torch.from_numpy(np.ascontiguousarray(patterns).view(f"i{size}")).view(dtype)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.element_size() not in _SIGNED:
        return bool(torch.equal(one, other))
    return bool(np.array_equal(patterns(one), patterns(other)))


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
