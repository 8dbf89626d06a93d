"""Where the activation quantizers of a network belong, and putting them there.

Every number that an integer kernel reads or writes gets exactly one quantizer, at the place where
it is computed; operations that only move numbers around (slicing, zero padding, max pooling,
flattening, rectifiers) pass its grid on. What leads to the network's output, perhaps joined with
other outputs as in the heads of a detector, stays in floating point.

Where only some layers are quantized, these are the numbers that those layers read and write, and
those of the additions and poolings among them. An operation is among them if no number reaches it
from another layer unless a quantized one has written or reads that number on the way, and if its
own numbers go on to a quantized layer wherever they go on to another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch.nn.functional as F
from torch import fx, nn

from shrinkproof.compressors.activation import ActivationQuantizer
from shrinkproof.compressors.graph import (
    is_join,
    is_mover,
    is_operator,
    is_relu,
    is_shape,
    is_weighted,
    layer_of,
)


def attach(graph: fx.GraphModule, owner: str, layers: Collection[str]) -> dict[str, fx.Node]:
    """Insert activation quantizers, in place; return their names and nodes in graph order.

    Args:
        graph: a folded network.
        owner: name of the submodule that will hold the quantizers.
        layers: names of the layers to quantize.
    """
    chosen: dict[str, fx.Node] = {}
    for node in _places(graph, layers):
        name = f"{owner}.{node.name}"
        graph.add_submodule(name, ActivationQuantizer())
        with graph.graph.inserting_after(node):
            quantizer = graph.graph.call_module(name, (node,))

        def reads_integers(user: fx.Node, quantizer: fx.Node = quantizer) -> bool:
            return user is not quantizer and not _leads_to_output(graph, user)

        node.replace_all_uses_with(quantizer, delete_user_cb=reads_integers)
        chosen[name] = quantizer
    graph.recompile()
    # New submodules start in training mode.
    graph.train(graph.training)
    return chosen


def input_places(graph: fx.GraphModule, layer: str, places: dict[str, fx.Node]) -> list[str]:
    """Return the quantizers whose grid the inputs of a layer are on; one per call of the layer."""
    found = []
    for node in graph.graph.nodes:
        if node.op != "call_module" or node.target != layer:
            continue
        source = node.all_input_nodes[0]
        while source.target not in places and is_mover(graph, source):
            source = source.all_input_nodes[0]
        if source.target in places:
            found.append(str(source.target))
    return found


def left_out(graph: fx.GraphModule, layers: Collection[str]) -> list[fx.Node]:
    """Return the additions and poolings that do not lie among the given layers, in graph order.

    Args:
        graph: a folded network, without quantizers.
        layers: names of the layers to quantize.
    """
    nodes = tuple(graph.graph.nodes)
    weighted = [node for node in nodes if is_weighted(graph, node)]
    chosen = [node for node in weighted if node.target in layers]
    others = {node for node in weighted if node.target not in layers}
    known = _read_and_written(graph, chosen).union(chosen)
    between = [node for node in nodes if not (node in known or node in others or is_shape(node))]
    behind = others - known
    for node in between:
        if not behind.isdisjoint(node.all_input_nodes):
            behind.add(node)
    stopping = _leading(between, others) - _leading(between, known)
    return [
        node
        for node in nodes
        if is_operator(graph, node)
        and not is_weighted(graph, node)
        and (node in stopping or not behind.isdisjoint(node.all_input_nodes))
    ]


def _leading(between: list[fx.Node], targets: set[fx.Node]) -> set[fx.Node]:
    """Return the nodes whose numbers reach a target through nothing but such nodes."""
    found: set[fx.Node] = set()
    for node in reversed(between):
        if any(user in targets or user in found for user in node.users):
            found.add(node)
    return found


def _places(graph: fx.GraphModule, layers: Collection[str]) -> list[fx.Node]:
    """Return the nodes after which a quantizer belongs, in graph order."""
    left = set(left_out(graph, layers))
    wanted = _read_and_written(
        graph,
        (
            node
            for node in graph.graph.nodes
            if is_operator(graph, node)
            and node not in left
            and (node.target in layers or not is_weighted(graph, node))
        ),
    )
    return [
        node
        for node in graph.graph.nodes
        if node in wanted
        and not all(is_shape(user) or _leads_to_output(graph, user) for user in node.users)
    ]


def _read_and_written(graph: fx.GraphModule, operators: Iterable[fx.Node]) -> set[fx.Node]:
    """Return the nodes that compute what operators read, and what they write."""
    found: set[fx.Node] = set()
    for node in operators:
        found.update(_source(graph, value) for value in node.all_input_nodes[:2])
        found.add(_merged_rectifier(graph, node))
    return found


def _source(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return where the numbers of a node are computed; with a merged rectifier, the rectifier."""
    while is_mover(graph, node):
        before = node.all_input_nodes[0]
        if not is_mover(graph, before) and _merged_rectifier(graph, before) is node:
            return node
        node = before
    return node


def _merged_rectifier(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return the rectifier that is a node's only user, else the node itself."""
    users = list(node.users)
    rectified = len(users) == 1 and (is_relu(graph, users[0]) or _is_capped(graph, users[0]))
    return users[0] if rectified else node


def _is_capped(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node is a rectifier with an upper limit (ReLU6).

    The quantizer behind it cuts at the same limits, so an integer kernel needs no extra operator.
    The limit need not be on the grid of its input, so unlike a plain rectifier it is no mover.
    """
    layer = layer_of(graph, node)
    if isinstance(layer, nn.Hardtanh):
        return float(layer.min_val) == 0.0
    return node.op == "call_function" and node.target is F.relu6


def _leads_to_output(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node's numbers reach nothing but the network's output."""
    if node.op == "output":
        return True
    moves = is_mover(graph, node) or is_join(node)
    return moves and all(_leads_to_output(graph, user) for user in node.users)
