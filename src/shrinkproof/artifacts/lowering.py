"""From imitated to real numbers: 8-bit weights, 32-bit biases, an unbroken integer path.

Weights whose arithmetic stays in floating point are stored small and rebuilt by operators that
the runtime evaluates once, while it loads the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from shrinkproof.artifacts.proto import Graph
from shrinkproof.errors import ExportError
from shrinkproof.records import Change

MOVERS: Final = frozenset(
    {
        *("Slice", "Pad", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
        *("Relu", "Expand", "DepthToSpace", "SpaceToDepth"),
    }
)
"""Operators that only move numbers of their first input, or write zeros."""

_ROUNDED: Final = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Operators whose float weights the runtime may round."""

SHORT_FLOATS: Final[dict[str, Any]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16),
}
"""Format name -> dtype of NumPy."""


def weight_formats(changes: Iterable[Change]) -> dict[str, str]:
    """Return weight name -> format, for the weights that a recipe made smaller on their own."""
    return {
        name: str(change.fields["format"])
        for change in changes
        if change.step == "quantize.weights"
        for name in change.layers
    }


def to_short_float(weight: NDArray[np.float32], kind: str, name: str) -> NDArray[Any]:
    """Return a weight in ``float16`` or ``bfloat16``.

    Raises:
        ExportError: a number is not exact in the format, so that the file would not be the model.
    """
    with np.errstate(over="ignore"):
        short: NDArray[Any] = weight.astype(SHORT_FLOATS[kind])
    off = int((short.astype(np.float32) != weight).sum())
    if off:
        raise ExportError(
            f"{name}: all weights must be exact in {kind}, got {off} of {weight.size} that are "
            "not; was the weight changed after quantization?"
        )
    return short


def to_integers(
    weight: NDArray[np.float32], scale: NDArray[np.float32], name: str, *, limit: int = 127
) -> NDArray[np.int8]:
    """Return the integers behind a weight on an integer grid.

    Args:
        weight: (out, ...) float32.
        scale: (out,) or (1,) float32.
        name: name of the weight, for messages.
        limit: largest integer; the smallest is its negative.

    Raises:
        ExportError: a weight is not on the grid, so that the file would not be the model.
    """
    steps = scale.reshape(-1, *[1] * (weight.ndim - 1))
    integers = np.rint(weight / steps)
    off = int((integers.astype(np.float32) * steps != weight).sum())
    if off or not np.isfinite(integers).all() or np.abs(integers).max(initial=0) > limit:
        raise ExportError(
            f"{name}: all weights must be whole multiples of {name}_scale, up to {limit} of them, "
            f"got {off} of {weight.size} that are not; was the weight changed after quantization?"
        )
    return np.asarray(integers, dtype=np.int8)


def store_values(graph: Graph, name: str, values: NDArray[Any], kind: str) -> str:
    """Store a weight's numbers in their format; return the name of the initializer."""
    if kind == "int4":
        # The two's complement in the lower four bits, in the layout of unsigned integers.
        stored = f"{name}.integer"
        graph.add_uint4(stored, (values.view(np.uint8) & 15).astype(np.uint8))
        graph.initializers[stored].data_type = onnx.TensorProto.INT4
        return stored
    suffix = kind if kind in SHORT_FLOATS else "integer"
    return graph.add_initializer(f"{name}.{suffix}", values)


def rebuild_weight(graph: Graph, name: str, scale: NDArray[np.float32] | None, stored: str) -> None:
    """Let all users of a weight read ``stored`` (a value of the graph) as float32, times a scale.

    Not DequantizeLinear: ONNX Runtime 1.31 never evaluates that operator while loading, so each
    inference would pay for it.
    """
    users = list(graph.users(name))
    value = f"{name}.float32"
    nodes = [
        helper.make_node("Cast", [stored], [value], name=value, to=onnx.TensorProto.FLOAT),
    ]
    if scale is not None:
        shape = [-1, *[1] * (len(graph.initializers[name].dims) - 1)] if scale.size > 1 else []
        factor = graph.add_initializer(f"{name}_scale", scale.reshape(shape))
        scaled = f"{name}.scaled"
        nodes.append(helper.make_node("Mul", [value, factor], [scaled], name=scaled))
        value = scaled
    graph.insert(users[0], nodes)
    graph.redirect(name, value, users)


def store_weight(graph: Graph, name: str, scale: NDArray[np.float32], integers: str) -> None:
    """Let all users of a weight read ``integers`` (a value of the graph) times the scale.

    Per output channel on axis 0, or per tensor where there is one scale.
    """
    per_tensor = scale.size == 1
    graph.add_initializer(f"{name}_scale", scale.reshape(()) if per_tensor else scale)
    node = _dequantize(graph, integers, f"{name}_scale", np.int8, name)
    users = list(graph.users(name))
    graph.insert(users[0], [node])
    graph.redirect(name, node.output[0], users)


def _dequantize(
    graph: Graph, integers: str, scale: str, dtype: type[np.signedinteger[Any]], stem: str
) -> onnx.NodeProto:
    """Return the operator that makes ``integers`` numbers, per channel where scales differ."""
    shape = graph.array(scale).shape
    # The zero point is optional in ONNX, but ONNX Runtime 1.31 fuses linear layers only with one.
    zeros = graph.add_initializer(
        f"zero.{np.dtype(dtype).name}.{'x'.join(map(str, shape)) or 'scalar'}",
        np.zeros(shape, dtype),
    )
    node = helper.make_node(
        "DequantizeLinear",
        [integers, scale, zeros],
        [f"{stem}.dequantized"],
        name=f"{stem}.dequantize",
    )
    if shape:
        node.attribute.append(helper.make_attribute("axis", 0))
    return node


def store_bias(graph: Graph, name: str, scale: NDArray[np.float32]) -> list[str]:
    """Store the biases beside a weight as 32-bit integers; return what had to stay float.

    The unit of a bias is the scale of the layer's input times the scale of its weight, so that
    the kernel adds it to the sum of integer products (Jacob et al. 2018, section 2.4).
    """
    left = []
    for node in list(graph.users(f"{name}.dequantized")):
        bias = node.input[2] if len(node.input) > 2 else ""
        source = graph.producer(node.input[0])
        if bias not in graph.initializers or source is None:
            continue
        if source.op_type != "DequantizeLinear":
            left.append(f"bias of {name}: the layer's input is not an 8-bit integer")
            continue
        unit = (graph.array(source.input[1]).astype(np.float32) * scale).astype(np.float32)
        unit = unit.reshape(-1)
        integers = np.rint(graph.array(bias).astype(np.float64) / unit)
        if np.abs(integers).max(initial=0) >= 2**31:
            left.append(f"bias of {name}: does not fit into 32 bits")
            continue
        _replace_bias(graph, node, integers.astype(np.int32), unit)
    return left


def _replace_bias(
    graph: Graph, node: onnx.NodeProto, integers: NDArray[np.int32], unit: NDArray[np.float32]
) -> None:
    # Named after the node, because layers that share a bias have inputs of different scale.
    stem = f"{node.name}.bias"
    graph.add_initializer(f"{stem}.integer", integers)
    graph.add_initializer(f"{stem}.scale", unit.reshape(()) if unit.size == 1 else unit)
    dequantize = _dequantize(graph, f"{stem}.integer", f"{stem}.scale", np.int32, stem)
    graph.insert(node, [dequantize])
    node.input[2] = dequantize.output[0]


def carry_integers(graph: Graph) -> int:
    """Repeat the quantizer behind operators that only move numbers; return how many.

    ``round((q - z) * s / s) + z`` is ``q`` again, so nothing changes; but a runtime fuses integer
    kernels only where each operator stands between its own pair.
    """
    count = 0
    for node in list(graph.nodes):
        source = graph.producer(node.input[0]) if node.op_type in MOVERS else None
        if source is None or source.op_type != "DequantizeLinear":
            continue
        users = list(graph.users(node.output[0]))
        if node.output[0] in graph.outputs or _is_requantized(users):
            continue
        parameters = list(source.input[1:])
        value = node.output[0]
        pair = [
            helper.make_node(
                "QuantizeLinear",
                [value, *parameters],
                [f"{value}.carried"],
                name=f"{node.name}.quantize",
            ),
            helper.make_node(
                "DequantizeLinear",
                [f"{value}.carried", *parameters],
                [f"{value}.again"],
                name=f"{node.name}.dequantize",
            ),
        ]
        graph.insert_after(node, pair)
        graph.redirect(value, f"{value}.again", users)
        count += 1
    return count


def input_channels(graph: Graph) -> dict[str, int]:
    """Return the value that a convolution or linear layer makes -> the channels that it reads.

    Call it while the weights are plain initializers.
    """
    found = {}
    for node in graph.nodes:
        if node.op_type not in _ROUNDED or node.input[1] not in graph.initializers:
            continue
        dims = graph.initializers[node.input[1]].dims
        settings = {a.name: a.i for a in node.attribute}
        if node.op_type == "Conv":
            found[node.output[0]] = dims[1] * settings.get("group", 1)
        else:
            found[node.output[0]] = dims[int(settings.get("transB", 0))]
    return found


def keep_in_float(graph: Graph, channels: dict[str, int]) -> list[str]:
    """Keep the runtime from rounding the weights of layers that stay in floating point.

    ONNX Runtime (1.31, WeightBiasQuantization) gives a float weight 8 bits and one scale where
    the layer reads a value that one scale dequantizes and its own result is quantized. So such a
    layer reads the same numbers through a dequantizer with a scale for each channel, all equal.

    Args:
        graph: with all quantizers in place and the weights stored.
        channels: from `input_channels`.

    Returns:
        What cannot be kept, with the reason.
    """
    left = []
    for node in list(graph.nodes):
        source = graph.producer(node.input[0]) if node.output[0] in channels else None
        weight = graph.producer(node.input[1]) if source is not None else None
        if source is None or source.op_type != "DequantizeLinear":
            continue
        if (weight is not None and weight.op_type == "DequantizeLinear") or not _is_quantized(
            graph, node
        ):
            continue
        count = channels[node.output[0]]
        if count == 1:
            left.append(f"{node.input[1]}: the runtime may use it as an 8-bit integer")
            continue
        graph.insert(node, [_dequantize_channels(graph, source, node, count)])
        node.input[0] = f"{node.name}.float"
    return left


def _is_quantized(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a result goes to a quantizer alone, limits in between aside."""
    users = list(graph.users(node.output[0]))
    while len(users) == 1 and users[0].op_type in ("Relu", "Clip"):
        users = list(graph.users(users[0].output[0]))
    return len(users) == 1 and users[0].op_type == "QuantizeLinear"


def _dequantize_channels(
    graph: Graph, source: onnx.NodeProto, node: onnx.NodeProto, count: int
) -> onnx.NodeProto:
    parameters = [
        graph.add_initializer(f"{name}.{count}", np.full(count, graph.array(name)))
        for name in source.input[1:]
    ]
    return helper.make_node(
        "DequantizeLinear",
        [source.input[0], *parameters],
        [f"{node.name}.float"],
        name=f"{node.name}.float",
        axis=1,
    )


def _is_requantized(users: list[onnx.NodeProto]) -> bool:
    return bool(users) and all(user.op_type == "QuantizeLinear" for user in users)
