"""The choice of proposals of a two-stage detector in ONNX operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

_NONE: Final = np.float32(-3e38)
"""Stands for the objectness of what is no proposal."""

_VALID: Final = np.float32(-1e38)
"""Objectness above this is that of a proposal."""


def propose(
    objectness: Any,
    deltas: Any,
    cells: Sequence[float],
    grids: Sequence[int],
    size: Sequence[int],
    before: int,
    count: int,
    overlap: float,
    least: float,
) -> Any:
    """Return what `models.faster_rcnn_proposals.propose` does, (n, P, 4), for tracing.

    NonMaxSuppression gives as many rows as it keeps. Here it only marks which boxes stay, so that
    every shape is fixed.
    """
    from onnxscript import opset21 as op

    boxes, values = [], []
    first, start, kept = 0, 0, 0
    for tall, wide, each in zip(grids[0::3], grids[1::3], grids[2::3], strict=True):
        end = first + tall * wide * each
        most = min(before, end - first)
        own = op.Slice(objectness, _ints(first), _ints(end), _ints(1))
        value, place = op.TopK(own, _ints(most), axis=1)
        four = op.Expand(op.Unsqueeze(place, _ints(2)), _ints(1, 1, 4))
        moves = op.Slice(deltas, _ints(first), _ints(end), _ints(1))
        moves = op.GatherElements(moves, four, axis=1)
        anchors = _anchors(op, cells[start : start + 4 * each], (tall, wide, each), size)
        box = _moved(op, op.Gather(anchors, place), moves, size)
        boxes.append(box)
        values.append(_survivors(op, box, value, min(most, count), overlap, least))
        first, start, kept = end, start + 4 * each, kept + most
    best, place = op.TopK(op.Concat(*values, axis=1), _ints(min(count, kept)), axis=1)
    four = op.Expand(op.Unsqueeze(place, _ints(2)), _ints(1, 1, 4))
    found = op.GatherElements(op.Concat(*boxes, axis=1), four, axis=1)
    is_real = op.Unsqueeze(op.Greater(best, _float(_VALID)), _ints(2))
    found = op.Where(is_real, found, _float(0.0))
    return op.Pad(found, _ints(0, 0, 0, 0, count - kept, 0)) if kept < count else found


def _survivors(op: Any, boxes: Any, values: Any, most: int, overlap: float, least: float) -> Any:
    """Return the objectness (n, K) with what is no proposal at its lowest."""
    from shrinkproof.models.faster_rcnn_proposals import SMALLEST

    corners = [op.Slice(boxes, _ints(i), _ints(i + 2), _ints(2)) for i in (0, 2)]
    sides = op.ReduceMin(op.Sub(corners[1], corners[0]), _ints(2), keepdims=0)
    valid = op.GreaterOrEqual(sides, _float(SMALLEST))
    if least > float(_VALID):
        valid = op.And(valid, op.GreaterOrEqual(values, _float(least)))
    values = op.Where(valid, values, _float(_NONE))
    chosen = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(values, _ints(1)),
        _ints(most),
        op.Constant(value_floats=[overlap]),
        op.Constant(value_floats=[float(_VALID)]),
    )
    # Rows are image, class, box; there is one class.
    where = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(_float(1.0), op.Shape(chosen, start=0, end=1))
    marks = op.ScatterND(op.Mul(values, _float(0.0)), where, ones)
    return op.Where(op.Greater(marks, _float(0.5)), values, _float(_NONE))


def _anchors(op: Any, cells: Sequence[float], grid: tuple[int, ...], size: Sequence[int]) -> Any:
    """Return the anchors of a level, (h * w * a, 4), made of few numbers."""
    tall, wide, each = grid
    rows = np.arange(tall, dtype=np.float32) * (size[0] // tall)
    columns = np.arange(wide, dtype=np.float32) * (size[1] // wide)
    down = rows.reshape(-1, 1, 1, 1) * np.array([0, 1, 0, 1], np.float32)
    across = columns.reshape(1, -1, 1, 1) * np.array([1, 0, 1, 0], np.float32)
    base = np.array(cells, np.float32).reshape(1, 1, each, 4)
    placed = op.Add(op.Add(_array(op, base), _array(op, across)), _array(op, down))
    return op.Reshape(placed, _ints(-1, 4))


def _moved(op: Any, boxes: Any, deltas: Any, size: Sequence[int]) -> Any:
    """Return boxes (n, K, 4) moved by deltas and cut at the border of the image."""
    from shrinkproof.models.faster_rcnn_proposals import LARGEST_GROWTH

    def half(values: Any, number: int) -> Any:
        return op.Slice(values, _ints(2 * number), _ints(2 * number + 2), _ints(2))

    sides = op.Sub(half(boxes, 1), half(boxes, 0))
    middle = op.Add(half(boxes, 0), op.Mul(sides, _float(0.5)))
    centers = op.Add(middle, op.Mul(half(deltas, 0), sides))
    growth = op.Exp(op.Min(half(deltas, 1), _float(LARGEST_GROWTH)))
    halves = op.Mul(op.Mul(growth, sides), _float(0.5))
    limits = op.Constant(value_floats=[float(size[1]), float(size[0])])
    corners = [
        op.Min(op.Max(corner, _float(0.0)), limits)
        for corner in (op.Sub(centers, halves), op.Add(centers, halves))
    ]
    return op.Concat(*corners, axis=2)


def _ints(*values: int) -> Any:
    from onnxscript import opset21 as op

    return op.Constant(value_ints=list(values))


def _float(value: float | np.floating[Any]) -> Any:
    from onnxscript import opset21 as op

    return op.Constant(value_float=float(value))


def _array(op: Any, values: Any) -> Any:
    from onnx import numpy_helper

    return op.Constant(value=numpy_helper.from_array(values))
