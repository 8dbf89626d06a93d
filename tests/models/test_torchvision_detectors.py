"""One-stage detectors of torchvision: the same boxes and losses from one tensor, and weights in."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from shrinkproof.detecting import Detector, LearnsBoxes, ReadsWeights, ScoresBoxes
from shrinkproof.errors import DataError, ModelError, UnknownNameError
from shrinkproof.models.box_decoding import BLOCK, best_of_groups, without_duplicates
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, load_model
from shrinkproof.models.torchvision_detectors import CATEGORIES, NETWORKS, build, used_categories
from shrinkproof.models.torchvision_source import ONE_STAGE, Torchvision, _brought
from shrinkproof.torchvision_ops import ensure, nms

from ..one_stage_builder import CLASSES, DETECTORS, SIDE, awake, images

LITE = "ssdlite320_mobilenet_v3_large"
NONE = {"preprocess": Preprocess(), "input_shape": (3, 64, 64)}


@pytest.fixture(autouse=True, scope="module")
def torchvision():
    ensure()


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request):
    return DETECTORS[request.param]()


def original(module):
    """Return torchvision's own network, which shall take images as they are."""
    network = module.__dict__["_network"]
    transform = network.transform
    transform.fixed_size = module.size[::-1]
    transform.image_mean, transform.image_std = [0.0] * 3, [1.0] * 3
    transform.size_divisible = 1
    return network


def assert_equal_boxes(module, inputs):
    """Compare with torchvision's own detections, image by image and box by box."""
    with torch.no_grad():
        expected = original(module).eval()(list(inputs))
        found = module.decode(module(inputs).numpy())
    assert len(found) == len(inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours.score) == len(theirs["scores"]) > 10
        np.testing.assert_allclose(ours.score, theirs["scores"], atol=1e-5)
        # Detections of equal score may come in any order.
        near = np.isclose(ours.score[:, None], theirs["scores"], rtol=0, atol=1e-5)
        near &= ours.label[:, None] == theirs["labels"].numpy() - 1
        boxes = theirs["boxes"].numpy()
        near &= np.isclose(ours.boxes[:, None], boxes, rtol=0, atol=1e-3).all(axis=2)
        assert near.any(axis=0).all()
        assert near.any(axis=1).all()
        assert len(set(ours.label.tolist())) > 1


def assert_brought(name, transform):
    """What the source knows by heart must be what the network says."""
    preprocess, shape = _brought(name, None)
    assert list(preprocess.mean) == pytest.approx(transform.image_mean)
    assert list(preprocess.std) == pytest.approx(transform.image_std)
    fixed = transform.fixed_size
    assert preprocess.keep_ratio == (fixed is None)
    assert shape[1:] == (fixed[::-1] if fixed else (800, 1344))


def test_decoding_gives_the_boxes_of_torchvision(detector):
    assert_equal_boxes(detector, images().inputs[:4])


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks_give_the_boxes_of_torchvision(name):
    side = 300 if name == "ssd300_vgg16" else 128
    module = awake(build(name, 4, (3, side, side)))
    assert_brought(name, module.__dict__["_network"].transform)
    generator = torch.Generator().manual_seed(3)
    assert_equal_boxes(module, torch.randn(2, 3, side, side, generator=generator))


def test_training_and_evaluation_return_one_tensor_of_one_shape(detector):
    inputs = images().inputs[:2]
    module = copy.deepcopy(detector)
    shapes = {tuple(module.train(mode)(inputs).shape) for mode in (True, False)}
    assert len(shapes) == 1
    for protocol in (Detector, LearnsBoxes, ReadsWeights, ScoresBoxes):
        assert isinstance(module, protocol)


def test_loss_is_that_of_torchvision(detector):
    feed = images()
    inputs, target = feed.inputs[:3], list(feed.target[:3])
    target[1] = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    module = copy.deepcopy(detector)
    theirs = [{**one, "labels": one["labels"] + 1} for one in target]
    network = original(module).train()
    expected = sum(network(list(inputs), theirs).values())
    module = copy.deepcopy(detector).train()
    assert module.loss(module(inputs), target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_loss_refuses_boxes_without_area(detector):
    target = [{"boxes": torch.tensor([[4.0, 4.0, 4.0, 9.0]]), "labels": torch.tensor([0])}]
    with pytest.raises(DataError, match="wider and higher than 0"):
        detector.loss(detector(images().inputs[:1]), target)


def test_places_of_detections_lead_to_their_scores(detector):
    with torch.no_grad():
        outputs = detector(images().inputs[:1])
    logits = detector.class_scores(outputs)[0]
    assert logits.shape[1] == CLASSES
    (found,) = detector.decode(outputs.numpy())
    assert (np.diff(found.score) <= 0).all()
    scores = detector._scores(outputs[0])
    assert np.array_equal(scores[found.place, found.label], found.score)
    order = np.argsort(logits[found.place].numpy(), axis=1)
    ranks = np.argsort(scores[found.place].numpy(), axis=1)
    assert np.array_equal(order, ranks)


def test_outputs_that_are_not_finite_are_refused(detector):
    outputs = detector(images().inputs[:2]).detach().numpy()
    outputs[1, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in 1 of 2 images"):
        detector.decode(outputs)
    with pytest.raises(DataError, match="of the size that the detector was loaded for"):
        detector.decode(outputs[:, 1:])


def test_detector_that_sees_nothing(detector):
    outputs = detector(images().inputs[:1]).detach().numpy().copy()
    # Scores of a softmax fall where the background rises.
    outputs[..., 4] = 40.0
    outputs[..., 5:] = -40.0
    (found,) = detector.decode(outputs)
    assert found.boxes.shape == (0, 4)
    assert not len(found.score) + len(found.label) + len(found.place)


def test_rule_names_thresholds_and_limits(detector):
    for number in (detector.score_threshold, detector.overlap, detector.largest):
        assert f"{number:g}" in detector.rule
    changed = copy.deepcopy(detector)
    changed.largest = 3
    (found,) = changed.decode(changed(images().inputs[:1]).detach().numpy())
    assert len(found.score) == 3
    assert "at most 3 boxes" in changed.rule


def test_names_of_weights_are_those_of_torchvision(detector):
    assert list(detector.state_dict()) == list(original(detector).state_dict())
    copied = copy.deepcopy(detector)
    assert copied.__dict__["_network"].backbone is copied.backbone is not detector.backbone


def test_every_network_is_known_to_the_source():
    assert sorted(ONE_STAGE) == sorted(NETWORKS)


def test_network_with_fresh_weights():
    spec = ModelSpec(use=f"torchvision:{LITE}/none", classes=7, **NONE)
    loaded = load_model(spec, {})
    assert loaded.detector is loaded.module
    assert loaded.num_classes == 7
    assert loaded.preprocess.size == loaded.module.size == (64, 64)
    again = load_model(spec, {})
    inputs = torch.ones(1, 3, 64, 64)
    assert torch.equal(loaded.module(inputs), again.module(inputs))


def test_checkpoint_tells_the_number_of_classes(tmp_path):
    from torchvision import models

    network = models.get_model(LITE, weights=None, weights_backbone=None, num_classes=6)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "a.pt")
    spec = ModelSpec(use="checkpoint:a.pt", arch=f"torchvision:{LITE}", **NONE)
    loaded = load_model(spec, {"study": tmp_path})
    assert loaded.num_classes == 5
    assert torch.equal(
        loaded.module.state_dict()["backbone.extra.0.0.0.weight"],
        network.backbone.extra[0][0][0].weight,
    )
    wrong = ModelSpec(use="checkpoint:a.pt", arch=f"torchvision:{LITE}", classes=6, **NONE)
    with pytest.raises(ModelError, match="the study says 6, the checkpoint has 5"):
        load_model(wrong, {"study": tmp_path})


@pytest.mark.slow
def test_checkpoint_of_another_network(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    spec = ModelSpec(use="checkpoint:a.pt", arch=f"torchvision:{LITE}", **NONE)
    with pytest.raises(ModelError, match="missing in the checkpoint"):
        load_model(spec, {"study": tmp_path})


def planted(module):
    """Return weights of 91 rows whose class biases are the row's number."""
    state = {}
    for name, tensor in module.state_dict().items():
        wide = any(name.startswith(f"{layer}.") for layer in module._class_layers())
        if not wide:
            state[name] = tensor
            continue
        anchors = len(tensor) // module.rows
        rows = torch.arange(CATEGORIES, dtype=torch.float32).repeat(anchors)
        state[name] = rows if tensor.ndim == 1 else rows[:, None, None, None] + 0 * tensor[:1]
    return state


@pytest.mark.parametrize("name", DETECTORS)
def test_published_rows_become_the_80_classes_in_order(name):
    module = DETECTORS[name]()
    classes, state = module.read_weights(planted(module))
    assert classes == 80
    for layer in module._class_layers():
        rows = state[f"{layer}.bias"].reshape(-1, 81)
        assert rows[:, 0].eq(0).all()
        # COCO numbers persons 1, stop signs 13, and toothbrushes 90; 12 is not in use.
        assert rows[0, [1, 11, 12, 80]].tolist() == [1.0, 11.0, 13.0, 90.0]
        assert rows.eq(rows[0]).all()
        assert torch.equal(state[f"{layer}.weight"][:, 0, 0, 0], rows.flatten())
    assert len(used_categories()) == 81


def test_published_weights(monkeypatch):
    from torchvision.models._api import WeightsEnum

    fresh = build(LITE, CATEGORIES - 1, (3, 64, 64))
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: fresh.state_dict())
    spec = ModelSpec(use=f"torchvision:{LITE}/COCO_V1", input_shape=(3, 64, 64))
    loaded = load_model(spec, {})
    assert loaded.num_classes == 80
    assert loaded.preprocess == Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3, size=(64, 64))
    kept = fresh.state_dict()["head.classification_head.module_list.0.1.bias"].reshape(-1, 91)
    own = loaded.module.state_dict()["head.classification_head.module_list.0.1.bias"]
    assert torch.equal(own.reshape(-1, 81), kept[:, used_categories()])
    with pytest.raises(UnknownNameError, match="did you mean 'COCO_V1'"):
        load_model(ModelSpec(use=f"torchvision:{LITE}/COCO_V2"), {})


@pytest.mark.slow
def test_published_retinanet_without_a_small_constant(monkeypatch):
    from torchvision.models._api import WeightsEnum

    name = "retinanet_resnet50_fpn"
    fresh = build(name, CATEGORIES - 1, (3, 64, 64))
    frozen = {n: t for n, t in fresh.state_dict().items() if not n.endswith("tracked")}
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: frozen)
    loaded = load_model(ModelSpec(use=f"torchvision:{name}", input_shape=(3, 64, 96)), {})
    assert loaded.preprocess.keep_ratio
    assert loaded.preprocess.size == (64, 96)
    assert loaded.module.backbone.body.bn1.eps == 0


@pytest.mark.slow
def test_download_that_fails(monkeypatch):
    from torchvision.models._api import WeightsEnum

    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    with pytest.raises(ModelError, match=rf"no route.*arch: torchvision:{LITE}"):
        load_model(ModelSpec(use=f"torchvision:{LITE}", input_shape=(3, 64, 64)), {})


def test_old_names_of_retinanet_weights():
    module = DETECTORS["retina"]()
    state = module.state_dict()
    old = {}
    for name, tensor in state.items():
        before, _, after = name.partition(".conv.")
        layer, _, rest = after.partition(".0.")
        old[f"{before}.conv.{2 * int(layer)}.{rest}" if after else name] = tensor
    assert old.keys() != state.keys()
    classes, renamed = module.read_weights(old)
    assert classes == CLASSES
    assert renamed.keys() == state.keys()


def test_size_that_is_too_small(detector):
    with pytest.raises(ModelError, match="write a larger 'input_shape'"):
        type(detector)(original(detector), (0, 0))


def test_masks_and_key_points_are_not_known():
    with pytest.raises(UnknownNameError, match="unknown torchvision network"):
        Torchvision().build("maskrcnn_resnet50_fpn", None, {})


def boxes_in_clusters(count, classes, seed):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 6, (count, 2)) * 10 + rng.normal(0, 1, (count, 2))
    side = rng.uniform(8, 14, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    return boxes, rng.random(count).astype(np.float32), rng.integers(0, classes, count)


@pytest.mark.parametrize("count", [0, 1, 40, BLOCK, 3 * BLOCK + 7])
def test_suppression_is_that_of_torchvision_within_each_class(count):
    boxes, score, label = boxes_in_clusters(count, 4, seed=count)
    expected = []
    for k in range(4):
        own = np.flatnonzero(label == k)
        kept = nms(torch.from_numpy(boxes[own]), torch.from_numpy(score[own]), 0.5)
        expected.extend(own[kept.numpy()].tolist())
    expected = np.array(sorted(expected, key=lambda i: -score[i]), dtype=np.int64)
    for largest in (10, 10_000):
        got = without_duplicates(boxes, score, label, overlap=0.5, largest=largest)
        assert np.array_equal(got, expected[:largest])


def test_suppression_by_hand():
    boxes = np.array(
        [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [5, 5, 5, 5], [5, 5, 5, 5]], np.float32
    )
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    label = np.array([0, 0, 1, 0, 0])
    # The second lies in the first (IoU 0.9); the third is of another class; points stay.
    kept = without_duplicates(boxes, score, label, overlap=0.5, largest=9)
    assert kept.tolist() == [0, 2, 3, 4]
    # A box whose IoU is the limit stays.
    kept = without_duplicates(boxes, score, label, overlap=0.9, largest=9)
    assert kept.tolist() == [0, 1, 2, 3, 4]


def test_best_of_groups_by_hand():
    score = np.array([0.1, 0.5, 0.5, 0.9, 0.2], np.float32)
    group = np.array([0, 0, 0, 2, 2])
    assert best_of_groups(score, group, 2).tolist() == [1, 2, 3, 4]
    assert best_of_groups(score, group, 1).tolist() == [1, 3]
    assert best_of_groups(score[:0], group[:0], 1).tolist() == []


def test_inputs_of_another_size_are_told(detector):
    outputs = detector(torch.zeros(1, 3, SIDE + 32, SIDE)).detach().numpy()
    with pytest.raises(DataError, match="give images of the size"):
        detector.decode(outputs)
