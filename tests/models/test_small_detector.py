from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import fx, nn

import shrinkproof
from shrinkproof.detecting import Detector, LearnsBoxes, ScoresBoxes
from shrinkproof.errors import DataError, ModelError, UnknownNameError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, fingerprint, load_model
from shrinkproof.models.small_detector import SmallDetector
from shrinkproof.models.small_detector_boxes import assigned, boxes_of, places_of

SIZE = (32, 64)
CLASSES = 3


def detector(size: tuple[int, int] = SIZE, seed: int = 0) -> SmallDetector:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Strides 8 and 16; 32 + 8 places for the usual size.
        return SmallDetector((4, 6, 8, 8), 2, 8, CLASSES, (3, *size)).eval()


def loaded(use: str, **settings):
    return load_model(ModelSpec(use=use, preprocess=Preprocess(), **settings), {})


def target(*objects: tuple[list[float], int]) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.tensor([box for box, _ in objects], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([label for _, label in objects], dtype=torch.int64),
    }


def perfect(model: SmallDetector, truth: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the output (1, P, C + 5) that says nothing but the truth."""
    places = model.places
    chosen = assigned(truth["boxes"], places)
    outputs = torch.full((1, len(chosen), CLASSES + 5), -20.0)
    for place in torch.nonzero(chosen >= 0).flatten().tolist():
        box, label = truth["boxes"][chosen[place]], truth["labels"][chosen[place]]
        x, y = places.center[place]
        left, top, right, bottom = x - box[0], y - box[1], box[2] - x, box[3] - y
        near = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
        outputs[0, place, label] = 20.0
        reach = torch.stack([left, top, right, bottom]) / places.stride[place]
        outputs[0, place, CLASSES : CLASSES + 4] = reach.log()
        outputs[0, place, -1] = math.log(near / (1 - near)) if near < 1 else 20.0
    return outputs


def test_places_run_row_by_row_and_finest_level_first():
    places = places_of((16, 32), (8, 16))
    assert places.center[:4].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4]]
    assert places.center[4:].tolist() == [
        *([4, 12], [12, 12], [20, 12], [28, 12]),
        *([8, 8], [24, 8]),
    ]
    assert places.stride.tolist() == [8] * 8 + [16] * 2
    assert places.near.tolist() == [0] * 8 + [32] * 2
    assert places.far.tolist() == [32] * 8 + [math.inf] * 2


def test_boxes_are_as_many_strides_around_their_place_as_the_logarithms_say():
    places = places_of((16, 32), (8, 16))
    logs = torch.zeros(1, 10, 5)
    logs[0, 9, :4] = torch.tensor([0.5, 1, 2, 4]).log()
    boxes = boxes_of(logs, places)
    assert boxes[0, 0].tolist() == [-4, -4, 12, 12]
    torch.testing.assert_close(boxes[0, 9], torch.tensor([16.0, -8, 56, 72]))
    assert torch.isfinite(boxes_of(torch.full((1, 10, 4), 1e4), places)).all()


def test_an_object_is_learned_near_its_center_on_the_level_of_its_size():
    places = places_of((64, 64), (8, 16))
    small, large = [10.0, 10, 30, 30], [0.0, 0, 64, 64]
    chosen = assigned(torch.tensor([large, small]), places)
    fine, coarse = chosen[:64].reshape(8, 8), chosen[64:].reshape(4, 4)
    # Centers 12, 20 and 28 lie in the small box and within 12 pixels of its center 20.
    assert (fine[1:4, 1:4] == 1).all()
    assert int((fine >= 0).sum()) == 9
    # From 24 and 40 to the farthest edge: 40 pixels, more than four strides of the finer level.
    assert (coarse[1:3, 1:3] == 0).all()
    assert int((coarse >= 0).sum()) == 4


def test_of_two_objects_around_a_place_it_learns_the_smaller_one():
    places = places_of((32, 32), (8,))
    boxes = torch.tensor([[0.0, 0, 24, 24], [2.0, 2, 22, 22]])
    assert int(assigned(boxes, places).reshape(4, 4)[1, 1]) == 1
    assert int(assigned(boxes.flip(0), places).reshape(4, 4)[1, 1]) == 0


def test_places_of_an_image_without_objects_learn_nothing():
    places = places_of((32, 32), (8,))
    assert (assigned(torch.zeros(0, 4), places) == -1).all()


def test_the_truth_has_almost_no_loss_and_is_decoded_to_itself():
    model = detector()
    truth = target(([4.0, 6.0, 28.0, 26.0], 2), ([37.0, 3.0, 62.0, 30.0], 0))
    outputs = perfect(model, truth)
    # What is left is the entropy of centerness, which no prediction can avoid.
    sure = model.loss(outputs, [truth])
    assert float(sure) < 0.7
    (found,) = model.decode(outputs.numpy())
    assert found.label[:2].tolist() in ([2, 0], [0, 2])
    order = np.argsort(-found.label[:2])
    np.testing.assert_allclose(found.boxes[:2][order], truth["boxes"].numpy(), atol=1e-3)
    for change in (
        lambda x: x.index_fill_(2, torch.tensor([0, 1, 2]), -20.0),
        lambda x: x[..., CLASSES : CLASSES + 4].sub_(1.0),
        lambda x: x[..., -1].neg_(),
    ):
        worse = outputs.clone()
        change(worse)
        assert float(model.loss(worse, [truth])) > float(sure) + 0.05


def test_loss_and_gradients_are_finite_without_objects():
    model = detector().train()
    empty = target()
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    loss = model.loss(model(images), [empty, empty])
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_an_image_without_objects_counts_in_the_loss_of_a_batch():
    model = detector()
    truth = target(([4.0, 6.0, 28.0, 26.0], 1))
    outputs = perfect(model, truth)
    wrong = outputs.clone()
    both = model.loss(torch.cat([outputs, wrong]), [truth, target()])
    quiet = model.loss(torch.cat([outputs, torch.full_like(wrong, -20.0)]), [truth, target()])
    assert float(both) > float(quiet) + 1


def test_decoded_boxes_are_sorted_inside_the_image_and_name_their_place():
    model = detector()
    outputs = torch.randn(3, 40, CLASSES + 5, generator=torch.Generator().manual_seed(1))
    found = model.decode(outputs.numpy())
    assert len(found) == 3
    for image, each in zip(outputs, found, strict=True):
        assert 0 < len(each.score) <= 100
        assert (np.diff(each.score) <= 0).all()
        assert each.boxes.min() >= 0
        assert (each.boxes[:, 2] <= SIZE[1]).all()
        assert (each.boxes[:, 3] <= SIZE[0]).all()
        logits = model.class_scores(image)[each.place, each.label]
        centerness = image[each.place, -1]
        expected = (logits.sigmoid() * centerness.sigmoid()).sqrt()
        np.testing.assert_allclose(each.score, expected.numpy(), atol=1e-6)
        assert (each.score > 0.05).all()


def test_outputs_of_another_size_or_not_finite_are_refused():
    model = detector()
    with pytest.raises(DataError, match=r"outputs must be \(n, 40, 8\)"):
        model.decode(np.zeros((1, 41, 8), dtype=np.float32))
    broken = np.zeros((2, 40, 8), dtype=np.float32)
    broken[1, 3, 2] = np.nan
    with pytest.raises(DataError, match="finite"):
        model.decode(broken)


def test_no_outputs_make_no_boxes():
    model = detector()
    assert model.decode(np.zeros((0, 40, 8), dtype=np.float32)) == []
    (found,) = model.decode(np.full((1, 40, 8), -20, dtype=np.float32))
    assert found.boxes.shape == (0, 4)
    assert found.label.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "shape", "places", "count"),
    [
        ("fcos-tiny", (3, 112, 112), 245, 156_384),
        ("fcos-small", (3, 256, 320), 1680, 819_240),
    ],
)
def test_built_in_networks(name, shape, places, count):
    found = loaded(f"detector:{name}", classes=3)
    assert found.input_shape == shape
    assert found.preprocess.size == shape[1:]
    assert found.num_classes == 3
    assert sum(p.numel() for p in found.module.parameters()) == count
    for member in (Detector, LearnsBoxes, ScoresBoxes):
        assert isinstance(found.module, member)
    with torch.no_grad():
        assert found.module(torch.zeros(1, *shape)).shape == (1, places, 8)
    assert "IoU 0.6" in found.module.rule


def test_traced_network_gives_the_same_outputs_in_training_and_evaluation():
    model = detector()
    x = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(fx.symbolic_trace(model)(x), model(x))
        assert torch.allclose(model(x)[:1], model(x[:1]), atol=1e-6)
        assert model.train()(x).shape == (2, 40, 8)


def test_drawn_weights_depend_on_name_and_classes_alone():
    torch.manual_seed(1)
    first = loaded("detector:fcos-tiny").module
    state = torch.get_rng_state()
    other = loaded("detector:fcos-tiny", input_shape=(3, 64, 96)).module
    assert torch.equal(torch.get_rng_state(), state)
    assert first.num_classes == 10
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_identity_covers_the_size_of_the_input():
    def identity(**settings) -> str:
        spec = ModelSpec(use="detector:fcos-tiny", preprocess=Preprocess(), **settings)
        return fingerprint(spec, {})

    assert identity() == identity()
    assert identity() != identity(input_shape=(3, 64, 96))


def test_weights_of_a_checkpoint_say_how_many_classes(tmp_path):
    shape = (3, 64, 96)
    model = loaded("detector:fcos-tiny", classes=4, input_shape=shape).module
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    found = loaded(
        f"checkpoint:{tmp_path / 'weights.safetensors'}",
        arch="detector:fcos-tiny",
        input_shape=shape,
    )
    assert found.num_classes == 4
    assert found.module.size == (64, 96)
    assert torch.equal(found.module.stem[0].weight, model.stem[0].weight)


def test_weights_of_another_network_say_nothing_about_classes():
    assert detector().read_weights({"fc.weight": torch.zeros(7, 2)})[0] is None


@pytest.mark.parametrize(
    ("use", "settings", "error", "message"),
    [
        ("detector:fcos-tyni", {}, UnknownNameError, "did you mean 'fcos-tiny'"),
        ("detector:fcos-tiny", {"input_shape": (3, 64, 90)}, ModelError, "multiples of 16"),
        ("detector:fcos-small", {"input_shape": (3, 240, 320)}, ModelError, "multiples of 32"),
        ("detector:fcos-tiny", {"input_shape": (1, 64, 64)}, ModelError, "3, height and width"),
    ],
)
def test_impossible_references_are_refused(use, settings, error, message):
    with pytest.raises(error, match=message):
        loaded(use, **settings)


def test_a_network_needs_a_class():
    with pytest.raises(ModelError, match="num_classes must be at least 1"):
        SmallDetector((4, 8), 1, 8, 0, (3, 16, 16))


class Scenes:
    """Eight images of a bright square on noise, its class by its color."""

    count = 8
    fingerprint = "squares"

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.inputs = torch.from_numpy(rng.normal(0, 0.1, (8, 3, *SIZE)).astype(np.float32))
        self.target = []
        for image in self.inputs:
            x, y, label = rng.integers(0, 40), rng.integers(0, 12), int(rng.integers(3))
            image[label, y : y + 16, x : x + 16] += 2
            self.target.append(target(([float(x), float(y), x + 16.0, y + 16.0], label)))

    def batches(self, size, *, order=None, augment=None):
        order = np.arange(self.count) if order is None else order
        for start in range(0, len(order), size):
            rows = order[start : start + size].tolist()
            yield self.inputs[rows], [self.target[row] for row in rows]


TRAIN = {"epochs": 60, "learning_rate": 0.02, "optimizer": "adam", "batch": 4}


def compressed(model: nn.Module, *steps):
    scenes = Scenes()
    return shrinkproof.compress(
        model,
        list(steps),
        example=scenes.inputs[:1],
        calibration=scenes,
        training=scenes,
        task="detection",
    )


@pytest.mark.slow
def test_it_learns_to_find_squares():
    model = detector()
    trained = compressed(model, {"finetune": TRAIN})
    scenes = Scenes()
    with torch.no_grad():
        found = model.decode(trained.module(scenes.inputs).numpy())
    for each, truth in zip(found, scenes.target, strict=True):
        assert each.label[0] == truth["labels"][0]
        np.testing.assert_allclose(each.boxes[0], truth["boxes"][0].numpy(), atol=3)


# torch 2.13's own exporter emits it.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        [{"prune.weights": {"ratio": 0.5}}],
        [{"prune.channels": {"ratio": 0.3, "round_to": 2}}, {"finetune": TRAIN | {"epochs": 1}}],
        [{"prune.channels": {"ratio": 0.3, "round_to": 2, "criterion": "hrank"}}],
        ["fold", {"cluster": {"levels": 16}}],
        ["quantize.static"],
        [{"prune.channels": {"ratio": 0.3, "round_to": 2}}, "quantize.static"],
    ],
    ids=["weights", "channels", "hrank", "cluster", "int8", "channels-int8"],
)
def test_compressed_networks_keep_the_shape_of_their_output_and_are_exported(steps, tmp_path):
    model = detector()
    small = compressed(model, *steps)
    inputs = Scenes().inputs
    with torch.no_grad():
        outputs = small.module(inputs)
    assert outputs.shape == (8, 40, 8)
    assert len(model.decode(outputs.numpy())) == 8
    assert (small.save(tmp_path / "small") / "model.onnx").is_file()
    if any("prune.channels" in step for step in steps):
        removed = small.changes[0].achieved["ratio"]
        assert removed > 0.1
        # Only what makes the output may not lose channels.
        assert set(small.changes[0].untouched) <= {
            f"{n}.{i}" for n in ("boxes", "classes") for i in (0, 1)
        }


def test_only_the_predictors_cannot_lose_channels():
    model = detector()
    small = compressed(model, {"prune.channels": {"ratio": 0.3, "round_to": 2}})
    assert set(small.changes[0].untouched) == {"boxes.0", "boxes.1", "classes.0", "classes.1"}
