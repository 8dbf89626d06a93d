"""What the kit checks of detectors, their metrics and their images, and that it finds mistakes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from shrinkproof.data.coco import Coco
from shrinkproof.detecting import Detections
from shrinkproof.metrics import METRICS
from shrinkproof.predictions import Objects
from shrinkproof.protocols import Undefined
from shrinkproof.registry import component
from shrinkproof.testing import (
    check_boxed_images,
    check_detector,
    check_metric,
    tiny_detections,
)

from ..detection_builder import DETECTOR, write_boxes

_COUNTER = itertools.count()
SHAPE = (3, 48, 48)


def squares():
    """The detector of the detection study, with its weights drawn from a fixed seed."""
    space = {"__name__": "squares"}
    exec(compile(DETECTOR, "squares.py", "exec"), space)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return space["Squares"]().eval()


def broken(**members):
    """The same detector with some members of its class replaced."""
    module = squares()
    kind = type(module)
    module.__class__ = type("Broken", (kind,), members)
    return module


def answer(boxes=((1, 1, 9, 9),), score=(0.5,), label=(0,), place=None):
    one = Detections(
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        score=np.array(score, dtype=np.float64),
        label=np.array(label),
        place=None if place is None else np.array(place),
    )
    return lambda _, outputs: [one] * len(outputs)


def once(_, outputs):
    """Says something else each time."""
    return answer(score=(0.5 / (1 + next(_COUNTER)),))(_, outputs)


def edits(_, outputs):
    outputs[:] = 0
    return answer()(_, outputs)


def forward(change):
    return lambda self, images: change(type(self).__mro__[1].forward(self, images))


def test_a_sound_detector_passes_and_keeps_its_mode_and_weights():
    module = squares().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    check_detector(module, SHAPE)
    assert module.training
    assert all(tensor.equal(before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.slow
def test_a_built_in_detector_passes():
    from shrinkproof.models.loaded import Preprocess
    from shrinkproof.models.reference import ModelSpec, load_model

    spec = ModelSpec(use="detector:fcos-tiny", classes=2, preprocess=Preprocess())
    loaded = load_model(spec, {})
    check_detector(loaded.module, loaded.input_shape)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"rule": ""}, "rule must be one line of text"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"forward": forward(lambda out: (out, out))}, "forward must return one tensor, got tuple"),
        ({"forward": forward(lambda out: out.double())}, "outputs must be float32"),
        ({"forward": forward(lambda out: out[:1])}, r"a row for each image, \(3, ...\)"),
        ({"forward": forward(lambda out: out - out.mean(0))}, "must not depend on the batch"),
        ({"forward": forward(lambda out: out / 0)}, "outputs must be finite"),
        ({"decode": edits}, "must leave the outputs untouched"),
        ({"decode": once}, "decode of an image must not depend on the batch"),
        ({"decode": lambda _, out: []}, "decode must return one Detections for each image"),
        ({"decode": answer(score=(2.0,))}, "scores must be 0 to 1, got 2"),
        ({"decode": answer(label=(2,))}, "labels must be 0 to 1, got 2"),
        ({"decode": answer(label=(-1,))}, "labels must be 0 to 1, got -1; leave the background"),
        ({"decode": answer(label=(0.0,))}, "must hold integers, got float"),
        ({"decode": answer(boxes=(), score=(0.5,))}, "boxes must have shape"),
        ({"decode": answer(score=(np.nan,))}, "must be finite"),
        ({"decode": answer(place=(36,))}, "place must be 0 to 35, a row of class_scores"),
        ({"decode": answer(place=(0, 1))}, "one place for each box"),
        ({"class_scores": lambda _, out: out[0]}, r"class_scores must be \(n, places, C\)"),
        ({"loss": lambda _, out, target: out.sum(0)}, "loss must be a scalar"),
        (
            {"loss": lambda _, out, t: out.sum() / sum(len(each["labels"]) for each in t)},
            "loss of images without objects must be finite",
        ),
    ],
)
def test_a_mistake_is_named(members, sentence):
    with pytest.raises(AssertionError, match=f"Broken: .*{sentence}"):
        check_detector(broken(**members), SHAPE)


def test_what_is_no_detector_is_told_what_it_lacks():
    with pytest.raises(AssertionError, match=r"Linear: must have num_classes, rule and decode"):
        check_detector(torch.nn.Linear(2, 2), SHAPE)


# metrics of detection


def variant(**members):
    cls = METRICS.get("detection.d_ece")
    members = {"name": "test.variant", "__doc__": cls.__doc__, "__module__": __name__, **members}
    return component(type(f"Variant{next(_COUNTER)}", (cls,), members))


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"task": "segmentation"}, "task must be one of"),
        ({"caveat": lambda _, p: "two\nlines"}, "caveat must be one line"),
        ({"replicated": lambda _, p, w: 0.5}, "replicated must return Replicated or Undefined"),
        ({"replicated": lambda _, p, w: Undefined("no")}, "must be undefined together"),
        ({"__call__": lambda _, p: 0.5}, "must be undefined together|must agree"),
        ({"__call__": lambda _, p: 2.0}, r"must be within its range \[0, 1\]"),
        ({"task": "classification"}, None),
    ],
)
def test_a_mistake_of_a_metric_of_boxes_is_named(members, sentence):
    error = AttributeError if sentence is None else AssertionError
    with pytest.raises(error, match=sentence):
        check_metric(variant(**members))


def test_a_metric_of_boxes_without_a_protocol_is_refused():
    class Silent:
        __doc__ = METRICS.get("detection.ap50").__doc__
        name, version, unit = "test.silent", 1, "fraction"
        better, range, is_fast = METRICS.get("detection.ap50").better, (0.0, 1.0), True
        task = "detection"

        def __call__(self, predictions):
            return Undefined("never")

        def terms(self, predictions):
            return None

    with pytest.raises(AssertionError, match="must have a caveat that states the protocol"):
        check_metric(component(Silent))


def test_tiny_detections_are_deterministic_and_have_every_kind_of_image():
    found, again = tiny_detections(), tiny_detections()
    assert found.boxes.tobytes() == again.boxes.tobytes()
    assert found.objects.tobytes() == again.objects.tobytes()
    assert (np.diff(found.objects.offsets) == 0).any()
    assert found.objects.crowd.any()
    assert METRICS.get("detection.ap50")()(found) > 0.3
    sizes = np.sqrt(found.objects.area)
    assert (sizes < 32).any()
    assert ((sizes > 32) & (sizes < 96)).any()
    assert (sizes > 96).any()


# images with boxes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("boxed")
    write_boxes(path, count=12)
    return path


def test_images_of_a_coco_file_pass(folder):
    check_boxed_images(lambda: Coco().load("boxes.json", {"study": folder}))


def test_mistakes_of_boxed_images_are_named(folder):
    images = Coco().load("boxes.json", {"study": folder})
    objects = images.objects
    columns = {name: getattr(objects, name) for name in Objects.__dataclass_fields__}

    def changed(**other):
        return replace(images, target=Objects(**{**columns, **other}))

    outside = changed(boxes=objects.boxes + 60)
    with pytest.raises(AssertionError, match="boxes must lie inside their images"):
        check_boxed_images(lambda: outside)
    with pytest.raises(AssertionError, match="areas of objects must be above 0"):
        check_boxed_images(lambda: changed(area=objects.area * 0))
    with pytest.raises(AssertionError, match="pixels must have the noted sizes"):
        check_boxed_images(lambda: changed(sizes=objects.sizes + 1))
    found = iter((images, images.take(np.arange(5))))
    with pytest.raises(AssertionError, match="reading twice must give the same"):
        check_boxed_images(lambda: next(found))
    labels = np.zeros(len(images), dtype=np.int64)
    with pytest.raises(AssertionError, match="must have boxes"):
        check_boxed_images(lambda: replace(images, target=labels, shape=(48, 48)))
