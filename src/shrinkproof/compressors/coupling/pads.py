"""Channels of zeros that a call adds (the shortcut without parameters of He et al. 2015).

The new channels belong to no parameter, and their number stands in Python code. They get atoms of
their own; a cut traces the one module that makes the call and edits the numbers there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from shrinkproof.compressors.coupling.atoms import Labels
from shrinkproof.compressors.coupling.shadow import Shadow
from shrinkproof.compressors.coupling.state import Call, PadCall, State
from shrinkproof.errors import ModelError
from shrinkproof.records import Json

_PADS: Final[frozenset[Any]] = frozenset({F.pad, torch.constant_pad_nd, torch._C._nn.pad})


def padded(state: State, call: Call) -> None:
    """Constant padding: labels are kept over space; new channels of zeros get new labels."""
    x, amounts = call.args[0], call.arg(1, "pad")
    pairs = {k: tuple(amounts[2 * k : 2 * k + 2]) for k in range(len(amounts) // 2)}
    pairs = {k: pair for k, pair in pairs.items() if pair != (0, 0)}
    ordinals = {k: state.frame.pads[k] for k in pairs}
    state.frame.pads.update(pairs.keys())
    shadow = state.shadow(x)
    if shadow is None:
        return
    labels = shadow.labels
    for pair, (before, after) in pairs.items():
        dim = x.ndim - 1 - pair
        if not shadow.varies(dim):
            continue
        if min(before, after) < 0:
            reason = f"{state.where(call)} cuts channels off at fixed positions"
            state.atoms.lock(shadow.labels, reason)
            return
        site = _site(state, pair, ordinals[pair], before, after)
        reason = _why_fixed(state, call, site)
        if reason:
            state.atoms.lock(
                np.concatenate([shadow.labels.ravel(), site.before, site.after]), reason
            )
        labels = _extended(labels, dim, site.before, site.after)
    state.give(call.out, Shadow(tuple(call.out.shape), labels))


def _why_fixed(state: State, call: Call, site: PadCall) -> str:
    """Return why the number of new channels cannot be edited; empty where it can."""
    where = state.where(call)
    if call.arg(2, "value", 0):
        return f"{where} adds channels that are not zero"
    module = state.frame.module
    if not state.frame.name and not isinstance(module, fx.GraphModule):
        return (
            f"{where} adds channels in the forward code of the model itself; "
            "move that call into a module of its own"
        )
    try:
        graph = _graph_of(module)
        find(graph, site.pair, site.ordinal, (site.before.size, site.after.size))
        _check_training(module, graph)
    except ModelError as error:
        return f"{where} adds channels in code that cannot be edited ({error})"
    return ""


def _site(state: State, pair: int, ordinal: int, before: int, after: int) -> PadCall:
    """Return the call's record; a module that runs several times has one."""
    name = state.frame.name
    site = state.pads.get((name, pair, ordinal))
    if site is None or (site.before.size, site.after.size) != (before, after):
        fresh = state.atoms.fresh
        site = PadCall(name, pair, ordinal, fresh(before), fresh(after))
        # Numbers that change from call to call are not constant; all their calls are fixed.
        state.pads.setdefault((name, pair, ordinal), site)
    return site


def _extended(labels: Labels, dim: int, before: Labels, after: Labels) -> Labels:
    shape = list(labels.shape)
    shape[dim] = -1
    ones = [1] * labels.ndim
    parts = []
    for new in (before, after):
        ones[dim] = new.size
        rest = [n if d != dim else new.size for d, n in enumerate(labels.shape)]
        parts.append(np.broadcast_to(new.reshape(ones), rest))
    return np.concatenate([parts[0], labels, parts[1]], axis=dim)


class Edit(NamedTuple):
    """A change of one call.

    Attributes:
        module: name of the module that makes the call.
        pair: position of the channel axis in the padding, counted from the last axis.
        ordinal: how many such calls come before this one.
        before: numbers of channels on both sides as they are.
        after: numbers of channels on both sides from now on.
    """

    module: str
    pair: int
    ordinal: int
    before: tuple[int, int]
    after: tuple[int, int]

    @classmethod
    def of(cls, account: Json) -> Edit:
        """Return the change that an account describes."""
        first, last = account["before"], account["after"]
        place = (account["module"], account["pair"], account["ordinal"])
        return cls(*place, (first[0], first[1]), (last[0], last[1]))


class _LocalTracer(fx.Tracer):
    """Traces the code of one module and nothing below it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Return True: the module's children stay calls."""
        return True


def _graph_of(module: nn.Module) -> fx.Graph:
    """Return the graph of one module's own code.

    Raises:
        ModelError: it cannot be traced.
    """
    if isinstance(module, fx.GraphModule):
        return module.graph
    try:
        return _LocalTracer().trace(module)
    # Symbolic execution of foreign code fails in any way; the reason is reported.
    except Exception as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{type(module).__name__} cannot be traced: {text}") from error


def _check_training(module: nn.Module, graph: fx.Graph) -> None:
    """Refuse code that the graph repeats in one mode only, such as a dropout function.

    Raises:
        ModelError: in training the module computes something else.
    """
    if isinstance(module, fx.GraphModule):
        return
    module.training = not module.training
    try:
        other = _graph_of(module)
    finally:
        module.training = not module.training
    if str(other) != str(graph):
        raise ModelError(f"{type(module).__name__} computes something else in training")


def find(graph: fx.Graph, pair: int, ordinal: int, amounts: tuple[int, int]) -> fx.Node:
    """Return the node of a call that pads channels.

    Raises:
        ModelError: there is no such call with these numbers.
    """
    nodes = list(_padding(graph, pair))
    if len(nodes) <= ordinal:
        raise ModelError("its padding is not made of constant numbers")
    pad = _amounts(nodes[ordinal])
    if pad[2 * pair : 2 * pair + 2] != list(amounts):
        raise ModelError(f"its padding is {pad}, and {amounts} was observed")
    return nodes[ordinal]


def _padding(graph: fx.Graph, pair: int) -> Iterator[fx.Node]:
    for node in graph.nodes:
        if (
            node.op == "call_function"
            and node.target in _PADS
            and any(_amounts(node)[2 * pair : 2 * pair + 2])
        ):
            yield node


def _amounts(node: fx.Node) -> list[int]:
    """Return the numbers of a padding; empty where they are computed."""
    pad = node.args[1] if len(node.args) > 1 else node.kwargs.get("pad")
    if not isinstance(pad, (list, tuple)) or not all(type(n) is int for n in pad):
        return []
    return [int(n) for n in pad]


def check(model: nn.Module, edit: Edit) -> None:
    """Raise where a call cannot be edited.

    Raises:
        ModelError: there is no such module, or no such call in it.
    """
    _located(model, edit)


def _located(model: nn.Module, edit: Edit) -> tuple[nn.Module, fx.Graph, fx.Node]:
    try:
        module = model.get_submodule(edit.module)
    except AttributeError as error:
        raise ModelError(
            f"{edit.module}: must be a module that adds channels of zeros, got none of that name; "
            "give the architecture that was cut"
        ) from error
    graph = _graph_of(module)
    return module, graph, find(graph, edit.pair, edit.ordinal, edit.before)


def apply(model: nn.Module, edit: Edit) -> None:
    """Change how many zero channels one call adds, in place.

    The module that makes the call stays the same object with all that it holds. Its class becomes
    a subclass whose forward is the edited code, unless it is a graph module.

    Raises:
        ModelError: there is no such module, or no such call in it.
    """
    module, graph, node = _located(model, edit)
    pad = _amounts(node)
    pad[2 * edit.pair : 2 * edit.pair + 2] = edit.after
    if len(node.args) > 1:
        node.update_arg(1, pad)
    else:
        node.update_kwarg("pad", pad)
    if isinstance(module, fx.GraphModule):
        module.recompile()
        return
    kind = type(module)
    forward = type(fx.GraphModule(module, graph)).forward
    module.__class__ = type(kind.__name__, (kind,), {"forward": forward})
