"""What happens to the output of a layer: which batch norm, addition and rectifier come behind it.

Tensors are followed by identity while the model runs, below Python (``TorchDispatchMode``), so
modules, functions, operators and in-place operations are all seen, and any control flow works.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._python_dispatch import TorchDispatchMode

from shrinkproof.errors import CompressionError

Kind = Literal["rectifier", "norm", "addition"]

_RECTIFIERS: Final = frozenset(
    {
        *("relu", "hardtanh", "leaky_relu", "elu", "celu", "silu", "gelu", "hardswish", "mish"),
        *("_prelu_kernel", "softplus", "threshold", "tanh", "clamp", "clamp_min"),
        *("rrelu_with_noise", "relu6", "selu"),
    }
)
"""Pointwise activation functions; the name with ``_`` behind it works in place."""
_NORMS: Final = frozenset(
    {
        *("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        *("cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update"),
        "_batch_norm_no_update",
    }
)
_ADDITIONS: Final = frozenset({"add"})
_PREFERRED: Final[tuple[Kind, ...]] = ("rectifier", "norm", "addition")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on a followed tensor.

    Attributes:
        kind: what it does.
        target: number of the value it makes.
        scale: the batch norm's weight, None where it has none.
    """

    kind: Kind
    target: int
    scale: Tensor | None = None


@dataclass(slots=True)
class Trail:
    """What happened to the outputs of some layers in one run.

    Attributes:
        outputs: layer -> number of its output for each call, in order.
        steps: number of a value -> the operations that read it.
    """

    outputs: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    steps: dict[int, list[Step]] = field(default_factory=lambda: defaultdict(list))

    def scales(self, layer: str) -> list[Tensor]:
        """Return the weights of the batch norms that read the layer's outputs."""
        behind = [step for output in self.outputs.get(layer, ()) for step in self.steps[output]]
        return [step.scale for step in behind if step.kind == "norm" and step.scale is not None]

    def chains(self, layer: str) -> list[tuple[Kind, ...]]:
        """Return for each call of a layer which operations lead to its feature map.

        The map is the output of the rectifier behind the layer, through a batch norm in between.
        Where there is none and the layer feeds an addition, it is the output of the rectifier of
        the sum, through a batch norm. Where there is no rectifier at all, it is the output of the
        batch norm behind the layer, else of the layer.
        """
        return [self._chain(output) for output in self.outputs.get(layer, ())]

    def _chain(self, value: int) -> tuple[Kind, ...]:
        chain: list[Kind] = []
        step = self._next(value)
        while step is not None:
            chain.append(step.kind)
            if step.kind == "rectifier":
                return tuple(chain)
            step = self._next(step.target)
        return tuple(chain[: chain.index("addition")] if "addition" in chain else chain)

    def _next(self, value: int) -> Step | None:
        steps = {step.kind: step for step in reversed(self.steps[value])}
        return next((steps[kind] for kind in _PREFERRED if kind in steps), None)


def follow(model: nn.Module, layers: Sequence[str], example: Tensor) -> Trail:
    """Run a model once and return what happens to the outputs of its layers.

    Args:
        model: in evaluation mode; stays as it is.
        layers: qualified names.
        example: one input, (1, C, H, W).

    Raises:
        CompressionError: the model does not run on the example.
    """
    recorder = _Recorder()
    with _hooks(model, layers, recorder.add, recorder.pass_through):
        _run(model, example, recorder)
    return recorder.trail


def read_maps(
    model: nn.Module,
    chains: Mapping[str, Sequence[tuple[Kind, ...]]],
    inputs: Tensor,
    use: Callable[[tuple[str, ...], Tensor], None],
) -> None:
    """Run a model once and hand over the feature maps of its layers as they are made.

    Args:
        model: in evaluation mode; stays as it is.
        chains: layer -> which operations lead to its map, for each of its calls.
        inputs: (N, C, H, W).
        use: is given the layers that share a map, and the map. It must not keep the map, which
            may be overwritten afterwards.

    Raises:
        CompressionError: the model took another path than on the example.
    """
    reader = _Reader(chains, use)
    with _hooks(model, tuple(chains), reader.add, reader.pass_through):
        _run(model, inputs, reader)
    for layer, planned in chains.items():
        if reader.done[layer] != len(planned):
            raise CompressionError(
                f"{layer}: its feature map must be reached {len(planned)} times as on the example, "
                f"got {reader.done[layer]}; the path through the model depends on the images, "
                "choose a criterion that needs only the weights"
            )


def _run(model: nn.Module, inputs: Tensor, mode: TorchDispatchMode) -> None:
    try:
        with torch.no_grad(), mode:
            model(inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, CompressionError):
            raise
        raise CompressionError(
            f"{type(model).__name__}: the model must run on inputs of shape "
            f"{tuple(inputs.shape)}, got {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _hooks(
    model: nn.Module,
    layers: Sequence[str],
    add: Callable[[str, Tensor], None],
    pass_through: Callable[[nn.Module, Tensor, Tensor], None],
) -> Iterator[None]:
    """Call back for the outputs of layers, and for batch norms that are written as arithmetic."""

    def called(layer: str) -> Callable[..., None]:
        return lambda module, args, output: add(layer, output)  # noqa: ARG005

    def frozen(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            pass_through(module, args[0], output)

    handles = [
        module.register_forward_hook(frozen) for module in model.modules() if _is_frozen(module)
    ]
    handles += [model.get_submodule(n).register_forward_hook(called(n)) for n in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_frozen(module: nn.Module) -> bool:
    """Return whether a module is a batch norm with fixed statistics, as detectors have them."""
    return not isinstance(module, _NormBase) and all(
        isinstance(getattr(module, name, None), Tensor)
        for name in ("weight", "bias", "running_mean", "running_var")
    )


def _kind(func: Any, args: Sequence[Any], output: Any) -> Kind | None:
    """Return what an operation does, if it can lie between a layer and its map."""
    name = func.overloadpacket.__name__
    if name in _NORMS:
        return "norm"
    name = name if name.startswith("_") else name.removesuffix("_")
    if name in _RECTIFIERS:
        return "rectifier"
    if name in _ADDITIONS:
        # A sum with a number or a bias is no residual addition.
        terms = [a for a in args[:2] if isinstance(a, Tensor) and a.shape == output.shape]
        return "addition" if len(terms) == 2 else None
    return None


def _inputs(kind: Kind, args: Sequence[Any]) -> Sequence[Any]:
    return args[:2] if kind == "addition" else args[:1]


class _Recorder(TorchDispatchMode):
    """Numbers the values that come from the layers and notes what reads them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trail = Trail()
        self._number = 0
        # The tensors are kept, so that no identity is used twice.
        self._known: dict[int, tuple[Tensor, int]] = {}

    def add(self, layer: str, output: Tensor) -> None:
        """Follow the output of a layer."""
        self.trail.outputs[layer].append(self._value(output))

    def pass_through(self, module: nn.Module, source: Tensor, output: Tensor) -> None:
        """Note a batch norm that is written as arithmetic."""
        if id(source) in self._known:
            scale: Any = module.weight
            self._note("norm", [source], output, scale)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note it if it reads a followed tensor."""
        del types
        result = func(*args, **(kwargs or {}))
        output = result[0] if isinstance(result, (tuple, list)) and result else result
        kind = _kind(func, args, output) if isinstance(output, Tensor) else None
        if kind is not None:
            scale = args[1] if kind == "norm" else None
            self._note(kind, _inputs(kind, args), output, scale)
        elif func._schema.is_mutable and args:
            self._known.pop(id(args[0]), None)
        return result

    def _note(self, kind: Kind, sources: Sequence[Any], output: Tensor, scale: Any) -> None:
        read = [self._known[id(s)][1] for s in sources if id(s) in self._known]
        if read:
            self._known.pop(id(output), None)
            target = self._value(output)
            for source in read:
                self.trail.steps[source].append(Step(kind, target, scale))

    def _value(self, tensor: Tensor) -> int:
        """Return the number of a tensor's present value."""
        if id(tensor) not in self._known:
            self._number += 1
            self._known[id(tensor)] = (tensor, self._number)
        return self._known[id(tensor)][1]


@dataclass(slots=True)
class _Waiting:
    """A tensor and which operations still have to come for whom.

    Attributes:
        tensor: kept, so that no identity is used twice.
        ahead: layer and the rest of its chain.
    """

    tensor: Tensor
    ahead: list[tuple[str, tuple[Kind, ...]]] = field(default_factory=list)


class _Reader(TorchDispatchMode):
    """Follows each layer's output along its chain and hands over what it ends in."""

    def __init__(
        self,
        chains: Mapping[str, Sequence[tuple[Kind, ...]]],
        use: Callable[[tuple[str, ...], Tensor], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.done = dict.fromkeys(chains, 0)
        self._chains = {layer: list(planned) for layer, planned in chains.items()}
        self._use = use
        self._waiting: dict[int, _Waiting] = {}

    def add(self, layer: str, output: Tensor) -> None:
        """Follow the output of a layer."""
        if not self._chains[layer]:
            self.done[layer] += 1
            return
        self._arrive([(layer, self._chains[layer].pop(0))], output)

    def pass_through(self, module: nn.Module, source: Tensor, output: Tensor) -> None:
        """Follow a batch norm that is written as arithmetic."""
        del module
        self._advance("norm", [source], output)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and follow it if a layer waits for it."""
        del types
        result = func(*args, **(kwargs or {}))
        output = result[0] if isinstance(result, (tuple, list)) and result else result
        kind = _kind(func, args, output) if isinstance(output, Tensor) else None
        if kind is not None:
            self._advance(kind, _inputs(kind, args), output)
        elif func._schema.is_mutable and args:
            self._waiting.pop(id(args[0]), None)
        return result

    def _advance(self, kind: Kind, sources: Sequence[Any], output: Tensor) -> None:
        arrived = []
        for source in {id(s): s for s in sources}.values():
            waiting = self._waiting.get(id(source))
            if waiting is None:
                continue
            arrived += [(layer, ahead[1:]) for layer, ahead in waiting.ahead if ahead[0] == kind]
            waiting.ahead = [(layer, ahead) for layer, ahead in waiting.ahead if ahead[0] != kind]
            if not waiting.ahead or source is output:
                # What still waits for a value that was overwritten waits in vain.
                del self._waiting[id(source)]
        if arrived:
            self._arrive(arrived, output)

    def _arrive(self, arrived: list[tuple[str, tuple[Kind, ...]]], output: Tensor) -> None:
        ends = tuple(layer for layer, ahead in arrived if not ahead)
        for layer in ends:
            self.done[layer] += 1
        if ends:
            self._use(ends, output)
        ahead = [(layer, rest) for layer, rest in arrived if rest]
        if ahead:
            self._waiting.setdefault(id(output), _Waiting(output)).ahead += ahead
