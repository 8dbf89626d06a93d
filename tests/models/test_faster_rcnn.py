"""Faster R-CNN with one output tensor: torchvision's boxes and losses, RoIAlign, compression."""

from __future__ import annotations

import copy
import functools
import math
from collections import OrderedDict

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.detecting import Detector, LearnsBoxes, ReadsWeights, ScoresBoxes
from shrinkproof.errors import CompressionError, DataError, ExportError, ModelError
from shrinkproof.models.faster_rcnn import FasterRCNN, build
from shrinkproof.models.faster_rcnn_pyramid import Pyramid
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.tasks import TASKS
from shrinkproof.torchvision_ops import ensure

SIZE = (64, 96)
CLASSES = 3
PROPOSALS = 40


def roi_align(features, boxes, output_size, spatial_scale, sampling_ratio):
    """RoIAlign of ONNX Runtime, which has the arithmetic of torchvision's compiled operator."""
    node = helper.make_node(
        "RoiAlign",
        ["x", "boxes", "image"],
        ["found"],
        coordinate_transformation_mode="output_half_pixel",
        output_height=output_size[0],
        output_width=output_size[1],
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )
    kinds = {"x": TensorProto.FLOAT, "boxes": TensorProto.FLOAT, "image": TensorProto.INT64}
    graph = helper.make_graph(
        [node],
        "roi_align",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    values = {
        "x": features.detach().numpy(),
        "boxes": boxes[:, 1:].detach().numpy(),
        "image": boxes[:, 0].long().numpy(),
    }
    return torch.from_numpy(session.run(None, values)[0])


def small_network():
    """Return torchvision's network on two levels of a small pyramid, with lively numbers."""
    ensure()
    from torchvision.models.detection import FasterRCNN as Whole
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.ops import MultiScaleRoIAlign

    def stage(wide_in, wide_out, stride):
        return nn.Sequential(
            nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(wide_out),
            nn.ReLU(),
        )

    with torch.random.fork_rng():
        torch.manual_seed(5)
        body = nn.Sequential(
            OrderedDict(first=stage(3, 8, 4), second=stage(8, 12, 2), third=stage(12, 16, 2))
        )
        layers = {"second": "0", "third": "1"}
        network = Whole(
            BackboneWithFPN(body, layers, [12, 16], 8),
            rpn_anchor_generator=AnchorGenerator(((12,), (24,), (48,)), ((0.5, 1.0, 2.0),) * 3),
            box_roi_pool=MultiScaleRoIAlign(["0", "1"], 7, 2, canonical_scale=32),
            box_head=TwoMLPHead(8 * 49, 24),
            box_predictor=FastRCNNPredictor(24, CLASSES + 1),
            min_size=SIZE[0],
            max_size=SIZE[1],
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            rpn_pre_nms_top_n_test=60,
            rpn_post_nms_top_n_test=PROPOSALS,
            rpn_pre_nms_top_n_train=60,
            rpn_post_nms_top_n_train=PROPOSALS,
            box_score_thresh=0.2,
            rpn_batch_size_per_image=1000,  # more than there are, so that nothing is drawn
        )
        network.backbone.train()
        with torch.no_grad():
            for _ in range(10):
                features = network.backbone(torch.rand(8, 3, *SIZE))
            scores, moves = network.rpn.head(list(features.values()))
            for layer, values, spread in (
                (network.rpn.head.cls_logits, scores, 2.0),
                (network.rpn.head.bbox_pred, moves, 0.4),
            ):
                layer.weight.mul_(spread / torch.cat([v.flatten() for v in values]).std())
            detector = FasterRCNN(network.eval(), SIZE)
            *_, logits, moves = detector._parts(detector(torch.rand(2, 3, *SIZE)))
            network.roi_heads.box_predictor.cls_score.weight.mul_(3.0 / logits.std())
            network.roi_heads.box_predictor.cls_score.bias[0] -= 4
            network.roi_heads.box_predictor.bbox_pred.weight.mul_(1.0 / moves.std())
        return network.eval()


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture
def detector(network):
    return FasterRCNN(copy.deepcopy(network), SIZE).eval()


@pytest.fixture
def compiled(monkeypatch):
    """Let torchvision pool like its compiled operator, which may not load here."""
    from torchvision.ops import poolers

    monkeypatch.setattr(poolers, "roi_align", roi_align)


def images(count=3, seed=1):
    values = stream("faster_rcnn test", seed).random((count, 3, *SIZE), dtype=np.float32)
    return torch.from_numpy(values)


def targets():
    boxes = torch.tensor([[60.0, 26, 69, 38], [36, 26, 45, 38]])
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [
        {"boxes": boxes, "labels": torch.tensor([0, 2])},
        nothing,
        {"boxes": boxes[1:], "labels": torch.tensor([1])},
    ]


def test_it_is_a_detector_in_every_respect(detector):
    assert all(isinstance(detector, p) for p in (Detector, LearnsBoxes, ScoresBoxes, ReadsWeights))
    assert detector.num_classes == CLASSES
    assert "of 40 proposals" in detector.rule


def test_boxes_are_torchvisions(network, detector, compiled):
    with torch.no_grad():
        expected = network(list(images()))
        found = detector.decode(detector(images()).numpy())
    assert sum(len(image["boxes"]) for image in expected) > 10
    for image, own in zip(expected, found, strict=True):
        np.testing.assert_array_equal(own.label, image["labels"].numpy() - 1)
        np.testing.assert_allclose(own.boxes, image["boxes"].numpy(), atol=1e-3)
        np.testing.assert_allclose(own.score, image["scores"].numpy(), atol=1e-5)


def test_loss_is_torchvisions_without_the_objects_among_the_proposals(
    network, detector, compiled, monkeypatch
):
    whole = copy.deepcopy(network).train()
    whole.backbone.eval()
    monkeypatch.setattr(whole.roi_heads, "add_gt_proposals", lambda proposals, boxes: proposals)
    with torch.no_grad(), torch.random.fork_rng():
        found = detector.loss(detector(images()), targets())
        each = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets()]
        losses = whole(list(images()), each)
    assert all(value > 0 for value in losses.values())
    assert float(found) == pytest.approx(float(sum(losses.values())), rel=1e-4)


def test_loss_repeats_reaches_every_weight_and_leaves_the_global_state(detector):
    detector.train()
    outputs = detector(images())
    state = torch.get_rng_state()
    first, second = detector.loss(outputs, targets()), detector.loss(outputs, targets())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, second)
    first.backward()
    still = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_loss_of_images_without_objects_is_finite(detector):
    nothing = [targets()[1]] * 3
    assert math.isfinite(float(detector.loss(detector(images()).detach(), nothing).detach()))


def test_outputs_have_one_shape_and_proposals_fill_up_with_nothing(detector):
    detector.rpn.nms_thresh = 0.05
    with torch.no_grad():
        outputs = detector.train()(images(2))
    assert outputs.shape == (2, detector.anchors * 5 + PROPOSALS * (4 + 5 * (CLASSES + 1)))
    proposals = outputs[:, detector.anchors * 5 :][:, : 4 * PROPOSALS].unflatten(1, (-1, 4))
    is_empty = ~proposals.any(dim=2)
    assert is_empty.any()
    assert not is_empty[:, 0].any()
    for found, empty in zip(detector.decode(outputs.numpy()), is_empty, strict=True):
        assert not empty[torch.from_numpy(found.place)].any()


def test_proposals_do_not_dwarf_the_logits(detector):
    with torch.no_grad():
        outputs = detector(images(1))
    assert detector.unit == 128
    assert float(outputs.abs().max()) < 10
    assert float(detector._parts(outputs)[2].max()) > 50


def test_outputs_that_are_broken_or_of_another_size_are_refused(detector):
    with torch.no_grad():
        outputs = detector(images(2)).numpy()
    broken = outputs.copy()
    broken[1, -1] = np.nan
    with pytest.raises(DataError, match="finite, got NaN or infinity in 1 of 2 images"):
        detector.decode(broken)
    with pytest.raises(DataError, match="of the size that the detector was loaded for"):
        detector.decode(outputs[:, :-4])
    assert detector.decode(outputs[:0]) == []


def test_loss_refuses_boxes_without_area(detector):
    flat = [{"boxes": torch.tensor([[10.0, 10, 10, 20]]), "labels": torch.tensor([0])}]
    with pytest.raises(DataError, match="wider and higher than 0"):
        detector.loss(detector(images(1)), flat)


def test_outputs_are_not_distilled(detector):
    from shrinkproof.training.objective import batch_loss
    from shrinkproof.training.settings import Distillation, Training

    context = Context(
        task=TASKS.get("detection").of(detector),
        example=torch.zeros(1, 3, *SIZE),
        device=torch.device("cpu"),
        stream=functools.partial(stream, "faster_rcnn test"),
        teacher=detector,
    )
    settings = Training(epochs=1, distill=Distillation())
    with torch.no_grad(), pytest.raises(CompressionError, match="left out for detectors"):
        batch_loss(settings, context, images(), detector(images()), targets())


def test_place_leads_to_the_score(detector):
    with torch.no_grad():
        outputs = detector(images(1))
    (found,) = detector.decode(outputs.numpy())
    logits = detector.class_scores(outputs)
    assert logits.shape == (1, PROPOSALS, CLASSES)
    # Without the background, scores of one place keep their ratio.
    shares = logits[0].exp()[found.place].numpy()
    for row, label, score in zip(shares, found.label, found.score, strict=True):
        assert score <= row[label] / row.sum() + 1e-6


@pytest.mark.parametrize("ratio", [1, 2])
def test_all_levels_are_read_as_by_the_runtimes_operator(ratio):
    rng = stream("pyramid test", ratio)
    levels = [torch.from_numpy(rng.random((2, 4, 16 >> k, 24 >> k), np.float32)) for k in range(3)]
    corners = rng.uniform((0, 0), (90, 60), (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 50, (60, 2))], axis=1)
    boxes = np.minimum(boxes, [96, 64, 96, 64])
    # At the right and lower border, and thinner than one pixel of any level.
    boxes[:4] = [[95, 10, 96, 60], [0, 63, 96, 64], [0, 0, 0, 0], [0, 0, 96, 64]]
    boxes_n = torch.from_numpy(boxes.astype(np.float32)).reshape(2, 30, 4)
    pyramid = Pyramid(
        size=(64, 96), lowest=2, highest=4, side=3, ratio=ratio, usual_side=24.0, usual_level=3
    )
    found = pyramid.read(levels, boxes_n)
    flat = boxes_n.flatten(0, 1)
    area = (flat[:, 2:] - flat[:, :2]).prod(dim=1)
    level = torch.floor(3 + torch.log2(area.sqrt() / 24.0) + 1e-6).clamp(2, 4)
    assert set(level.tolist()) == {2.0, 3.0, 4.0}
    for number, own in enumerate(levels):
        rows = (level == number + 2).nonzero().squeeze(1)
        rois = torch.cat([(rows // 30).float()[:, None], flat[rows]], dim=1)
        expected = roi_align(own, rois, (3, 3), 0.25 / 2**number, ratio)
        np.testing.assert_allclose(found[rows].numpy(), expected.numpy(), atol=1e-4)


def test_published_rows_without_a_category_are_left_out(detector):
    def rows(count):
        name = "roi_heads.box_predictor"
        return {
            f"{name}.cls_score.weight": torch.arange(count)[:, None].expand(count, 24).clone(),
            f"{name}.cls_score.bias": torch.arange(count),
            f"{name}.bbox_pred.weight": torch.zeros(4 * count, 24),
            f"{name}.bbox_pred.bias": torch.arange(4 * count) // 4,
            "rpn.head.conv.weight": torch.zeros(1),
        }

    classes, found = detector.read_weights(rows(91))
    assert classes == 80
    kept = found["roi_heads.box_predictor.cls_score.bias"]
    assert kept[:13].tolist() == [*range(12), 13]  # number 12 names nothing
    assert torch.equal(found["roi_heads.box_predictor.bbox_pred.bias"][::4], kept)
    assert "rpn.head.conv.0.0.weight" in found
    assert detector.read_weights(rows(5))[0] == 4
    damaged = rows(91)
    del damaged["roi_heads.box_predictor.bbox_pred.bias"]
    assert detector.read_weights(damaged)[0] == 80
    assert detector.read_weights({"other": torch.zeros(2)})[0] is None


def test_sizes_that_no_level_halves_are_refused(network):
    with pytest.raises(ModelError, match="multiples of 32, got 64x100"):
        FasterRCNN(copy.deepcopy(network), (64, 100))


class _Feed:
    count = 3

    def batches(self, size, *, order=None, augment=None):
        del size
        yield images(), targets()


def _assert_wrong_classes_are_noticed(module, path):
    from shrinkproof.artifacts.export import _agree

    wrong = copy.deepcopy(module)
    with torch.no_grad():
        wrong.get_submodule("roi_heads.box_predictor.cls_score").weight.mul_(0.9)
    with pytest.raises(ExportError, match="must give the model's logits"):
        _agree(wrong, torch.zeros(1, 3, *SIZE), path, exact=True, chooses=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        [("prune.channels", {"ratio": 0.3}), ("finetune", {"epochs": 1, "batch": 3})],
        [("prune.weights", {"ratio": 0.5}), ("cluster", {"levels": 8})],
        [("quantize.static", {"reduce_range": False})],
    ],
    ids=["channels", "levels", "int8"],
)
@pytest.mark.long
def test_compressed_networks_export_and_the_same_rule_reads_them(detector, steps, tmp_path):
    from shrinkproof.artifacts.export import export_onnx
    from shrinkproof.artifacts.session import Session

    feed = _Feed()
    context = Context(
        task=TASKS.get("detection").of(detector),
        example=torch.zeros(1, 3, *SIZE),
        device=torch.device("cpu"),
        stream=functools.partial(stream, "faster_rcnn test"),
        calibration=feed,
        training=feed,
    )
    recipe = Recipe(tuple(COMPRESSORS.create(name, fields) for name, fields in steps))
    module, changes = recipe.apply(detector, context)
    report = export_onnx(module, context.example, tmp_path / "m.onnx", changes=changes)
    with torch.no_grad():
        twin = module(images(2)).numpy()
    file = Session(report.path)(images(2).numpy())
    count = detector.anchors * 5
    if not report.integers:
        _assert_wrong_classes_are_noticed(module, report.path)
        np.testing.assert_allclose(file[:, :count], twin[:, :count], atol=1e-3)
    for one, other in zip(detector.decode(file), detector.decode(twin), strict=True):
        assert abs(len(one.boxes) - len(other.boxes)) <= 3
        assert one.boxes.shape[1] == 4


@pytest.mark.slow
def test_networks_of_torchvision_run_by_name():
    ensure()
    found = build("fasterrcnn_mobilenet_v3_large_320_fpn", 3, (3, *SIZE)).eval()
    with torch.no_grad():
        (one,) = found.decode(found(images(1)).numpy())
    assert one.boxes.shape == (len(one.score), 4)
    assert found.num_classes == 3
