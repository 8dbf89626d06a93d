"""Which layer a heat map looks at: by name, or the last one of enough places without a bypass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.attributions.network import as_tensor, is_bypassed, quiet
from shrinkproof.errors import ModelError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

ENOUGH: Final = 8
"""Rows and columns from which on a correlation of two maps means something."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to look at.

    Attributes:
        name: of the module.
        size: rows and columns of its output.
        caveat: what a reader of its maps must know; empty for nothing.
    """

    name: str
    size: tuple[int, int]
    caveat: str


@dataclass(slots=True)
class _Seen:
    """What one run of a network has shown.

    Attributes:
        sizes: name -> rows and columns of its spatial output, in the order of the last calls.
        repeated: names whose output is the very output of a module inside or before them.
        normed: name -> the batch norm that its output goes into.
        calls: name -> how often the module was called.
    """

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    normed: dict[str, str] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)


def choose_layer(
    module: nn.Module,
    example: NDArray[np.float32],
    *,
    also: Sequence[nn.Module] = (),
    accepts: Callable[[str], bool] = lambda _: True,
) -> Layer:
    """Return the last layer with at least 8x8 places that all of the image goes through.

    A layer on a branch that a shortcut bypasses comes only if there is no other. Without any layer
    of 8x8 places, those with the most places are taken. Of a chain of modules with one and the same
    output, it is the innermost. A layer whose output goes into a batch norm is passed over: folding
    merges the two, and in a folded network the name stands for the output of the batch norm.

    Args:
        module: the network, usually the baseline.
        example: inputs (n, C, H, W); the first is shown to the networks.
        also: networks that must have the layer, too, with an output of the same size. The number
            of channels may differ.
        accepts: whether a layer of that name may be taken; where none may, all may.

    Raises:
        ModelError: there is no such layer.
    """
    first, others = _look(module, example), [_look(other, example) for other in also]
    fitting = [
        name
        for name, size in first.sizes.items()
        if name not in first.repeated
        and name not in first.normed
        and all(other.sizes.get(name) == size for other in others)
    ]
    if not fitting:
        shared = " that all of them share" if also else ""
        raise ModelError(
            f"heat maps: the networks must have a layer with a spatial output{shared}, got none; "
            "fold the batch norms of all of them, name a layer, or use occlusion or rise"
        )
    enough = [name for name in fitting if min(first.sizes[name]) >= ENOUGH]
    most = max(_places(first.sizes[name]) for name in fitting)
    wanted = enough or [name for name in fitting if _places(first.sizes[name]) == most]
    through = (
        name
        for name in reversed(wanted)
        if accepts(name) and not is_bypassed(module, name, first.calls[name], example[:1])
    )
    name = next(through, None) or next(filter(accepts, reversed(wanted)), wanted[-1])
    return Layer(name, first.sizes[name], resolution_caveat(first.sizes[name]))


def named_layer(
    name: str,
    module: nn.Module,
    example: NDArray[np.float32],
    *,
    also: Sequence[nn.Module] = (),
) -> Layer:
    """Return the layer of a name after checking that it can be looked at in all networks.

    Args:
        name: of the module.
        module: the network, usually the baseline.
        example: inputs (n, C, H, W); the first is shown to the networks.
        also: networks that must have the layer, too, with an output of the same size.

    Raises:
        UnknownNameError: a network has no module of that name; similar ones are suggested.
        UsageError: its output is not spatial, or its size differs between the networks.
    """
    seen = [_look(network, example) for network in (module, *also)]
    for network, one in zip((module, *also), seen, strict=True):
        check_name(name, network, known=one.sizes)
        if name not in one.sizes:
            raise UsageError(
                f"layer {name!r}: must be called with a spatial output, (n, channels, h, w), got "
                f"none; name one of {', '.join(list(one.sizes)[-3:]) or 'another network'}"
            )
    sizes = [one.sizes[name] for one in seen]
    if len(set(sizes)) > 1:
        told = ", ".join(_spelled(size) for size in sizes)
        raise UsageError(
            f"layer {name!r}: must have the same size in all networks, got {told}; name another"
        )
    caveats = [resolution_caveat(sizes[0]), _folding_caveat(name, seen)]
    return Layer(name, sizes[0], "; ".join(caveat for caveat in caveats if caveat))


def check_name(name: str, module: nn.Module, *, known: Iterable[str] = ()) -> None:
    """Refuse a name that is no module of the network.

    Raises:
        UnknownNameError: it is not; similar names are suggested.
    """
    names = [other for other, _ in module.named_modules() if other]
    if name not in names:
        raise UnknownNameError("layer", name, tuple(known) or names)


def resolution_caveat(size: tuple[int, int]) -> str:
    """Return the warning that belongs to maps of few places; empty from 8x8 on."""
    if min(size) >= ENOUGH:
        return ""
    return (
        f"maps of {_spelled(size)} have {_places(size)} values: too few for a stable correlation; "
        "look at an earlier layer"
    )


def _folding_caveat(name: str, seen: Sequence[_Seen]) -> str:
    norms = {one.normed.get(name, "") for one in seen}
    if len(norms) == 1:
        return ""
    norm = max(norms)
    return (
        f"the output of {name!r} goes into the batch norm {norm!r} in some of the networks and "
        "already contains it in others, so their maps differ without cause; name a layer behind it"
    )


def _spelled(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _places(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _look(module: nn.Module, example: NDArray[np.float32]) -> _Seen:
    """Run a network on one image and note which modules have spatial outputs."""
    from torch import nn

    seen = _Seen()
    made: dict[tuple[int, int], str] = {}
    # Kept alive: the identity of a tensor that is gone would be given to another.
    alive: list[Tensor] = []

    def note(name: str, part: nn.Module, given: Any, output: Any) -> None:
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and given:
            seen.normed.update({made[_value(given[0])]: name} if _value(given[0]) in made else {})
        seen.calls[name] += 1
        size = _size(output, example)
        if not name or size is None:
            return
        # The last call counts, also for the order.
        seen.sizes.pop(name, None)
        seen.repeated.discard(name)
        seen.sizes[name] = size
        if made.setdefault(_value(output), name) != name:
            seen.repeated.add(name)
        alive.append(output)

    with quiet(module):
        handles = [
            part.register_forward_hook(
                lambda part, given, output, name=name: note(name, part, given, output)
            )
            for name, part in module.named_modules()
        ]
        try:
            module(as_tensor(module, example[:1]))
        finally:
            for handle in handles:
                handle.remove()
    return seen


def _size(output: Any, example: NDArray[np.float32]) -> tuple[int, int] | None:
    """Return rows and columns of a spatial output; None for others.

    Four axes do not suffice: transformers and their kin put the channels last.
    """
    if getattr(output, "ndim", 0) != 4:
        return None
    rows, columns = (int(side) for side in output.shape[2:])
    height, width = example.shape[2:]
    keeps_shape = abs(rows * width - columns * height) <= 2 * max(height, width)
    return (rows, columns) if rows * columns > 1 and keeps_shape else None


def _value(tensor: Any) -> tuple[int, int]:
    """Return what tells values apart: writing in place makes another value of the same tensor."""
    return id(tensor), int(getattr(tensor, "_version", 0))
