"""Small edits of an ONNX graph, and writing it so that equal models give equal bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from shrinkproof import __version__
from shrinkproof.errors import ExportError

OPSET: Final = 21
"""First version of the operator set that has 4-bit unsigned integers."""


_DEFAULTS: Final = frozenset(
    (operator, name, value)
    for operator in ("QuantizeLinear", "DequantizeLinear")
    for name, value in (("axis", 1), ("block_size", 0), ("output_dtype", 0), ("saturate", 1))
)
"""Attributes that say what is the case without them; they cost a small network 3 % of its file."""


class Graph:
    """An ONNX graph under edit: who makes and who uses a value, initializers by name.

    Args:
        model: edited in place.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.initializers: dict[str, onnx.TensorProto] = {
            tensor.name: tensor for tensor in model.graph.initializer
        }
        self.outputs: Final = frozenset(output.name for output in model.graph.output)
        self._hoist_constants()

    def _hoist_constants(self) -> None:
        kept = []
        for node in self.nodes:
            value = [a.t for a in node.attribute if a.name == "value"]
            if node.op_type == "Constant" and value:
                self.initializers[node.output[0]] = value[0]
            else:
                kept.append(node)
        self.nodes = kept

    def array(self, name: str) -> NDArray[Any]:
        """Return an initializer's numbers."""
        return np.asarray(numpy_helper.to_array(self.initializers[name]))

    def producer(self, value: str) -> onnx.NodeProto | None:
        """Return the node that makes a value; None for inputs and initializers."""
        return next((node for node in self.nodes if value in node.output), None)

    def users(self, value: str) -> Iterator[onnx.NodeProto]:
        """Yield the nodes that read a value."""
        return (node for node in self.nodes if value in node.input)

    def add_initializer(self, name: str, values: NDArray[Any]) -> str:
        """Store an array as an initializer; return its name."""
        self.initializers[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def add_uint4(self, name: str, values: NDArray[np.uint8]) -> str:
        """Store integers 0 to 15 as an initializer, two in a byte; return its name."""
        flat = values.reshape(-1)
        pairs = np.append(flat, np.uint8(0)) if flat.size % 2 else flat
        # The element with the lower index is in the lower half of the byte (ONNX, `TensorProto`).
        packed = (pairs[0::2] | (pairs[1::2] << 4)).astype(np.uint8)
        tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.UINT4, dims=values.shape)
        tensor.raw_data = packed.tobytes()
        self.initializers[name] = tensor
        return name

    def insert(self, before: onnx.NodeProto, nodes: Iterable[onnx.NodeProto]) -> None:
        """Insert nodes directly before another one."""
        position = next(i for i, node in enumerate(self.nodes) if node is before)
        self.nodes[position:position] = list(nodes)

    def insert_after(self, node: onnx.NodeProto, nodes: Iterable[onnx.NodeProto]) -> None:
        """Insert nodes directly after another one."""
        position = next(i for i, other in enumerate(self.nodes) if other is node)
        self.nodes[position + 1 : position + 1] = list(nodes)

    def redirect(self, old: str, new: str, users: Iterable[onnx.NodeProto]) -> None:
        """Let the given nodes read ``new`` where they read ``old``."""
        for node in users:
            for position, value in enumerate(node.input):
                if value == old:
                    node.input[position] = new

    def finish(self) -> onnx.ModelProto:
        """Return the edited model: nothing unused, no names of this machine, no stack traces."""
        used = {value for node in self.nodes for value in node.input} | self.outputs
        graph = onnx.GraphProto(name="network")
        for source, target in (
            (self.model.graph.input, graph.input),
            (self.model.graph.output, graph.output),
        ):
            for value in source:
                target.append(_bare_value(value))
        for node in self.nodes:
            graph.node.append(_bare_node(node))
        for name in sorted(self.initializers):
            if name in used:
                tensor = onnx.TensorProto()
                tensor.CopyFrom(self.initializers[name])
                tensor.name = name
                tensor.ClearField("doc_string")
                del tensor.metadata_props[:]
                graph.initializer.append(tensor)
        return helper.make_model(
            graph,
            producer_name="shrinkproof",
            producer_version=__version__,
            ir_version=self.model.ir_version,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )


def _bare_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Return the declaration of an input or output with the first axis called ``batch``."""
    bare = onnx.ValueInfoProto(name=value.name)
    bare.type.CopyFrom(value.type)
    axes = bare.type.tensor_type.shape.dim
    for position, axis in enumerate(axes):
        if axis.HasField("dim_param"):
            axis.dim_param = "batch" if position == 0 else f"axis_{position}"
    return bare


def _bare_node(node: onnx.NodeProto) -> onnx.NodeProto:
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    bare.ClearField("doc_string")
    del bare.metadata_props[:]
    for attribute in bare.attribute:
        attribute.ClearField("doc_string")
    ordered = sorted(
        (a for a in bare.attribute if (bare.op_type, a.name, a.i) not in _DEFAULTS),
        key=lambda attribute: str(attribute.name),
    )
    del bare.attribute[:]
    bare.attribute.extend(ordered)
    return bare


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        ExportError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            # `mkstemp` makes files that only their owner can read.
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"{path}: the file must be writable, got {error.strerror or error}; choose another "
            "folder or free some space"
        ) from error
