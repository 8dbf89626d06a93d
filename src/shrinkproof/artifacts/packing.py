"""Clustered weights as small indices and a table, in operators every ONNX runtime has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from shrinkproof.artifacts.levels import distinct, index_of
from shrinkproof.artifacts.proto import Graph
from shrinkproof.errors import ExportError
from shrinkproof.records import Change

OVERHEAD: Final = 256
"""Bytes that the two extra operators and names cost in the file, about."""

LARGEST: Final = 256
"""Values of a table whose indices take a byte."""


def clustered_tensors(changes: Iterable[Change]) -> tuple[str, ...]:
    """Return the names of the weights that a recipe clustered, in order, each once."""
    names: dict[str, None] = {}
    for change in changes:
        if change.step == "cluster":
            names.update(dict.fromkeys(change.layers))
    return tuple(names)


def pack(graph: Graph, name: str, values: NDArray[Any], nbytes: int | None = None) -> str:
    """Store a tensor as indices and a table of its distinct values; return the rebuilt value.

    Up to 16 values take 4 bits a weight, up to 256 take 8. The runtime rebuilds the tensor while
    it loads the file; the numbers are bit-equal.

    Args:
        graph: edited; the operators are put in front of the first user of ``name``.
        name: of the weight; unused where packing would not save bytes.
        values: the weight's numbers, any dtype.
        nbytes: what they take unpacked, where that is less than in their dtype.

    Returns:
        The name of the rebuilt tensor, or an empty text where packing would not save bytes.

    Raises:
        ExportError: the tensor has more than 256 distinct values.
    """
    unsigned = values.reshape(-1).view(f"u{values.dtype.itemsize}")
    found = distinct(unsigned)
    if found is None or found.size > LARGEST:
        raise ExportError(
            f"{name}: a clustered weight must have at most {LARGEST} values, got "
            f"{np.unique(values).size}; was it trained or folded after `cluster`?"
        )
    table = found.view(values.dtype)
    half = table.size <= 16
    packed = (values.size + 1) // 2 if half else values.size
    if packed + table.nbytes + OVERHEAD >= (values.nbytes if nbytes is None else nbytes):
        return ""
    positions = index_of(unsigned, found).reshape(values.shape)
    store = graph.add_uint4 if half else graph.add_initializer
    store(f"{name}.index", positions)
    graph.add_initializer(f"{name}.levels", table)
    if not np.array_equal(table[positions], values):
        raise ExportError(f"{name}: packing must be exact, but a rebuilt weight differs")
    nodes = [
        helper.make_node(
            "Cast",
            [f"{name}.index"],
            [f"{name}.position"],
            name=f"{name}.cast",
            to=onnx.TensorProto.INT32,
        ),
        helper.make_node(
            "Gather",
            [f"{name}.levels", f"{name}.position"],
            [f"{name}.rebuilt"],
            name=f"{name}.gather",
            axis=0,
        ),
    ]
    graph.insert(next(graph.users(name)), nodes)
    return f"{name}.rebuilt"
