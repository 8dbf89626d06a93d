"""The computation graph of a model, and which of its values are the same numbers moved around."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import parametrize

from shrinkproof.errors import UnsupportedLayerError

CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
WEIGHTED: Final = (*CONVOLUTIONS, nn.Linear)
"""Layers whose weight has the output channels on axis 0."""

_POOLS: Final = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
_POOL_FUNCTIONS: Final[frozenset[Any]] = frozenset(
    {
        *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, torch.mean, "mean"),
        *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    }
)
_ADDITIONS: Final[frozenset[Any]] = frozenset(
    {operator.add, operator.iadd, torch.add, "add", "add_"}
)
_RELUS: Final[frozenset[Any]] = frozenset(
    {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}
)
_MOVERS: Final = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.Flatten, nn.Unflatten, nn.Identity, nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
)
_MOVER_FUNCTIONS: Final[frozenset[Any]] = frozenset(
    {
        *(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d),
        *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.dropout, F.dropout2d),
        *(F.channel_shuffle, F.pixel_shuffle, F.pixel_unshuffle),
        *(torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze),
        *(torch.unsqueeze, torch.narrow, operator.getitem),
        *("flatten", "reshape", "view", "permute", "transpose", "squeeze", "unsqueeze"),
        *("contiguous", "clone", "narrow", "expand"),
    }
)
_JOINS: Final[frozenset[Any]] = frozenset({torch.cat, torch.concat, torch.concatenate, torch.stack})
_WEIGHTED_FUNCTIONS: Final[frozenset[Any]] = frozenset(
    {
        *(F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.linear),
        *(torch.matmul, torch.bmm, torch.mm, torch.einsum, operator.matmul, "matmul", "bmm"),
        F.scaled_dot_product_attention,
    }
)
# What symbolic execution raises when Python code asks a placeholder for a concrete value.
_TRACING_ERRORS: Final = (
    *(fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError),
    *(NotImplementedError, IndexError, KeyError),
)


class _Tracer(fx.Tracer):
    """Symbolic tracing that keeps constrained layers whole and remembers where it failed."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether the module is one node; constrained layers are."""
        return parametrize.is_parametrized(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Trace one module; the innermost one that fails gives its name to the message."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except _TRACING_ERRORS:
            self.failed = self.failed or self.path_of_module(m)
            raise


def trace(model: nn.Module) -> fx.GraphModule:
    """Return the graph of a model; it shares the model's layers, under the same names.

    Raises:
        UnsupportedLayerError: the model's Python code depends on the values of tensors.
    """
    if isinstance(model, fx.GraphModule):
        return fx.GraphModule(model, _copy_graph(model.graph))
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except _TRACING_ERRORS as error:
        place = f"module {tracer.failed!r}" if tracer.failed else "the model"
        reason = str(error).strip().splitlines()
        raise UnsupportedLayerError(
            f"{type(model).__name__}: {place} cannot be traced into a graph, which folding and "
            "quantization need: its Python code must not depend on the values of tensors; got "
            f"{type(error).__name__}: {reason[0] if reason else 'no message'}. "
            "Rewrite the branch or loop, or leave these steps out for this model."
        ) from error
    return fx.GraphModule(tracer.root, graph)


def _copy_graph(graph: fx.Graph) -> fx.Graph:
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    return copied


def layer_of(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the layer that a node calls, or None where it calls a function."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def calls(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """Return layer name -> the nodes that call it; a shared layer has several."""
    found: dict[str, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            found.setdefault(str(node.target), []).append(node)
    return found


def is_weighted(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node is a convolution or a linear layer that can be quantized."""
    return isinstance(layer_of(graph, node), WEIGHTED)


def is_operator(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node computes new numbers that integer kernels exist for."""
    layer = layer_of(graph, node)
    if layer is not None:
        return isinstance(layer, (*WEIGHTED, *_POOLS))
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target in _ADDITIONS:
        # A sum with a constant or of three things is plain arithmetic, not a residual addition.
        values = node.all_input_nodes
        return len(values) == 2 and not node.kwargs and not any(map(is_shape, values))
    return node.target in _POOL_FUNCTIONS


def is_relu(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node is a rectifier."""
    return isinstance(layer_of(graph, node), nn.ReLU) or (
        node.op in ("call_function", "call_method") and node.target in _RELUS
    )


def is_mover(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node only selects, moves, or zeroes numbers of its first input.

    The output then needs no quantizer of its own: zero is on every quantizer's grid.
    """
    if is_relu(graph, node):
        return True
    layer = layer_of(graph, node)
    if layer is not None:
        return isinstance(layer, _MOVERS) and not getattr(layer, "return_indices", False)
    if node.target is F.pad:
        return _is_zero_pad(node)
    if node.op not in ("call_function", "call_method") or node.target not in _MOVER_FUNCTIONS:
        return False
    source = node.args[0] if node.args else None
    return isinstance(source, fx.Node) and not is_shape(source) and not _is_tuple(source)


def is_join(node: fx.Node) -> bool:
    """Return whether a node only puts the numbers of several inputs side by side."""
    return node.op == "call_function" and node.target in _JOINS


def _is_zero_pad(node: fx.Node) -> bool:
    mode = node.kwargs.get("mode", node.args[2] if len(node.args) > 2 else "constant")
    value = node.kwargs.get("value", node.args[3] if len(node.args) > 3 else None)
    return mode in ("replicate", "reflect", "circular") or (mode == "constant" and not value)


def is_shape(node: fx.Node) -> bool:
    """Return whether a node holds sizes (``x.shape[0] * 2``) rather than a tensor."""
    if node.op == "call_method" and node.target in ("size", "dim", "numel"):
        return True
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    inputs = node.all_input_nodes
    return node.op == "call_function" and bool(inputs) and all(map(is_shape, inputs))


def _is_tuple(node: fx.Node) -> bool:
    """Return whether a node gives several tensors, so that indexing picks one of them."""
    return node.target in ("chunk", "split", "unbind", torch.chunk, torch.split, torch.unbind)


def unsupported_calls(graph: fx.GraphModule) -> Iterator[tuple[str, str]]:
    """Yield ``(node name, reason)`` for weighted arithmetic that is not a plain layer."""
    for node in graph.graph.nodes:
        layer = layer_of(graph, node)
        if isinstance(layer, nn.modules.conv._ConvTransposeNd | nn.MultiheadAttention):
            yield str(node.target), f"{type(layer).__name__} stays in floating point"
        elif node.op.startswith("call_") and node.target in _WEIGHTED_FUNCTIONS:
            name = getattr(node.target, "__name__", node.target)
            yield node.name, f"a call of {name}, not a layer, stays in floating point"
