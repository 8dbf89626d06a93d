"""A network run again with a few layers replaced, without the work that they do not change."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from shrinkproof.compressors.graph import trace
from shrinkproof.errors import UnsupportedLayerError

_FRESH: Final[dict[Any, Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    F.relu_: F.relu,
    torch.relu_: torch.relu,
}
"""Functions that write over their input -> the same with a result of its own."""


class Replay:
    """Runs a network once per batch, and from there what other weights would have given.

    Args:
        model: in evaluation mode; not edited.

    Attributes:
        targets: names of the layers that can be replaced.

    Raises:
        UnsupportedLayerError: the network cannot be traced.
    """

    def __init__(self, model: nn.Module) -> None:
        self._graph = _without_overwriting(trace(copy.deepcopy(model)))
        self._nodes = tuple(self._graph.graph.nodes)
        self.targets = frozenset(str(n.target) for n in self._nodes if n.op == "call_module")
        self._inputs: Tensor | None = None
        self._outputs: Any = None
        self._values: dict[fx.Node, Any] = {}

    def record(self, inputs: Tensor) -> Any:
        """Run the network as it is, remember every value, and return its output."""
        recorder = _Recorder(self._graph)
        self._inputs = inputs
        self._outputs = recorder.run(inputs)
        # A value that was written over cannot be used again.
        self._values = recorder.env if recorder.is_intact else {}
        return self._outputs

    def replay(self, layers: Mapping[str, nn.Module]) -> Any:
        """Return the output for the recorded inputs with some layers replaced."""
        affected = self._affected(layers)
        if not affected:
            return self._outputs
        known = {node: value for node, value in self._values.items() if node not in affected}
        return _Replacing(self._graph, layers).run(self._inputs, initial_env=known)

    def _affected(self, layers: Iterable[str]) -> set[fx.Node]:
        names = frozenset(layers)
        affected: set[fx.Node] = set()
        for node in self._nodes:
            is_replaced = node.op == "call_module" and node.target in names
            if is_replaced or not affected.isdisjoint(node.all_input_nodes):
                affected.add(node)
        return affected


def replay_of(model: nn.Module) -> Replay | None:
    """Return the replay of a network, or None where it cannot be traced."""
    try:
        return Replay(model)
    except UnsupportedLayerError:
        return None


def replaced_layers(before: nn.Module, after: nn.Module) -> dict[str, nn.Module] | None:
    """Return the layers of ``after`` whose numbers differ from those of ``before``.

    None where the networks differ in more than the numbers of some layers.
    """
    kinds = [[(name, type(m)) for name, m in model.named_modules()] for model in (before, after)]
    if kinds[0] != kinds[1]:
        return None
    old, new = before.state_dict(), after.state_dict()
    changed = old.keys() ^ new.keys()
    for name in old.keys() & new.keys():
        if old[name].shape != new[name].shape:
            return None
        if not torch.equal(old[name], new[name]):
            changed.add(name)
    owners = {name.rpartition(".")[0] for name in changed}
    return {owner: after.get_submodule(owner) for owner in sorted(owners)}


class _Recorder(fx.Interpreter):
    """Keeps every value, and notices when one is written over."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self._versions: list[tuple[Tensor, int]] = []

    @property
    def is_intact(self) -> bool:
        """Whether all values are still what they were."""
        return all(value._version == version for value, version in self._versions)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and note the state of its result."""
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self._versions.append((value, value._version))
        return value


class _Replacing(fx.Interpreter):
    """Runs a graph with some of its layers replaced."""

    def __init__(self, graph: fx.GraphModule, layers: Mapping[str, nn.Module]) -> None:
        super().__init__(graph)
        self._layers = layers

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one layer, or what stands in for it."""
        layer = self._layers.get(target)
        if layer is None:
            return super().call_module(target, args, kwargs)
        return layer(*args, **kwargs)


def _without_overwriting(graph: fx.GraphModule) -> fx.GraphModule:
    """Let the operations of a graph leave their inputs alone where it is known how, in place."""
    modules: list[Any] = list(graph.modules())
    for module in modules:
        if getattr(module, "inplace", False) is True:
            module.inplace = False
    for node in graph.graph.nodes:
        node.target = _FRESH.get(node.target, node.target)
        if node.kwargs.get("inplace") is True:
            node.kwargs = {**node.kwargs, "inplace": False}
    graph.recompile()
    return graph.eval()
