"""Conformance of detectors."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.detecting import Detections, Detector, LearnsBoxes, ScoresBoxes
from shrinkproof.errors import ExportError, ModelError
from shrinkproof.evaluators.answers import decoded
from shrinkproof.randomness import stream

if TYPE_CHECKING:
    from torch import Tensor, nn

# Shape suffixes: n images, m detections, C classes.

_IMAGES: Final = 3

_ROUNDING: Final = 1e-4
"""Of the largest output: a network computes batches of another size in another order."""


def check_detector(module: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Check that a network keeps the contract of `shrinkproof.detecting`.

    Its output is one float32 tensor with a row for each image, the same in training and in
    evaluation mode but for batch norm, and does not depend on the batch; `decode` makes boxes of
    it without looking at the weights, leaves it alone and gives the same for each image alone;
    classes are 0 to C - 1, scores 0 to 1, all finite, at most C are many. Where it has them:
    `class_scores` is differentiable and has the places that `decode` names, `loss` is a finite
    scalar with gradients, also of images without objects. The network can be exported, and the
    file gives the same output.

    Args:
        module: the detector, with any weights; not edited.
        input_shape: (C, H, W) of one input.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    import torch

    name = type(module).__name__
    assert isinstance(module, Detector), (
        f"{name}: must have num_classes, rule and decode(outputs), as `shrinkproof.Detector` says"
    )
    assert type(module.num_classes) is int, f"{name}: num_classes must be a whole number"
    assert module.num_classes >= 1, f"{name}: num_classes must be at least 1"
    rule = module.rule
    is_line = isinstance(rule, str) and rule.strip() and "\n" not in rule
    assert is_line, f"{name}: rule must be one line of text, got {rule!r}"
    own = copy.deepcopy(module).float().eval()
    assert isinstance(own, Detector), "a copy is a detector, too"
    values = stream("check detector").normal(0, 1, (_IMAGES, *input_shape))
    inputs = torch.from_numpy(values.astype(np.float32))
    outputs = _check_forward(name, own, inputs)
    _check_decode(name, own, outputs)
    _check_scores(name, own, outputs)
    _check_loss(name, own, inputs)
    _check_export(name, own, inputs)


def _check_forward(name: str, module: nn.Module, inputs: Tensor) -> NDArray[np.float32]:
    import torch
    from torch import Tensor

    with torch.no_grad():
        outputs = module(inputs)
        assert isinstance(outputs, Tensor), (
            f"{name}: forward must return one tensor, got {type(outputs).__name__}; let it return "
            "the numbers before boxes are chosen"
        )
        assert outputs.dtype == torch.float32, f"{name}: outputs must be float32"
        assert outputs.shape[:1] == inputs.shape[:1], (
            f"{name}: outputs must have a row for each image, ({len(inputs)}, ...), got "
            f"{tuple(outputs.shape)}"
        )
        assert bool(outputs.isfinite().all()), f"{name}: outputs must be finite"
        alone = module(inputs[:1])
        limit = _ROUNDING * float(outputs.abs().max()) + 1e-6
        assert alone.shape[1:] == outputs.shape[1:], (
            f"{name}: outputs must have one shape for any batch, got {tuple(alone.shape)} for one "
            f"image and {tuple(outputs.shape)} for {len(inputs)}"
        )
        assert float((alone - outputs[:1]).abs().max()) <= limit, (
            f"{name}: outputs of an image must not depend on the batch"
        )
        trained = copy.deepcopy(module).train()(inputs)
    is_same = isinstance(trained, Tensor) and trained.shape == outputs.shape
    assert is_same, f"{name}: forward must return the same kind of tensor in training mode"
    return np.asarray(outputs.numpy())


def _check_decode(name: str, module: Detector, outputs: NDArray[np.float32]) -> None:
    kept = outputs.copy()
    try:
        found = decoded(module, outputs, len(outputs))
    except ModelError as error:
        raise AssertionError(f"{name}: {error}") from error
    assert np.array_equal(outputs, kept), f"{name}: decode must leave the outputs untouched"
    for position, each in enumerate(found):
        assert isinstance(each, Detections), f"{name}: decode must return Detections, got {each!r}"
        _check_detections(name, each, module.num_classes)
        (alone,) = module.decode(outputs[position : position + 1])
        same = np.array_equal(alone.boxes, each.boxes) and np.array_equal(alone.score, each.score)
        assert same, f"{name}: decode of an image must not depend on the batch"
    assert list(module.decode(outputs[:0])) == [], f"{name}: decode of no image must be empty"


def _check_detections(name: str, found: Detections, classes: int) -> None:
    if not len(found.score):
        return
    assert found.score.min() >= 0, f"{name}: scores must be 0 to 1, got {found.score.min():g}"
    assert found.score.max() <= 1, f"{name}: scores must be 0 to 1, got {found.score.max():g}"
    is_whole = np.issubdtype(found.label.dtype, np.integer)
    assert is_whole, f"{name}: labels must be whole numbers, got {found.label.dtype}"
    low, high = int(found.label.min()), int(found.label.max())
    assert low >= 0, f"{name}: labels must be 0 to {classes - 1}, got {low}; leave the background"
    assert high < classes, f"{name}: labels must be 0 to {classes - 1}, got {high}"


def _check_scores(name: str, module: Any, outputs: NDArray[np.float32]) -> None:
    import torch

    found = module.decode(outputs)
    places = [each.place for each in found if each.place is not None]
    has_scores = isinstance(module, ScoresBoxes)
    if not has_scores:
        assert not places, f"{name}: place counts the rows of class_scores, and there are none"
        return
    given = torch.from_numpy(outputs).requires_grad_()
    scores = module.class_scores(given)
    expected = (len(outputs), module.num_classes)
    assert scores.ndim == 3, f"{name}: class_scores must be (n, places, C), got {scores.shape}"
    assert (scores.shape[0], scores.shape[2]) == expected, (
        f"{name}: class_scores must be (n, places, C) with n, C = {expected}, got "
        f"{tuple(scores.shape)}"
    )
    scores.sum().backward()
    assert given.grad is not None, f"{name}: class_scores must be differentiable"
    for place in places:
        is_in = len(place) == 0 or (place.min() >= 0 and place.max() < scores.shape[1])
        assert is_in, f"{name}: place must be 0 to {scores.shape[1] - 1}, a row of class_scores"
    for each in found:
        assert each.place is None or len(each.place) == len(each.score), (
            f"{name}: must have one place for each box"
        )


def _check_loss(name: str, module: Any, inputs: Tensor) -> None:
    import torch

    can_learn = isinstance(module, LearnsBoxes)
    if not can_learn:
        return
    tall, wide = inputs.shape[2:]
    some = {
        "boxes": torch.tensor([[0.1 * wide, 0.2 * tall, 0.6 * wide, 0.8 * tall]]),
        "labels": torch.tensor([module.num_classes - 1]),
    }
    none = {"boxes": torch.zeros((0, 4)), "labels": torch.zeros(0, dtype=torch.int64)}
    for what, target in (("", [some, none, some]), (" of images without objects", [none] * 3)):
        outputs = copy.deepcopy(module)(inputs).detach().requires_grad_()
        loss = module.loss(outputs, target)
        assert loss.ndim == 0, f"{name}: loss{what} must be a scalar, got {tuple(loss.shape)}"
        assert bool(loss.isfinite()), f"{name}: loss{what} must be finite, got {loss.item()}"
        loss.backward()
        has_gradient = outputs.grad is not None and bool(outputs.grad.isfinite().all())
        assert has_gradient, f"{name}: loss{what} must have finite gradients of the outputs"


def _check_export(name: str, module: nn.Module, inputs: Tensor) -> None:
    from shrinkproof.artifacts.export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        try:
            export_onnx(module, inputs, Path(folder) / "model.onnx")
        except ExportError as error:
            raise AssertionError(
                f"{name}: must be exportable with the same outputs, got {error}"
            ) from error
