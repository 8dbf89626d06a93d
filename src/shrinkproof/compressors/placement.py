"""Where the activation quantizers of a network belong, and putting them there.

Every number that an integer kernel reads or writes gets exactly one quantizer, at the place where
it is computed; operations that only move numbers around (slicing, zero padding, max pooling,
flattening, rectifiers) pass its grid on. What leads to the network's output stays in floating
point.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import fx, nn

from shrinkproof.compressors.activation import ActivationQuantizer
from shrinkproof.compressors.graph import is_mover, is_operator, is_relu, layer_of


def attach(graph: fx.GraphModule, owner: str) -> dict[str, fx.Node]:
    """Insert activation quantizers, in place; return their names and nodes in graph order.

    Args:
        graph: a folded network.
        owner: name of the submodule that will hold the quantizers.
    """
    chosen: dict[str, fx.Node] = {}
    for node in _places(graph):
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


def _places(graph: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes after which a quantizer belongs, in graph order."""
    wanted: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if not is_operator(graph, node):
            continue
        wanted.update(_source(graph, value) for value in node.all_input_nodes[:2])
        wanted.add(_merged_rectifier(graph, node))
    return [
        node
        for node in graph.graph.nodes
        if node in wanted and not all(_leads_to_output(graph, user) for user in node.users)
    ]


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
    return is_mover(graph, node) and all(_leads_to_output(graph, user) for user in node.users)
