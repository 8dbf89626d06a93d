"""What is known while a network runs under observation: shadows, weights, and where we are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from shrinkproof.compressors.coupling.atoms import Atoms, Labels
from shrinkproof.compressors.coupling.coupled import LayerUse
from shrinkproof.compressors.coupling.shadow import Shadow, along


class Owned(NamedTuple):
    """A parameter or buffer.

    Attributes:
        name: qualified name; the first one where several modules share the tensor.
        module: the module that holds it.
        tensor: the tensor itself, which keeps its identity alive.
    """

    name: str
    module: nn.Module
    tensor: Tensor

    @property
    def layer(self) -> str:
        """Name of the module that holds it, and of the tensor unless that is ``weight``."""
        return self.name.removesuffix("weight").removesuffix(".")


class WeightView(NamedTuple):
    """A weight with its axes in some order.

    Attributes:
        owned: the weight.
        dims: axis of the view -> axis of the weight.
    """

    owned: Owned
    dims: tuple[int, ...]


@dataclass(slots=True)
class Frame:
    """One running call of a module."""

    name: str
    module: nn.Module
    pads: Counter[int] = field(default_factory=Counter)


class Call(NamedTuple):
    """One operation that has just run.

    Attributes:
        name: its name without overload, for example ``aten::add``.
        args: positional arguments.
        kwargs: arguments by name.
        out: what it returned.
    """

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    out: Any

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument, however it was passed."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)


@dataclass(frozen=True, slots=True)
class PadCall:
    """Zero channels that one call adds; see ``coupled.PadSite``."""

    module: str
    pair: int
    ordinal: int
    before: Labels
    after: Labels


class State:
    """The record of one observed run."""

    def __init__(self, model: nn.Module) -> None:
        self.atoms = Atoms()
        self.model = model
        self.layers: dict[str, LayerUse] = {}
        self.pads: dict[tuple[str, int, int], PadCall] = {}
        self.other_macs = 0
        self.is_counted = False
        self._owned = {id(owned.tensor): owned for owned in _tensors(model)}
        self._shadows: Any = WeakTensorKeyDictionary()
        self._views: Any = WeakTensorKeyDictionary()
        self._lost: Any = WeakTensorKeyDictionary()
        self._frames = [Frame("", model)]

    @property
    def frame(self) -> Frame:
        """The innermost running module."""
        return self._frames[-1]

    def where(self, call: Call) -> str:
        """Return an operation and its place, for messages."""
        name = call.name.removeprefix("aten::")
        return f"{name} in {self.frame.name!r}" if self.frame.name else f"{name} in the model"

    def owned(self, tensor: Tensor) -> Owned | None:
        """Return the parameter or buffer that a tensor is."""
        return self._owned.get(id(tensor))

    def weight(self, tensor: Tensor) -> WeightView | None:
        """Return the weight of two or more axes that a tensor is, or is a view of."""
        owned = self.owned(tensor)
        if owned is not None and tensor.ndim > 1:
            return WeightView(owned, tuple(range(tensor.ndim)))
        view: WeightView | None = self._views.get(tensor)
        return view

    def remember_view(self, tensor: Tensor, view: WeightView) -> None:
        """Note that a tensor is a weight with its axes in another order."""
        self._views[tensor] = view

    def shadow(self, tensor: Tensor) -> Shadow | None:
        """Return the atoms behind a tensor, None where there are none.

        A parameter or buffer with a single axis longer than one brings its own.
        """
        shadow: Shadow | None = self._shadows.get(tensor)
        if shadow is not None:
            return shadow
        owned = self.owned(tensor)
        if owned is None or not tensor.is_floating_point():
            return None
        dim = single_axis(tensor.shape)
        if dim is None:
            return None
        atoms = self.atoms.axis(owned.name, dim, tensor.shape[dim])
        return along(atoms, dim, tensor.shape)

    def give(self, tensor: Tensor, shadow: Shadow | None) -> None:
        """Note the atoms behind a tensor."""
        if shadow is not None:
            self._shadows[tensor] = replace(shadow, shape=tuple(tensor.shape))

    def lose(self, call: Call, inputs: Sequence[Tensor]) -> None:
        """Note for results without atoms where they come from: this call, or an earlier one."""
        known = (place for t in inputs if (place := self._lost.get(t)) is not None)
        followed = any(self.shadow(t) is not None or self.weight(t) is not None for t in inputs)
        place = self.where(call) if followed else next(known, None)
        if place is not None:
            for out in tensors_in(call.out):
                if out not in self._shadows and out not in self._views:
                    self._lost[out] = place

    def source(self, tensor: Tensor) -> str:
        """Return what a tensor without atoms is, for messages."""
        place = self._lost.get(tensor)
        return (
            f"the result of {place}, through which channels are not followed"
            if place
            else ("the model's input")
        )

    def lock(self, tensors: Sequence[Tensor], reason: str) -> None:
        """Forbid the removal of everything that some tensors hold."""
        for tensor in tensors:
            shadow = self.shadow(tensor)
            if shadow is not None:
                self.atoms.lock(shadow.labels, reason)
                continue
            view = self.weight(tensor)
            if view is not None and tensor.is_floating_point():
                self.lock_weight(view, reason)

    def lock_weight(self, view: WeightView, reason: str) -> None:
        """Forbid the removal of output and input channels of a weight."""
        name, _, weight = view.owned
        for dim in (0, 1):
            self.atoms.lock(self.atoms.axis(name, dim, weight.shape[dim]), reason)

    def use_layer(self, use: LayerUse, layer: str) -> None:
        """Count one call of a weighted layer; its first call says which axis is the output."""
        self.is_counted = True
        known = self.layers.get(layer)
        self.layers[layer] = (
            replace(known, positions=known.positions + use.positions) if known else use
        )

    @contextmanager
    def following_modules(self) -> Iterator[None]:
        """Keep track of the running module meanwhile."""
        handles: list[RemovableHandle] = []
        for name, module in self.model.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(self._enter(name)))
                handles.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, _: Any) -> None:
            self._frames.append(Frame(name, module))

        return enter

    def _leave(self, module: nn.Module, _: Any, __: Any) -> None:  # noqa: ARG002
        self._frames.pop()


def single_axis(shape: Sequence[int]) -> int | None:
    """Return the only axis longer than one; axis 0 of a vector; None otherwise."""
    if len(shape) == 1:
        return 0
    long = [d for d, n in enumerate(shape) if n > 1]
    return long[0] if len(long) == 1 else None


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested arguments or results."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, (list, tuple, set)):
        for value in values:
            yield from tensors_in(value)
    elif is_dataclass(values) and not isinstance(values, type):
        for part in fields(values):
            yield from tensors_in(getattr(values, part.name))
    elif hasattr(values, "__dict__") and not isinstance(values, (type, nn.Module)):
        yield from tensors_in(vars(values))


def _tensors(model: nn.Module) -> Iterator[Owned]:
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield Owned(f"{prefix}.{name}" if prefix else name, module, tensor)
