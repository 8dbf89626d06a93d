"""The kit finds what it promises to find: one class per broken rule."""

import itertools
from typing import Annotated

import numpy as np
import pydantic
import pytest

from shrinkproof.attributions.cam import GradCam
from shrinkproof.attributions.occlusion import Occlusion
from shrinkproof.compressors.criteria.weights import Magnitude
from shrinkproof.compressors.recalibrate import Recalibration
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.corruptions.noise import GaussianNoise
from shrinkproof.engines.inline import Inline
from shrinkproof.evaluators.scores import Scores
from shrinkproof.metrics.accuracy import Top1
from shrinkproof.protocols import Needs
from shrinkproof.records import Failure
from shrinkproof.registry import component
from shrinkproof.testing import (
    check_attribution,
    check_compressor,
    check_corruption,
    check_criterion,
    check_engine,
    check_evaluator,
    check_metric,
    example_settings,
    tiny_images,
    tiny_model,
    tiny_predictions,
)

_COUNTER = itertools.count()


def _variant(cls, **members):
    """Return a subclass under a name of its own, with some members replaced."""
    members = {"name": "test.variant", "__doc__": cls.__doc__, "__module__": __name__, **members}
    return component(type(f"Variant{next(_COUNTER)}", (cls,), members))


def _finds(check, cls, sentence, **settings):
    with pytest.raises(AssertionError, match=sentence) as caught:
        check(cls, **settings)
    assert cls.__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"version": 1.5}, "version must be a whole number, got 1.5"),
        ({"version": 0}, "version must be at least 1"),
        ({"name": "Accuracy"}, "name must be lower case, dotted"),
        ({"name": "accuracy.top1"}, "is registered for Top1"),
        ({"__doc__": None}, "must have a docstring"),
        ({"__doc__": "Something.\n\nInput: x.\nOutput: y."}, "must have a section 'Reference:'"),
        ({"__doc__": "x" * 90 + "."}, "first docstring line must fit 80 characters"),
        ({"__doc__": "No full stop"}, "must end in '.'"),
        ({"unit": "percent"}, "unit must be one of"),
        ({"better": "higher"}, "better must be a Better"),
        ({"range": (0.0, 0.1)}, r"must be within its range \[0, 0.1\]"),
        ({"__call__": lambda _, p: float(p.logits[:1, 0].sum()) % 1}, "order of the images"),
        ({"__call__": lambda _, p: 0.5}, "value and terms must agree|must be nan without images"),
        ({"__call__": lambda _, p: 1}, "must return a float, got int"),
        ({"terms": lambda _, p: [1]}, "terms must return Terms or None"),
    ],
)
def test_metrics(members, sentence):
    _finds(check_metric, _variant(Top1, **members), sentence)


def test_a_metric_that_writes_into_the_predictions():
    def call(self, predictions):
        predictions.logits[:] = 0
        return 0.0

    members = {"__call__": call, "terms": lambda _, p: None}
    _finds(check_metric, _variant(Top1, **members), "predictions must stay untouched")


def test_a_class_that_is_no_component():
    class Plain:
        name = "test.plain"

    with pytest.raises(AssertionError, match="Plain: must be decorated with @component"):
        check_engine(Plain)


def test_a_field_that_nobody_explains():
    cls = _variant(Inline, __annotations__={"threads": int}, threads=1)
    _finds(check_engine, cls, "docstring must explain the field 'threads'")


def _subset(self, images, severity, preset, draws):
    return images + np.uint8(len(images) * severity)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"family": ""}, "family must not be empty"),
        ({"apply": lambda s, i, v, p, d: i.astype(np.float32)}, "must return .* uint8"),
        ({"apply": lambda s, i, v, p, d: i[:, ::2]}, "must return"),
        ({"apply": lambda s, i, v, p, d: i.copy()}, "severity 5 must harm more than 1"),
        ({"apply": lambda s, i, v, p, d: i + np.uint8(20 // v)}, "must harm more with severity"),
        ({"apply": _subset}, "must depend only on its image"),
        (
            {"apply": lambda s, i, v, p, d: np.add(i, v, out=i, casting="unsafe")},
            "images must stay untouched",
        ),
    ],
)
def test_corruptions(members, sentence):
    _finds(check_corruption, _variant(GaussianNoise, **members), sentence)


def _changed(change, cls=GradCam):
    def maps(self, subject, inputs, target, *, stream):
        return change(cls.maps(self, subject, inputs, target, stream=stream), subject, inputs)

    return maps


def _spoil(maps, subject, inputs):
    inputs[:] = 0
    return maps


def _leave_hook(maps, subject, inputs):
    if subject.module is not None:
        subject.module.register_forward_hook(lambda *_: None)
    return maps


def _leave_mode(maps, subject, inputs):
    subject.module.eval()
    return maps


@pytest.mark.parametrize(
    ("cls", "members", "sentence"),
    [
        (GradCam, {"needs": "a network"}, "needs must be one of"),
        (GradCam, {"is_signed": None}, "is_signed must be true or false"),
        (GradCam, {"maps": _changed(lambda m, s, i: m[:3])}, "must return one map per image"),
        (GradCam, {"maps": _changed(lambda m, s, i: m[0])}, r"maps must be \(n, h, w\)"),
        (GradCam, {"maps": _changed(lambda m, s, i: m.astype(float))}, "maps must be float32"),
        (GradCam, {"maps": _changed(lambda m, s, i: m + np.float32("inf"))}, "maps must be finite"),
        (GradCam, {"maps": _changed(lambda m, s, i: -m)}, "signed or not negative"),
        (GradCam, {"maps": _changed(lambda m, s, i: m / len(m))}, "not on the batch"),
        (GradCam, {"maps": _changed(lambda m, s, i: m + next(_COUNTER))}, "the same stream"),
        (GradCam, {"maps": _changed(_spoil)}, "inputs must stay untouched"),
        (GradCam, {"maps": _changed(_leave_hook)}, "network must stay as it was"),
        (GradCam, {"maps": _changed(_leave_mode)}, "network must stay as it was"),
        (GradCam, {"resolution": lambda _, s, i: (99, 1)}, "resolution must be between"),
        (
            Occlusion,
            {"maps": _changed(lambda m, s, i: m * np.float32(s.module is None), Occlusion)},
            "must not look at the network",
        ),
        (
            Occlusion,
            {"needs": "gradients"},
            "without a network it must raise a UsageError",
        ),
    ],
)
def test_attributions(cls, members, sentence):
    _finds(check_attribution, _variant(cls, **members), sentence)


@pytest.mark.parametrize(
    ("score", "sentence"),
    [
        (lambda w: w[0].abs(), "must have the shapes"),
        (lambda w: w / 0, "must be finite"),
        (lambda w: w.zero_(), "model must stay untouched"),
        (lambda w: w * next(_COUNTER), "same streams must give the same"),
    ],
)
def test_criteria(score, sentence):
    def scores(_, model, layers, context):
        return {layer: score(model.get_submodule(layer).weight.detach()) for layer in layers}

    _finds(check_criterion, _variant(Magnitude, scores=scores), sentence)


def _edited(change):
    def apply(self, model, context):
        module, made = WeightPruning.apply(self, model, context)
        return change(module, made)

    return apply


def _shifted(module, made):
    import torch

    with torch.no_grad():
        module.get_parameter("9.bias").add_(next(_COUNTER))
    return module, made


def _cut(module, made):
    from torch import nn

    return nn.Sequential(module, nn.Linear(4, 2, bias=False)), made


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"role": "compress"}, "role must be a Role"),
        ({"needs": None}, "needs must be a Needs"),
        ({"apply": _edited(_shifted)}, "same streams must give the same bytes"),
        ({"apply": _edited(_cut)}, "outputs must keep their shape"),
        ({"needs": Needs.CALIBRATION}, "without the images that it needs must raise"),
        ({"version": 2, "apply": _edited(lambda m, c: (m, c))}, None),
    ],
)
def test_compressors(members, sentence):
    cls = _variant(WeightPruning, **members)
    if sentence is None:
        check_compressor(cls)
    else:
        _finds(check_compressor, cls, sentence)


def test_a_compressor_whose_change_belongs_to_another_step():
    def apply(self, model, context):
        return Recalibration().apply(model, context)

    _finds(check_compressor, _variant(Recalibration, apply=apply), "its change must carry")


def test_a_compressor_that_cannot_be_restored():
    from torch import nn

    class Wrapped(nn.Sequential):
        pass

    def apply(self, model, context):
        module, made = WeightPruning.apply(self, model, context)
        return Wrapped(module), made

    _finds(check_compressor, _variant(WeightPruning, apply=apply), "restore must give the state-d")


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (lambda _, work, items: iter([(0, 0)]), "no items must give no results"),
        (lambda _, work, items: ((i, 0) for i in list(items)[1:]), "must yield every item once"),
        (lambda _, work, items: ((i, -1) for i in items), "item 0 came back with -1"),
        (lambda _, work, items: ((i, i * i) for i in items), "must come back as a Failure"),
        (
            lambda _, w, items: ((i, Failure("E", "x") if i == 3 else i * i) for i in items),
            "must name its type",
        ),
    ],
)
def test_engines(work, sentence):
    _finds(check_engine, _variant(Inline, map=work), sentence)


def _one(outcome):
    def measure(self, subjects, condition):
        for subject in subjects:
            yield subject, outcome

    return measure


def _abort(self, subjects, condition):
    raise RuntimeError("the first bad one ends it all")


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"exclusive": 1}, "exclusive must be true or false"),
        ({"measure": _abort}, "must come back as a Failure, not end the measurement"),
        ({"measure": lambda _, s, c: iter(())}, "must yield every candidate once"),
        ({"measure": _one([])}, "must measure something"),
        ({"measure": _one(Failure("E", "x"))}, "a sound candidate must be measured"),
        ({"measure": _one([3])}, "must yield Measurements"),
    ],
)
def test_evaluators(members, sentence):
    settings = {"metrics": ("accuracy.top1",), "replicates": 100}
    _finds(check_evaluator, _variant(Scores, **members), sentence, **settings)


def test_settings_are_guessed_from_limits_or_asked_for():
    assert example_settings(WeightPruning) == {"ratio": 0.5}
    assert example_settings(WeightPruning, ratio=0.2) == {"ratio": 0.2}

    @component
    class Fields:
        few: Annotated[int, pydantic.Field(gt=0)]
        many: Annotated[int, pydantic.Field(ge=2, le=256)]
        free: float

    assert example_settings(Fields) == {"few": 1, "many": 4, "free": 0.5}
    with pytest.raises(AssertionError, match="'metrics' can be guessed; pass one to the check"):
        example_settings(Scores)


def test_toys_are_deterministic_and_differ_by_seed():
    import torch

    first, again, other = tiny_model(), tiny_model(), tiny_model(seed=1)
    weights = [m.get_parameter("0.weight") for m in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert tiny_images().fingerprint == tiny_images().fingerprint
    assert tiny_images().fingerprint != tiny_images(seed=1).fingerprint
    assert len(set(tiny_images(count=40).hashes)) == 40
    assert Top1()(tiny_predictions()) > 0.5
