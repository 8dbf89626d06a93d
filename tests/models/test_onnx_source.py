"""Models of which only an ONNX file exists: logits, boxes in every layout, bad files."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from shrinkproof.artifacts.making import make_files
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.detecting import Detector
from shrinkproof.errors import DataError, ModelError
from shrinkproof.models.box_outputs import BoxOutputs
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, fingerprint, load_model
from shrinkproof.records import Candidate

SIDE = (8, 16)
WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4) / 10


def save(path: Path, nodes, outputs, initializers, *, batch: int | str = "n") -> Path:
    """Write a network whose outputs have the given shapes."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *SIDE])],
        [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


def classifier(path: Path, *, batch: int | str = "n") -> Path:
    """Write a network whose logits are the mean colors times `WEIGHTS`."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colors"]),
        helper.make_node("MatMul", ["colors", "weights"], ["logits"]),
    ]
    outputs = {"logits": (TensorProto.FLOAT, [batch, 4])}
    return save(path, nodes, outputs, {"weights": WEIGHTS}, batch=batch)


def detector(path: Path, boxes, labels, *, batch: int | str = "n", images: bool = True) -> Path:
    """Write a network with given boxes and labels; the score of each is the image's mean.

    ``images``: whether the outputs have an axis for the images.
    """
    count = len(labels)
    rows = [batch] if images else []
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Add", ["column", "nothing"], ["by_image"]),
        helper.make_node("Shape", ["mean"], ["n"]),
        helper.make_node("Concat", ["n", "box_shape"], ["all_boxes"], axis=0),
        helper.make_node("Concat", ["n", "label_shape"], ["all_labels"], axis=0),
        helper.make_node("Expand", ["box", "all_boxes"], ["box_by_image"]),
        helper.make_node("Expand", ["label", "all_labels"], ["label_by_image"]),
    ]
    for name in ("boxes", "scores", "labels"):
        source = {"boxes": "box_by_image", "scores": "by_image", "labels": "label_by_image"}[name]
        kind = "Identity" if images else "Squeeze"
        nodes.append(helper.make_node(kind, [source] + ([] if images else ["zero"]), [name]))
    values = {
        "one": np.array([1]),
        "zero": np.array([0]),
        "nothing": np.zeros((1, count), np.float32),
        "box_shape": np.array([count, 4]),
        "label_shape": np.array([count]),
        "box": np.array(boxes, np.float32).reshape(1, count, 4),
        "label": np.array(labels, np.int64).reshape(1, count),
    }
    outputs = {
        "boxes": (TensorProto.FLOAT, [*rows, count, 4]),
        "labels": (TensorProto.INT64, [*rows, count]),
        "scores": (TensorProto.FLOAT, [*rows, count]),
    }
    return save(path, nodes, outputs, values, batch=batch)


def spec(path: Path, **others) -> ModelSpec:
    settings = {"preprocess": Preprocess(), **others}
    return ModelSpec(use=f"onnx:{path.name}", **settings)


def load(path: Path, **others):
    return load_model(spec(path, **others), {"study": path.parent})


def images(count: int = 3) -> torch.Tensor:
    levels = torch.linspace(0.1, 0.9, count)[:, None, None, None]
    return levels.expand(count, 3, *SIDE).contiguous()


@pytest.mark.parametrize("batch", ["n", 1])
def test_logits_are_the_files_whatever_its_batch(tmp_path, batch):
    loaded = load(classifier(tmp_path / "m.onnx", batch=batch))
    assert (loaded.num_classes, loaded.input_shape, loaded.detector) == (4, (3, *SIDE), None)
    found = loaded.module(images())
    np.testing.assert_allclose(found, images().mean((2, 3)).numpy() @ WEIGHTS, rtol=1e-5)


CORNERS = [[1, 2, 5, 6], [4, 0, 16, 8]]
LAYOUTS = {
    "xyxy": CORNERS,
    "xywh": [[1, 2, 4, 4], [4, 0, 12, 8]],
    "cxcywh": [[3, 4, 4, 4], [10, 4, 12, 8]],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("is_normalized", [False, True])
@pytest.mark.parametrize(("batch", "has_images"), [("n", True), (1, True), (1, False)])
def test_boxes_of_every_layout_are_corners_in_pixels(
    tmp_path, layout, is_normalized, batch, has_images
):
    boxes = np.array(LAYOUTS[layout], np.float32)
    if is_normalized:
        boxes = boxes / [16, 8, 16, 8]
    path = detector(tmp_path / "m.onnx", boxes, [1, 3], batch=batch, images=has_images)
    settings = BoxOutputs(format=layout, is_normalized=is_normalized, first_label=1)
    loaded = load(path, boxes=settings, classes=3)
    assert isinstance(loaded.detector, Detector)
    assert (loaded.num_classes, loaded.preprocess.size) == (3, SIDE)
    outputs = loaded.module(images()).numpy()
    assert outputs.shape == (3, 2, 6)
    for found, level in zip(loaded.detector.decode(outputs), (0.1, 0.5, 0.9), strict=True):
        np.testing.assert_allclose(found.boxes, CORNERS, atol=1e-5)
        np.testing.assert_allclose(found.score, level, rtol=1e-5)
        assert found.label.tolist() == [0, 2]


def test_background_is_no_box_and_unknown_labels_are_an_error(tmp_path):
    settings = BoxOutputs(first_label=1)
    path = detector(tmp_path / "m.onnx", CORNERS, [0, 1])
    loaded = load(path, boxes=settings, classes=2)
    outputs = loaded.module(images(1)).numpy()
    (found,) = loaded.detector.decode(outputs)
    assert found.label.tolist() == [0]
    outputs[0, 0, 4:] = (-1, 9)  # fills up, whatever it says
    assert len(loaded.detector.decode(outputs)[0].score) == 1
    outputs[0, 0, 4] = 0.5
    with pytest.raises(DataError, match="labels must be below 3, got 9"):
        loaded.detector.decode(outputs)


def test_images_without_boxes_give_none(tmp_path):
    path = detector(tmp_path / "m.onnx", np.zeros((0, 4)), [])
    loaded = load(path, boxes=BoxOutputs(), classes=2)
    found = loaded.detector.decode(loaded.module(images(2)).numpy())
    assert [len(one.boxes) for one in found] == [0, 0]


def test_a_detector_may_know_one_class(tmp_path):
    path = detector(tmp_path / "one.onnx", [[1, 2, 3, 4]], [1])
    loaded = load(path, boxes=BoxOutputs(first_label=1), classes=1)
    assert loaded.num_classes == 1
    (found,) = loaded.module.decode(loaded.module(images(1)).numpy())
    assert found.label.tolist() == [0]


def test_a_rehearsal_runs_the_file_and_exports_nothing(tmp_path):
    from shrinkproof.study.rehearsal import _try

    loaded = load(classifier(tmp_path / "net.onnx"))
    _try(None, loaded, {}, ())


def test_settings_may_stand_in_a_study_file(tmp_path):
    path = detector(tmp_path / "m.onnx", CORNERS, [0, 1])
    first = spec(path, boxes={"format": "xyxy"}, classes=2)
    other = spec(path, boxes={"format": "xywh"}, classes=2)
    roots = {"study": tmp_path}
    assert first.boxes == BoxOutputs()
    assert fingerprint(first, roots) == fingerprint(spec(path, boxes={}, classes=2), roots)
    assert fingerprint(first, roots) != fingerprint(other, roots)
    with pytest.raises(ValueError, match="format"):
        spec(path, boxes={"format": "corners"}, classes=2)


def test_the_candidate_is_the_users_file_and_its_weights_are_counted(tmp_path):
    path = classifier(tmp_path / "m.onnx")
    module = load(path).module
    folder = tmp_path / "candidate"
    facts = make_files(
        folder,
        module=module,
        changes=(),
        candidate=Candidate(key="0" * 16, model="m", recipe="baseline"),
        example=images(1),
    )
    assert (folder / "model.onnx").read_bytes() == path.read_bytes()
    assert facts["cost.bytes"] == path.stat().st_size
    assert (facts["cost.parameters"], facts["cost.nonzero"]) == (12, 11)
    assert facts["cost.macs"] is None
    assert "exported elsewhere" in facts["undefined"]["cost.macs"]
    assert json.loads((folder / "layers.json").read_text())["totals"]["parameters"] == 12


def test_copies_run_the_same_file(tmp_path):
    module = load(classifier(tmp_path / "m.onnx")).module
    for other in (copy.deepcopy(module), Recipe().restore(module, ())):
        assert torch.equal(other(images()), module(images()))


def test_bad_files_and_settings_are_named(tmp_path):
    path = detector(tmp_path / "m.onnx", CORNERS, [0, 1])
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    fixed = classifier(tmp_path / "fixed.onnx", batch=4)
    for call, told in (
        (lambda: load(tmp_path / "none.onnx"), "model 'onnx:none.onnx': the file must exist"),
        (lambda: load(tmp_path / "broken.onnx"), "must be an ONNX file"),
        (lambda: load(fixed), "batch size must be free or 1, got 4"),
        (lambda: load(path, boxes=BoxOutputs(boxes="rois"), classes=2), "outputs rois, scores"),
        (lambda: load(path, boxes=BoxOutputs()), "'classes' must be the number of classes"),
        (lambda: load(path, boxes=BoxOutputs(boxes="scores"), classes=2), "outputs must be boxes"),
        (
            lambda: load(path, boxes=BoxOutputs(), classes=2, input_shape=(3, 9, 9)),
            "must accept images of shape",
        ),
    ):
        with pytest.raises(ModelError, match=told):
            call()


def test_other_networks_make_boxes_themselves():
    other = ModelSpec(use="import:a:b", preprocess=Preprocess(), boxes=BoxOutputs())
    with pytest.raises(ModelError, match="'boxes' must describe the outputs of an exported"):
        fingerprint(other, {})


def test_weights_in_another_file_are_refused(tmp_path):
    path = tmp_path / "m.onnx"
    model = onnx.load(str(classifier(tmp_path / "whole.onnx")))
    onnx.save(model, str(path), save_as_external_data=True, size_threshold=0, location="w.data")
    with pytest.raises(ModelError, match="must hold its weights itself, but weights is in another"):
        load(path)
