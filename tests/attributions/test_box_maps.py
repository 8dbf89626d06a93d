"""Heat maps of boxes: by hand, on the object, one box at a time, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.attributions import BOX_ATTRIBUTIONS
from shrinkproof.attributions.box_gradcam import BoxGradCam, BoxHiResCam
from shrinkproof.attributions.box_layers import choose_box_layer
from shrinkproof.attributions.boxes import ExplainedBoxes, detections, overlap
from shrinkproof.attributions.drise import DRise
from shrinkproof.attributions.layers import choose_layer
from shrinkproof.attributions.rise import Rise
from shrinkproof.detecting import Detections
from shrinkproof.errors import DataError, UsageError
from shrinkproof.models.loaded import Preprocess

from .candidate import STREAM
from .squares import Seen, Squares, painted, share_inside

METHODS = [BoxGradCam(), BoxHiResCam(), DRise(masks=60, cells=8)]
ids = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)

TWO = [(0, 4, 6), (0, 44, 26)]
"""Two red squares; the detector finds each of them."""


def inputs_of(*images: list[tuple[int, int, int]]) -> np.ndarray:
    return Preprocess()(np.stack([painted(squares) for squares in images]))


def found_in(inputs: np.ndarray, module: Squares) -> ExplainedBoxes:
    """Everything that a detector finds, image by image, from left to right."""
    found = Seen(module).detector.decode(Seen(module).predict(inputs))
    orders = [np.argsort(one.boxes[:, 0], kind="stable") for one in found]
    pairs = list(zip(found, orders, strict=True))
    return ExplainedBoxes(
        image=np.repeat(np.arange(len(found)), [len(o) for o in orders]),
        boxes=np.concatenate([one.boxes[o] for one, o in pairs]),
        label=np.concatenate([one.label[o] for one, o in pairs]),
        place=np.concatenate([one.place[o] for one, o in pairs]),
    )


def box(number: int, boxes: ExplainedBoxes) -> ExplainedBoxes:
    place = None if boxes.place is None else boxes.place[number : number + 1]
    rows = slice(number, number + 1)
    return ExplainedBoxes(boxes.image[rows], boxes.boxes[rows], boxes.label[rows], place)


def test_overlap_by_hand() -> None:
    a = np.array([[0, 0, 4, 4], [2, 2, 2, 6]])
    b = np.array([[2, 0, 6, 4], [0, 0, 4, 4], [9, 9, 10, 10]])
    np.testing.assert_allclose(overlap(a, b), [[8 / 24, 1, 0], [0, 0, 0]])


def test_the_detector_finds_its_squares() -> None:
    boxes = found_in(inputs_of(TWO, [], [(1, 20, 16)]), Squares())
    assert boxes.image.tolist() == [0, 0, 2]
    assert boxes.label.tolist() == [0, 0, 1]
    truth = np.array([[4, 6, 20, 22], [44, 26, 60, 42], [20, 16, 36, 32]])
    assert (np.diag(overlap(boxes.boxes, truth)) > 0.6).all()


def test_maps_of_one_weight_by_hand() -> None:
    class Linear(nn.Module):
        """Twice each pixel; the score of place 0 is pixel 0 plus a half of pixel 1, and so on."""

        num_classes, rule = 1, "none"

        def __init__(self) -> None:
            super().__init__()
            self.twice = nn.Conv2d(1, 1, 1, bias=False)
            self.twice.weight.data.fill_(2)

        def forward(self, images):
            pixels = self.twice(images).flatten(1)
            return (pixels + 0.5 * pixels.roll(-1, 1))[..., None]

        def decode(self, outputs):
            return [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))] * len(outputs)

        def class_scores(self, outputs):
            return outputs

    inputs = np.array([3, 1, 2, 5], dtype=np.float32).reshape(1, 1, 2, 2)
    boxes = ExplainedBoxes(
        image=np.zeros(2, np.int64),
        boxes=np.zeros((2, 4), np.float32),
        label=np.zeros(2, np.int64),
        place=np.array([1, 0]),
    )
    seen = Seen(Linear().eval(), layer="twice")
    # Activations 6 2 4 10; gradients of place 1 are 0 1 0.5 0, of place 0 1 0.5 0 0.
    exact = BoxHiResCam().maps(seen, inputs, boxes, stream=STREAM)
    np.testing.assert_allclose(exact.reshape(2, 4), [[0, 2, 2, 0], [6, 1, 0, 0]])
    mean = BoxGradCam().maps(seen, inputs, boxes, stream=STREAM)
    np.testing.assert_allclose(mean.reshape(2, 4), [0.375 * np.array([6, 2, 4, 10])] * 2)


def test_a_map_lies_on_the_square_of_its_box() -> None:
    inputs = inputs_of(TWO)
    boxes = found_in(inputs, Squares())
    exact = BoxHiResCam().maps(Seen(Squares(), "act"), inputs, boxes, stream=STREAM)
    black_box = DRise(masks=400, cells=8).maps(
        Seen(Squares(), has_module=False), inputs, boxes, stream=STREAM
    )
    for number, (own, other) in enumerate(((0, 1), (1, 0))):
        assert share_inside(exact[number], boxes.boxes[own]) > 0.9
        assert share_inside(exact[number], boxes.boxes[other]) == 0
        # Smooth masks of 8x8 cells reach over the border of a square of 2x2 cells.
        assert share_inside(black_box[number], boxes.boxes[own]) > 0.3
        assert share_inside(black_box[number], boxes.boxes[other]) < 0.06


def test_channels_as_a_whole_also_show_the_other_square_of_the_class() -> None:
    inputs = inputs_of([*TWO[:1], (1, 24, 26), (0, 44, 26)])
    boxes = found_in(inputs, Squares())
    assert boxes.label.tolist() == [0, 1, 0]
    red, green, _ = BoxGradCam().maps(Seen(Squares(), "act"), inputs, boxes, stream=STREAM)
    assert share_inside(red, boxes.boxes[0]) > 0.4
    assert share_inside(red, boxes.boxes[2]) > 0.4
    assert share_inside(red, boxes.boxes[1]) < 0.01
    assert share_inside(green, boxes.boxes[1]) > 0.8


@ids
def test_a_map_depends_on_its_image_and_box_alone(method) -> None:
    inputs = inputs_of(TWO, [(1, 20, 16)], [(0, 8, 20), (1, 40, 10)])
    boxes = found_in(inputs, Squares())
    together = method.maps(Seen(Squares()), inputs, boxes, stream=STREAM)
    again = method.maps(Seen(Squares()), inputs, boxes, stream=STREAM)
    np.testing.assert_array_equal(together, again)
    for number in range(len(boxes)):
        image = boxes.image[number : number + 1]
        _, alone = box(number, boxes).of(image)
        made = method.maps(Seen(Squares()), inputs[image], alone, stream=STREAM)
        atol = 1e-5 * np.abs(together).max()
        np.testing.assert_allclose(made[0], together[number], rtol=0, atol=atol)


@ids
def test_nothing_is_left_behind(method) -> None:
    module = Squares().train()
    module.pool.eval()
    inputs = inputs_of(TWO)
    boxes = found_in(inputs, Squares())
    kept, modes = inputs.copy(), [part.training for part in module.modules()]
    maps = method.maps(Seen(module), inputs, boxes, stream=STREAM)
    np.testing.assert_array_equal(inputs, kept)
    assert [part.training for part in module.modules()] == modes
    assert not any(part._forward_hooks for part in module.modules())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert maps.dtype == np.float32
    assert method.is_signed or maps.min() >= 0
    rows, columns = method.resolution(Seen(Squares()), inputs)
    assert 1 <= rows <= maps.shape[1]
    assert 1 <= columns <= maps.shape[2]


def test_every_registered_method_is_tested_here() -> None:
    assert {m.name for m in METHODS} == set(BOX_ATTRIBUTIONS.builtin)
    for name in BOX_ATTRIBUTIONS.builtin:
        made = BOX_ATTRIBUTIONS.create(name, {})
        assert made.name == name
        assert made.needs in ("gradients", "predictions")


def test_masks_are_those_of_rise_and_shown_once_per_image() -> None:
    """A score that is 1 minus the mean brightness of one place gives the map of RISE."""

    class Bright(nn.Module):
        num_classes, rule = 1, "none"

        def forward(self, images):
            return images[:, :1, 5:6, 9:10].flatten(1)

        def decode(self, outputs):
            box, label = np.float32([[0, 0, 16, 16]]), np.zeros(1, np.int64)
            return [Detections(box, one.clip(0, 1), label) for one in outputs]

    inputs = np.ones((1, 3, 16, 16), dtype=np.float32)
    boxes = ExplainedBoxes(
        image=np.zeros(2, np.int64),
        boxes=np.float32([[0, 0, 16, 16], [0, 0, 8, 16]]),
        label=np.zeros(2, np.int64),
    )
    seen = Seen(Bright(), has_module=False)
    maps = DRise(masks=30, cells=4).maps(seen, inputs, boxes, stream=STREAM)
    assert seen.asked == 30
    masks = Rise(masks=30, cells=4).draw(STREAM, (16, 16))
    score = masks[:, 5, 9].astype(np.float64)
    expected = np.einsum("m,mhw->hw", score - score.mean(), masks) / 15
    np.testing.assert_allclose(maps[0], expected, atol=1e-5)
    np.testing.assert_allclose(maps[1], expected / 2, atol=1e-5)


def test_halves_use_other_masks_and_make_up_the_whole() -> None:
    inputs = inputs_of(TWO)
    boxes = found_in(inputs, Squares())
    whole, first, second = (
        DRise(masks=80, cells=8, centered=False, half=half).maps(
            Seen(Squares()), inputs, boxes, stream=STREAM
        )
        for half in (None, 0, 1)
    )
    np.testing.assert_allclose(whole, (first + second) / 2, atol=1e-5)
    assert np.abs(first - second).max() > 0.01


def test_large_inputs_have_maps_of_at_most_64_pixels() -> None:
    class Mean(nn.Module):
        num_classes, rule = 1, "none"

        def forward(self, images):
            return images[:, :1, :40, :40].mean((2, 3))

        def decode(self, outputs):
            box, label = np.float32([[0, 0, 40, 40]]), np.zeros(1, np.int64)
            return [Detections(box, one.clip(0, 1), label) for one in outputs]

    inputs = np.ones((1, 3, 130, 60), dtype=np.float32)
    boxes = ExplainedBoxes(
        np.zeros(1, np.int64), np.float32([[0, 0, 40, 40]]), np.zeros(1, np.int64)
    )
    method = DRise(masks=40, cells=8)
    (found,) = method.maps(Seen(Mean(), has_module=False), inputs, boxes, stream=STREAM)
    assert found.shape == (64, 60)
    masks = Rise(masks=40, cells=8).draw(STREAM, (130, 60))
    score = masks[:, :40, :40].mean((1, 2), dtype=np.float64)
    full = np.einsum("m,mhw->hw", score - score.mean(), masks) / 20
    starts = [*(np.arange(64) * 130 // 64), 130]
    blocks = [full[a:b].mean(axis=0) for a, b in pairwise(starts)]
    np.testing.assert_allclose(found, blocks, atol=1e-5)


def test_a_box_that_is_never_found_has_a_constant_map() -> None:
    inputs = inputs_of(TWO)
    boxes = ExplainedBoxes(
        np.zeros(1, np.int64), np.float32([[4, 6, 20, 22]]), np.ones(1, np.int64)
    )
    maps = DRise(masks=20, cells=8).maps(Seen(Squares()), inputs, boxes, stream=STREAM)
    assert not maps.any()


@pytest.mark.slow
def test_an_exported_file_has_the_maps_of_its_network(tmp_path: Path) -> None:
    from shrinkproof.artifacts.export import export_onnx
    from shrinkproof.artifacts.session import Session

    inputs = inputs_of(TWO)
    boxes = found_in(inputs, Squares())
    export_onnx(Squares(), torch.from_numpy(inputs), tmp_path / "model.onnx")
    seen = Seen(Squares(), has_module=False)
    expected = DRise(masks=60, cells=8).maps(seen, inputs, boxes, stream=STREAM)
    seen.predict = Session(tmp_path / "model.onnx", threads=1)
    found = DRise(masks=60, cells=8).maps(seen, inputs, boxes, stream=STREAM)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_gradients_need_a_network_and_scores() -> None:
    inputs = inputs_of(TWO)
    boxes = found_in(inputs, Squares())
    blind = Seen(Squares(), has_module=False)
    with pytest.raises(UsageError, match=r"must be a PyTorch network.*use drise"):
        BoxGradCam().maps(blind, inputs, boxes, stream=STREAM)
    nowhere = ExplainedBoxes(boxes.image, boxes.boxes, boxes.label)
    with pytest.raises(UsageError, match="no place of its boxes; add it, or use drise"):
        BoxGradCam().maps(Seen(Squares()), inputs, nowhere, stream=STREAM)
    scoreless = Seen(Squares())
    scoreless.detector = object()
    with pytest.raises(UsageError, match="got no class_scores"):
        BoxGradCam().maps(scoreless, inputs, boxes, stream=STREAM)


def test_the_chosen_layer_comes_before_the_score() -> None:
    """A score depends on one place of ``head`` and ``around``, and on 5x5 of ``pool``."""
    module = Squares()
    assert choose_layer(module, inputs_of(TWO)).name == "head"
    assert choose_box_layer(module, inputs_of(TWO), module).name == "pool"
    assert BoxGradCam().resolution(Seen(module), inputs_of(TWO)) == (12, 16)


def test_a_layer_that_speaks_for_no_box_is_refused() -> None:
    class Beside(Squares):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Conv2d(3, 1, 3, padding=1)

        def forward(self, images):
            self.other(images)
            return super().forward(images)

    inputs = inputs_of(TWO)
    boxes = found_in(inputs, Squares())
    with pytest.raises(UsageError, match="must lead to the class scores"):
        BoxGradCam().maps(Seen(Beside(), "other"), inputs, boxes, stream=STREAM)


@ids
def test_what_does_not_fit_is_refused(method) -> None:
    inputs = inputs_of(TWO)
    boxes = found_in(inputs, Squares())
    _, none = boxes.of(np.array([5]))
    with pytest.raises(DataError, match="at least one box"):
        method.maps(Seen(Squares()), inputs, none, stream=STREAM)
    elsewhere = ExplainedBoxes(boxes.image + 3, boxes.boxes, boxes.label, boxes.place)
    with pytest.raises(DataError, match="images 0 to 0, got 3 to 3"):
        method.maps(Seen(Squares()), inputs, elsewhere, stream=STREAM)
    with pytest.raises(DataError, match=r"\(n, C, H, W\) float32"):
        method.maps(Seen(Squares()), inputs[0], boxes, stream=STREAM)


@ids
def test_outputs_that_are_no_numbers_are_refused(method) -> None:
    module = Squares()
    inputs = inputs_of(TWO)
    boxes = found_in(inputs, module)
    module.head.bias.data[1] = np.nan
    with pytest.raises(DataError, match="the network's output must be finite"):
        method.maps(Seen(module), inputs, boxes, stream=STREAM)


def test_a_place_outside_the_scores_is_refused() -> None:
    inputs = inputs_of(TWO)
    boxes = found_in(inputs, Squares())
    far = ExplainedBoxes(boxes.image, boxes.boxes, boxes.label, boxes.place + 500)
    with pytest.raises(DataError, match="class_scores must be"):
        BoxGradCam().maps(Seen(Squares()), inputs, far, stream=STREAM)


def test_columns_of_different_length_and_order_are_refused() -> None:
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    with pytest.raises(DataError, match="label must have one entry per box"):
        ExplainedBoxes(two, np.zeros((2, 4), np.float32), one)
    with pytest.raises(DataError, match="in the order of their images"):
        ExplainedBoxes(np.array([1, 0]), np.zeros((2, 4), np.float32), two)


@pytest.mark.parametrize("part", ["score", "boxes"])
def test_boxes_that_are_no_numbers_are_refused_and_not_left_out(part: str) -> None:
    class Broken(Squares):
        def decode(self, outputs):
            found = super().decode(outputs)
            return [replace(one, **{part: getattr(one, part) * np.nan}) for one in found]

    with pytest.raises(DataError, match="that decode gives must be finite"):
        detections("drise", Seen(Broken()), inputs_of(TWO))
