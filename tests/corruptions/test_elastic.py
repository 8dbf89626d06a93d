"""Elastic transform against its formula in plain loops, scipy, and imagecorruptions."""

from __future__ import annotations

import math
from unittest import mock

import cv2
import numpy as np
import pytest
from scipy import ndimage

from shrinkproof.corruptions import sampling
from shrinkproof.corruptions.constants import ELASTIC_TRANSFORM
from shrinkproof.corruptions.elastic import ElasticTransform, affine, displacement_rule
from shrinkproof.corruptions.presets import PRESETS, constant
from shrinkproof.corruptions.sampling import sampled, warped
from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.randomness import Streams

SHAPES = [(16, 16), (17, 40), (40, 17)]
PUBLISHED = [preset for preset in PRESETS if preset != "imagecorruptions"]
exact_opencv = pytest.mark.skipif(
    cv2.__version__.startswith("4."),
    reason="compares with OpenCV's own warp, which rounds positions before version 5",
)


def textured(count: int, height: int, width: int) -> np.ndarray:
    rows = np.linspace(0, 180, height)[:, None, None] + np.linspace(0, 40, width)[:, None]
    noise = np.random.default_rng(0).integers(0, 36, (count, height, width, 3))
    images = (rows + noise).astype(np.uint8)
    images[0, : height // 3] = 255
    images[-1, :, : width // 3] = 0
    return images


def draws_of(count: int, shape: tuple[int, int], dtype: type = np.float64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        # The sign makes this seed shrink the image, so that its border shows.
        "jitter": -rng.uniform(-1, 1, (count, 3, 2)).astype(dtype),
        "field": rng.uniform(-1, 1, (count, 2, *shape)).astype(dtype),
    }


def mirrored(position: int, size: int, *, edge_twice: bool) -> int:
    while not 0 <= position < size:
        if edge_twice:
            position = -position - 1 if position < 0 else 2 * size - 1 - position
        else:
            position = -position if position < 0 else 2 * (size - 1) - position
    return position


def bilinear(image: np.ndarray, y: float, x: float, *, edge_twice: bool) -> np.ndarray:
    top, left = math.floor(y), math.floor(x)
    result = np.zeros(3)
    for i, row_weight in ((top, 1 - (y - top)), (top + 1, y - top)):
        for j, weight in ((left, 1 - (x - left)), (left + 1, x - left)):
            row = mirrored(i, image.shape[0], edge_twice=edge_twice)
            column = mirrored(j, image.shape[1], edge_twice=edge_twice)
            result += row_weight * weight * image[row, column]
    return result


def smoothed(field: np.ndarray, sigmas: tuple[float, float]) -> np.ndarray:
    return ndimage.gaussian_filter(field.astype(np.float64), sigmas, mode="reflect", truncate=3)


def bent(
    image: np.ndarray,
    jitter: np.ndarray,
    field: np.ndarray,
    rule: tuple[float, tuple[float, float], float],
) -> np.ndarray:
    """The whole transform in float64, pixel by pixel; the affine map by solving for it."""
    alpha, sigmas, spread = rule
    height, width = image.shape[:2]
    values = image / 255.0
    if spread:
        third = min(height, width) // 3
        center = (height // 2, width // 2)
        points = [(1, 1), (1, -1), (-1, -1)]
        before = np.array([[center[k] + sign[k] * third for k in (0, 1)] for sign in points])
        after = before + spread * jitter
        matrix = np.linalg.solve(np.column_stack([after, np.ones(3)]), before.astype(float)).T
        flat = np.zeros_like(values)
        for y, x in np.ndindex(height, width):
            source = matrix @ (x, y, 1)
            flat[y, x] = bilinear(values, source[1], source[0], edge_twice=False)
        values = flat
    dx, dy = (alpha * smoothed(part, sigmas) for part in field)
    result = np.zeros_like(values)
    for y, x in np.ndindex(height, width):
        result[y, x] = bilinear(values, y + dy[y, x], x + dx[y, x], edge_twice=True)
    return (np.clip(result, 0, 1) * 255 + 1e-9).astype(np.uint8)


def published_rule(preset: str, severity: int) -> tuple[float, tuple[float, float], float]:
    alpha, sigma, jitter = ELASTIC_TRANSFORM[preset][severity - 1]
    return alpha, (sigma, sigma), jitter


@pytest.mark.parametrize("preset", PUBLISHED)
def test_it_is_an_affine_map_and_then_smooth_shifts(preset: str) -> None:
    for shape, severity in (((16, 16), 1), ((17, 26), 2), ((26, 17), 5)):
        images, draws = textured(1, *shape), draws_of(1, shape)
        result = ElasticTransform().apply(images, severity, preset, draws)
        rule = published_rule(preset, severity)
        expected = bent(images[0], draws["jitter"][0], draws["field"][0], rule)
        difference = np.abs(result[0].astype(int) - expected)
        assert difference.max() <= 1
        # float32 in the affine map, in the reference too, moves values across whole levels.
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_the_rule_of_imagecorruptions(severity: int) -> None:
    strength = 250 * (0.05, 0.065, 0.085, 0.1, 0.12)[severity - 1]
    shape = (20, 33)
    images, draws = textured(1, *shape), draws_of(1, shape)
    result = ElasticTransform().apply(images, severity, "imagecorruptions", draws)
    rule = (strength * 0.005 * 20, (0.2, 0.33), 0.0)
    expected = bent(images[0], draws["jitter"][0], draws["field"][0], rule)
    difference = np.abs(result[0].astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.002


@pytest.mark.parity
def test_pixels_of_imagecorruptions() -> None:
    library = pytest.importorskip("imagecorruptions.corruptions", exc_type=ImportError)
    for shape in ((64, 64), (40, 97)):
        images, draws = textured(1, *shape), draws_of(1, shape)
        for severity in (1, 5):
            fields = iter(draws["field"][0] * (0.005 * shape[0]))
            with mock.patch("numpy.random.uniform", lambda *_, fields=fields, **__: next(fields)):
                expected = library.elastic_transform(images[0], severity).astype(np.uint8)
            result = ElasticTransform().apply(images, severity, "imagecorruptions", draws)[0]
            difference = np.abs(result.astype(int) - expected)
            assert difference.max() <= 1
            assert (difference > 0).mean() <= 3e-4


@exact_opencv
@pytest.mark.parametrize("preset", PUBLISHED)
def test_resampling_agrees_with_scipy_at_the_size_of_the_preset(preset: str) -> None:
    side = PRESETS[preset] or 0
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    images = cv2.GaussianBlur(textured(1, side, side)[0], (5, 5), 1)[None]
    draws = draws_of(1, (side, side), np.float32)
    for severity in range(1, 6):
        alpha, sigmas, spread = published_rule(preset, severity)
        matrix = affine(draws["jitter"][0] * spread, (side, side))
        flat = cv2.warpAffine(
            images[0].astype(np.float32) / np.float32(255),
            matrix,
            (side, side),
            borderMode=cv2.BORDER_REFLECT_101,
        )
        dx, dy = ((alpha * smoothed(f, sigmas)).astype(np.float32) for f in draws["field"][0])
        channels = [
            ndimage.map_coordinates(flat[..., c], (y + dy, x + dx), order=1, mode="reflect")
            for c in range(3)
        ]
        expected = (np.clip(np.stack(channels, axis=-1), 0, 1) * 255).astype(np.uint8)
        result = ElasticTransform().apply(images, severity, preset, draws)[0]
        difference = np.abs(result.astype(int) - expected)
        assert difference.max() <= 1
        assert (difference > 0).sum() <= max(1, 1e-4 * difference.size)


def test_the_affine_map_of_a_hand_computed_move() -> None:
    moves = np.full((3, 2), (2.0, -1.0))
    np.testing.assert_allclose(affine(moves, (32, 48)), [[1, 0, 2], [0, 1, -1]], atol=1e-6)
    # The points lie at 24 +- 10 and 16 +- 10, and stretch by 1.1 around the center.
    stretch = np.array([(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
    np.testing.assert_allclose(
        affine(stretch, (32, 32)), [[1.1, 0, -1.6], [0, 1.1, -1.6]], atol=1e-5
    )


def test_shifts_by_whole_pixels_mirror_the_edge_again_and_again() -> None:
    images = textured(1, 16, 16)
    alpha, _, _ = displacement_rule(1, "imagenet", (16, 16))
    draws = {"jitter": np.zeros((1, 3, 2)), "field": np.zeros((1, 2, 16, 16))}
    draws["field"][0, 0], draws["field"][0, 1] = -40 / alpha, 19 / alpha
    result = ElasticTransform().apply(images, 1, "imagenet", draws)
    for y, x in np.ndindex(16, 16):
        row = mirrored(y + 19, 16, edge_twice=True)
        source = images[0, row, mirrored(x - 40, 16, edge_twice=True)]
        assert np.abs(result[0, y, x].astype(int) - source).max() <= 1


@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_plain_images_stay(level: int) -> None:
    for preset in PRESETS:
        for shape in SHAPES:
            images = np.full((1, *shape, 3), level, dtype=np.uint8)
            for severity in range(1, 6):
                draws = draws_of(1, shape)
                result = ElasticTransform().apply(images, severity, preset, draws)
                assert (result == level).all()


def test_draws_are_symmetric_and_uniform() -> None:
    draws = ElasticTransform().draw(Streams((0,), np.arange(50)), (16, 20), 3, "cifar")
    assert {name: values.shape for name, values in draws.items()} == {
        "jitter": (50, 3, 2),
        "field": (50, 2, 16, 20),
    }
    for values in draws.values():
        assert values.dtype == np.float32
        assert np.abs(values).max() < 1
        assert abs(values.mean()) < 5 * (1 / 3 / values.size) ** 0.5
        assert abs(values.var() - 1 / 3) < 5 * (4 / 45 / values.size) ** 0.5


@pytest.mark.parametrize("shape", [(32, 32), (72, 90)])
def test_an_image_does_not_depend_on_its_batch(shape: tuple[int, int]) -> None:
    images = textured(85, *shape)
    order = np.random.default_rng(2).permutation(85)
    for severity in (2, 4):
        draws = ElasticTransform().draw(Streams((0,), np.arange(85)), shape, severity, "cifar")
        whole = ElasticTransform().apply(images, severity, "cifar", draws)
        for some in (order, order[:7], order[:2], order[:1], order[:0]):
            part = {name: values[some] for name, values in draws.items()}
            found = ElasticTransform().apply(images[some], severity, "cifar", part)
            np.testing.assert_array_equal(found, whole[some])


def test_unknown_presets_and_severities_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="imagenet2"):
        displacement_rule(1, "imagenet2", (32, 32))
    with pytest.raises(UsageError, match="1 to 5, got 6"):
        displacement_rule(6, "imagecorruptions", (32, 32))
    assert constant(ELASTIC_TRANSFORM, "cifar", 1)[:2] == (0, 0)


@exact_opencv
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("border", [cv2.BORDER_REFLECT, cv2.BORDER_REFLECT_101])
def test_the_way_around_opencv_4_gives_the_same(
    shape: tuple[int, int], border: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    image = rng.random((*shape, 3), dtype=np.float32)
    x, y = (rng.uniform(-20, 50, (2, *shape))).astype(np.float32)
    matrix = affine(rng.uniform(-2, 2, (3, 2)), shape)
    found = []
    for rounds in (False, True):
        monkeypatch.setattr(sampling, "_ROUNDS_POSITIONS", rounds)
        found.append((sampled(image, x, y, border), warped(image, matrix, border)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
