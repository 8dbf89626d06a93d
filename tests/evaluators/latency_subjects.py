"""Exported networks of a chosen size, and subjects around them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shrinkproof.evaluators.subject import Subject
from shrinkproof.models.loaded import Preprocess
from shrinkproof.records import Cell

SHAPE = (3, 8, 8)


def write_network(folder: Path, width: int = 8, *, batch: str | int = "N") -> Path:
    """Write a network with one hidden layer of so many units, for a free or a fixed batch."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(width)
    weights = {
        "first": rng.normal(size=(3, width)).astype(np.float32),
        "second": rng.normal(size=(width, 4)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
            helper.make_node("MatMul", ["features", "first"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
        ],
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return path


def subject_of(folder: Path, reference: Path, **others: object) -> Subject:
    """Return a subject whose files lie in a folder."""
    subject = Subject(
        cell=Cell(folder.name, folder.name, "latency", "artifact"),
        predict=lambda inputs: inputs,
        preprocess=Preprocess(),
        num_classes=4,
        folder=folder,
        reference=reference,
        facts={"input_shape": list(SHAPE)},
    )
    return replace(subject, **others)  # type: ignore[arg-type]
