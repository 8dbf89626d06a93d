"""Masks that everybody shares, and maps that do not agree because of them."""

from functools import partial

import numpy as np
import pytest
import torch

from shrinkproof.attributions.rise import Rise
from shrinkproof.errors import UsageError
from shrinkproof.randomness import stream

from .candidate import STREAM, Function, images, labels, pearson

WEIGHT = np.random.default_rng(5).normal(size=(3, 3, 16, 16))


def network(weight):
    return lambda x: np.einsum("kchw,nchw->nk", weight, x).astype(np.float32) / 40


def maps(method, predict, inputs, target, **members):
    return method.maps(Function(predict, **members), inputs, target, stream=STREAM)


@pytest.mark.parametrize("shape", [(16, 16), (17, 30)], ids=str)
def test_masks_are_between_0_and_1_and_visible_as_often_as_said(shape):
    masks = Rise(masks=2000, cells=5, probability=0.3).draw(STREAM, shape)
    assert (masks.shape, masks.dtype) == ((2000, *shape), np.float32)
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    assert masks.mean() == pytest.approx(0.3, abs=0.01)


def test_masks_are_grids_enlarged_by_torch_and_cut_out():
    method = Rise(masks=6, cells=4, probability=0.5)
    numbers = STREAM("masks").random((6, 18))
    pixels = {14: 4, 19: 5}  # the smallest whole cells that cover the side
    for mask, row in zip(method.draw(STREAM, (14, 19)), numbers, strict=True):
        grid = torch.from_numpy((row[2:] < 0.5).reshape(1, 1, 4, 4).astype(np.float32))
        large = torch.nn.functional.interpolate(
            grid, size=(5 * pixels[14], 5 * pixels[19]), mode="bilinear", align_corners=False
        )
        top, left = int(row[0] * pixels[14]), int(row[1] * pixels[19])
        expected = large[0, 0, top : top + 14, left : left + 19].numpy()
        np.testing.assert_allclose(mask, expected, atol=1e-6)


def test_more_masks_begin_with_the_same_ones():
    few, many = (Rise(masks=count).draw(STREAM, (16, 16)) for count in (10, 30))
    np.testing.assert_array_equal(few, many[:10])


def test_the_halves_take_turns_in_the_same_masks():
    whole = Rise(masks=11).draw(STREAM, (16, 16))
    even, odd = (Rise(masks=11, half=half).draw(STREAM, (16, 16)) for half in (0, 1))
    np.testing.assert_array_equal(even, whole[0::2])
    np.testing.assert_array_equal(odd, whole[1::2])


def test_other_streams_have_other_masks():
    other = Rise(masks=10).draw(partial(stream, "other"), (16, 16))
    assert not np.array_equal(other, Rise(masks=10).draw(STREAM, (16, 16)))


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_a_plain_loop_agrees(centered, output, fill):
    method = Rise(masks=40, cells=4, fill=fill, output=output, centered=centered)
    inputs, target = images(3), labels(0, 1, 2)
    masks = method.draw(STREAM, (16, 16)).astype(np.float64)
    expected = np.zeros((3, 16, 16))
    for i, (image, label) in enumerate(zip(inputs, target, strict=True)):
        empty = image.mean(axis=(1, 2))[:, None, None] if fill == "mean" else 0.0
        scores = []
        for mask in masks:
            logits = (WEIGHT * (mask * image + (1 - mask) * empty)).sum(axis=(1, 2, 3)) / 40
            probability = np.exp(logits) / np.exp(logits).sum()
            scores.append((logits if output == "logit" else probability)[label])
        mean = np.mean(scores) if centered else 0.0
        for score, mask in zip(scores, masks, strict=True):
            expected[i] += (score - mean) * mask
    found = maps(method, network(WEIGHT), inputs, target)
    np.testing.assert_allclose(found, expected / (40 * 0.5), rtol=1e-3, atol=1e-4)


def test_all_networks_and_images_are_shown_the_same_masks():
    seen = []

    def predict(inputs):
        seen.append(inputs / inputs.max())
        return np.zeros((len(inputs), 2))

    inputs = np.ones((2, 3, 16, 16), dtype=np.float32)
    for _ in range(2):
        maps(Rise(masks=20), predict, inputs, labels(0, 1))
    assert all(np.array_equal(seen[0], other) for other in seen[1:])
    assert len(seen) == 4


def test_chunks_of_masks_change_nothing(monkeypatch):
    inputs, target = images(2), labels(0, 2)
    expected = maps(Rise(masks=30), network(WEIGHT), inputs, target)
    monkeypatch.setattr("shrinkproof.attributions.rise._NUMBERS", 7 * 3 * 16 * 16)
    found = maps(Rise(masks=30), network(WEIGHT), inputs, target)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_map_depends_on_its_image_alone():
    inputs, target = images(4), labels(0, 1, 2, 0)
    together = maps(Rise(masks=50), network(WEIGHT), inputs, target)
    alone = [
        maps(Rise(masks=50), network(WEIGHT), inputs[i : i + 1], target[i : i + 1])[0]
        for i in range(4)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_shared_masks_make_strangers_agree_unless_centered():
    """The scores of both networks hardly move, so published maps are the masks themselves."""
    strangers = network(WEIGHT / 20), network(WEIGHT[:, :, ::-1, ::-1] / 20)
    inputs, target = images(6), labels(0, 1, 2, 0, 1, 2)
    for centered, low, high in ((False, 0.9, 1.0), (True, -0.3, 0.3)):
        method = Rise(masks=300, cells=4, centered=centered)
        a, b = (maps(method, predict, inputs, target) for predict in strangers)
        assert low < pearson(a, b) < high, centered


def test_two_halves_agree_better_the_more_masks_there_are():
    inputs, target = images(6), labels(0, 1, 2, 0, 1, 2)
    agreement = [
        pearson(
            *(
                maps(Rise(masks=count, cells=4, half=half), network(WEIGHT), inputs, target)
                for half in (0, 1)
            )
        )
        for count in (100, 400, 1600)
    ]
    assert agreement == sorted(agreement)
    assert agreement[-1] > 0.8


def test_what_is_signed():
    inputs, target = images(2), labels(0, 1)
    published = Rise(masks=20, centered=False)
    assert not published.is_signed
    assert maps(published, network(WEIGHT), inputs, target).min() >= 0
    assert Rise().is_signed
    assert Rise(centered=False, output="logit").is_signed


def test_a_constant_network_has_a_map_of_zeros():
    found = maps(Rise(masks=20), lambda x: np.ones((len(x), 3)), images(2), labels(0, 2))
    np.testing.assert_array_equal(found, np.zeros((2, 16, 16)))


def test_more_cells_than_pixels():
    method = Rise(cells=20)
    with pytest.raises(UsageError, match="cells must be at most the side of the images, 16, got"):
        maps(method, network(WEIGHT), images(1), labels(0))
    assert method.resolution(Function(None), images(1, side=32)) == (20, 20)
