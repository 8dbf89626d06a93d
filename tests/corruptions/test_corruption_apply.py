"""What holds for every corruption, preset and severity, through the one way to corrupt images."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image
from threadpoolctl import threadpool_limits

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions import apply as applying
from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.noise import GaussianNoise
from shrinkproof.corruptions.presets import PRESETS, SETS, constant, preset_warning
from shrinkproof.errors import DataError, PluginError, UnknownNameError, UsageError
from shrinkproof.records import CLEAN, STANDARD_15, Condition
from shrinkproof.testing.corruption import PUBLISHED_DIPS, check_rising, corrupted

NAMES = tuple(CORRUPTIONS.builtin)
RANDOM = (
    "elastic_transform",
    "fog",
    "frost",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "motion_blur",
    "shot_noise",
    "snow",
    "spatter",
    "speckle_noise",
)
everything = pytest.mark.parametrize("name", NAMES)


def textured(count: int, height: int = 32, width: int = 32) -> np.ndarray:
    """Return images with large shapes, edges, fine texture, noise and color, as photos have."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width] / 32
    found = np.empty((count, height, width, 3))
    for image in found:
        phase = rng.random(8) * 6
        waves = np.sin(3 * x + 2 * y + phase[0]) + 0.5 * np.sin(9 * x - 17 * y + phase[1])
        edges = np.sign(np.sin(4 * x * np.cos(phase[2]) + 4 * y * np.sin(phase[2]) + phase[3]))
        color = rng.uniform(0.4, 1, 3)
        image[...] = (
            (waves + edges)[..., None] * color + rng.normal(0, 0.2, image.shape) + 2.5
        ) / 5
    return (np.clip(found, 0, 1) * 255).astype(np.uint8)


IMAGES = textured(11)


def run(
    images: np.ndarray,
    name: str,
    severity: int,
    index: np.ndarray | None = None,
    *,
    preset: str = "cifar",
    seed: int = 0,
) -> np.ndarray:
    index = np.arange(len(images)) if index is None else index
    return corrupt_batch(images, Condition(name, severity), preset=preset, seed=seed, index=index)


# a pixel depends on its image and its index


@everything
@pytest.mark.parametrize("preset", PRESETS)
def test_same_pixels_for_every_batch_order_and_subset(
    name: str, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = np.arange(100, 111)
    order = np.random.default_rng(0).permutation(11)[:7]
    for images, severity in ((IMAGES, 3), (textured(11, 17, 40), 5)):
        whole = run(images, name, severity, index, preset=preset)
        some = run(images[order], name, severity, index[order], preset=preset)
        np.testing.assert_array_equal(some, whole[order])
        alone = run(images[4:5], name, severity, index[4:5], preset=preset)
        np.testing.assert_array_equal(alone, whole[4:5])
        with monkeypatch.context() as smaller:
            smaller.setattr(applying, "_BLOCK", 5 * images[0].size)
            blocks = run(images, name, severity, index, preset=preset)
        np.testing.assert_array_equal(blocks, whole)


@everything
def test_same_pixels_in_a_full_block_of_small_images(name: str) -> None:
    images = textured(171)
    whole = run(images, name, 2)
    for position in (0, 84, 85, 170):
        alone = run(images[[position]], name, 2, np.array([position]))
        np.testing.assert_array_equal(alone[0], whole[position])


@everything
def test_same_pixels_for_every_number_of_threads(name: str) -> None:
    cases = [(IMAGES, "cifar"), (textured(2, 224, 224), "imagenet")]
    before = cv2.getNumThreads()
    try:
        results = []
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            with threadpool_limits(threads):
                results.append([run(images, name, 4, preset=preset) for images, preset in cases])
    finally:
        cv2.setNumThreads(before)
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(found, expected)


def samples(preset: str, height: int, width: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each corruption with what it makes of two images, for indexes small and large."""
    ramp = np.arange(2 * height * width * 3) * 7 // 5 % 251
    images = ramp.reshape(2, height, width, 3).astype(np.uint8)
    images[:, ::3, ::4] = textured(2, height, width)[:, ::3, ::4]
    for name in NAMES:
        yield name, run(images, name, 4, np.array([3, 2**40]), preset=preset, seed=11)


def hashes() -> dict[str, str]:
    """Return a hash of every sample with the constants for small images."""
    found = samples("cifar", 32, 32)
    return {name: hashlib.sha256(result.tobytes()).hexdigest() for name, result in found}


@pytest.mark.slow
def test_same_pixels_in_another_process() -> None:
    code = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('here', sys.argv[1])\n"
        "here = importlib.util.module_from_spec(spec); spec.loader.exec_module(here)\n"
        "print(json.dumps(here.hashes()))"
    )
    command = [sys.executable, "-c", code, __file__]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert json.loads(done.stdout) == hashes()


@pytest.mark.parametrize("name", RANDOM)
def test_randomness_depends_on_index_seed_severity_and_preset(name: str) -> None:
    twins = np.repeat(IMAGES[:1], 8, axis=0)
    first = run(twins, name, 3)
    assert len(np.unique(first.reshape(8, -1), axis=0)) > 1
    assert (run(twins, name, 3, seed=1) != first).any()
    swapped = np.arange(8)[::-1].copy()
    np.testing.assert_array_equal(run(twins, name, 3, swapped), first[::-1])
    corruption = CORRUPTIONS.create(name)
    draws = [
        corruption.draw(
            applying.Streams((0, "corruption", name, *parts), np.arange(2)), (32, 32), 3, "tiny"
        )
        for parts in ((3, "tiny"), (2, "tiny"), (3, "cifar"))
    ]
    for other in draws[1:]:
        assert any((other[key] != values).any() for key, values in draws[0].items())


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(RANDOM)))
def test_the_others_have_no_randomness(name: str) -> None:
    first = run(IMAGES, name, 2)
    np.testing.assert_array_equal(first, run(IMAGES, name, 2, np.arange(11) + 7, seed=9))


# what comes out


@everything
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(16, 40), (70, 35), (16, 16)])
def test_every_preset_keeps_shape_and_type(name: str, preset: str, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    before = images.copy()
    images.flags.writeable = False
    for severity in (1, 5):
        result = run(images, name, severity, preset=preset)
        assert result.shape == images.shape
        assert result.dtype == np.uint8
        # The affine part of elastic_transform may be small enough to round to nothing.
        assert (result != images).any()
        np.testing.assert_array_equal(images, before)


@everything
@pytest.mark.parametrize("preset", PRESETS)
def test_black_and_white_images_work(name: str, preset: str) -> None:
    images = np.zeros((2, 33, 32, 3), dtype=np.uint8)
    images[1] = 255
    for severity in range(1, 6):
        assert run(images, name, severity, preset=preset).shape == images.shape


@everything
def test_no_images(name: str) -> None:
    assert run(IMAGES[:0], name, 1).shape == (0, 32, 32, 3)
    corruption = CORRUPTIONS.create(name)
    streams = applying.Streams(("none",), np.arange(0))
    draws = corruption.draw(streams, (32, 32), 1, "cifar")
    assert corruption.apply(IMAGES[:0], 1, "cifar", draws).shape == (0, 32, 32, 3)


@functools.cache
def crops(height: int, width: int, reduced: int, count: int) -> np.ndarray:
    """Return cut-outs of the photos that come with scikit-learn, reduced by a whole factor."""
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    rng = np.random.default_rng(1)
    found = []
    for number in range(count):
        photo = photos[number % 2]
        top = rng.integers(0, photo.shape[0] - height * reduced + 1)
        left = rng.integers(0, photo.shape[1] - width * reduced + 1)
        cut = photo[top : top + height * reduced, left : left + width * reduced]
        found.append(np.asarray(Image.fromarray(cut).reduce(reduced)))
    return np.stack(found)


@everything
@pytest.mark.parametrize(
    ("preset", "photos"),
    [
        ("cifar", (32, 32, 4, 64)),
        ("tiny", (64, 64, 4, 32)),
        ("imagenet", (224, 224, 1, 6)),
        ("imagecorruptions", (150, 200, 1, 8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_harm_grows_with_severity(
    name: str, preset: str, photos: tuple[int, int, int, int]
) -> None:
    images = crops(*photos)
    corruption, index = CORRUPTIONS.create(name), np.arange(len(images))
    harm = []
    for severity in range(1, 6):
        result = corrupted(corruption, images, index, severity, preset)
        harm.append(float(((result - images.astype(float)) ** 2).mean()))
    check_rising(f"{name}, {preset}", harm, PUBLISHED_DIPS.get(name, {}).get(preset, ()))


def test_harm_may_dip_only_where_that_is_known() -> None:
    check_rising("x", [1, 2, 3, 4, 5])
    check_rising("x", [1, 2, 1.95, 4, 5])
    check_rising("x", [1, 9, 2, 3, 2.5], dips=(3, 5))
    for harm, dips, severity in (
        ([1, 2, 1.8, 4, 5], (), 3),
        ([1, 9, 2, 3, 2.5], (3,), 5),
        ([1, 9, 2, 3, 2.5], (5,), 3),
        ([1, 9, 8.9, 8.3, 9], (), 4),
    ):
        with pytest.raises(AssertionError, match=f"x: must harm more .* but {severity} does not"):
            check_rising("x", harm, dips)
    with pytest.raises(AssertionError, match="severity 5 must harm more than 1"):
        check_rising("x", [5, 5, 5, 5, 5])


def test_dips_are_those_of_registered_corruptions_and_presets() -> None:
    for name, dips in PUBLISHED_DIPS.items():
        assert name in NAMES
        for preset, severities in dips.items():
            assert preset in PRESETS
            assert set(severities) <= {2, 3, 4, 5}


FLAT = ("contrast", "defocus_blur", "elastic_transform", "gaussian_blur", "glass_blur",
        "motion_blur", "pixelate", "zoom_blur")  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    level=st.integers(0, 255),
    name=st.sampled_from(FLAT),
    preset=st.sampled_from(list(PRESETS)),
    severity=st.integers(1, 5),
)
def test_flat_images_stay_flat(level: int, name: str, preset: str, severity: int) -> None:
    # Larger than any streak: imagecorruptions darkens where a streak leaves the image.
    flat = np.full((1, 48, 48, 3), level, dtype=np.uint8)
    result = run(flat, name, severity, preset=preset)
    # Truncation may take one level, in glass_blur twice.
    assert result.min() >= max(level - 2, 0)
    # A disk that touches the edge of its grid sums to up to 1.013, as published.
    assert result.max() <= (1.0131 * level if name == "defocus_blur" else level)


def test_moments_of_the_noise() -> None:
    flat = np.full((64, 32, 32, 3), 128, dtype=np.uint8)
    for severity, sigma in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1):
        result = run(flat, "gaussian_noise", severity).astype(float)
        # Truncation takes half a level and adds the variance 1/12; 196,608 values.
        expected = np.hypot(sigma * 255, 12**-0.5)
        assert abs(result.mean() - 127.5) < 4 * expected / result.size**0.5
        assert abs(result.std() / expected - 1) < 0.01
    neighbors = np.corrcoef(result[:, :, :-1].ravel(), result[:, :, 1:].ravel())[0, 1]
    channels = np.corrcoef(result[..., 0].ravel(), result[..., 1].ravel())[0, 1]
    assert abs(neighbors) < 0.01
    assert abs(channels) < 0.02


def test_clean_returns_the_images() -> None:
    assert corrupt_batch(IMAGES, CLEAN, preset="", seed=0, index=np.arange(11)) is IMAGES


# wrong input


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (IMAGES.astype(np.float32), "float32"),
        (IMAGES[0], r"\(32, 32, 3\)"),
        (IMAGES[..., :1], r"\(11, 32, 32, 1\)"),
        (IMAGES[:, :15], "15 x 32"),
    ],
)
def test_wrong_images(images: np.ndarray, got: str) -> None:
    with pytest.raises(DataError, match=got):
        run(images, "fog", 1, np.arange(11))


@pytest.mark.parametrize(
    "index", [np.arange(10), np.arange(11.0), np.arange(11) - 1, np.zeros((11, 1), dtype=np.int64)]
)
def test_wrong_index(index: np.ndarray) -> None:
    with pytest.raises(DataError, match="index must"):
        run(IMAGES, "fog", 1, index)


def test_unknown_names_are_met_with_suggestions() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fog'"):
        run(IMAGES, "fogg", 1)
    with pytest.raises(UnknownNameError, match="unknown preset 'cifr'; did you mean 'cifar'"):
        run(IMAGES, "fog", 1, preset="cifr")
    with pytest.raises(UsageError, match="severity must be 1 to 5, got 0"):
        constant({"cifar": (1, 2, 3, 4, 5)}, "cifar", 0)


def test_jpeg85_goes_with_published_jpeg_files_only() -> None:
    with pytest.raises(UsageError, match=r"one of the presets tiny, imagenet, inception.*'cifar'"):
        corrupt_batch(
            IMAGES, Condition("fog", 1), preset="cifar", seed=0, index=np.arange(11), jpeg85=True
        )


def test_a_corruption_that_breaks_its_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GaussianNoise, "apply", lambda self, images, *rest: images / 255)
    with pytest.raises(PluginError, match=r"'gaussian_noise'.*uint8, got .* float64"):
        run(IMAGES, "gaussian_noise", 1)


def test_preset_warning_names_both_sizes() -> None:
    assert preset_warning("cifar", (32, 32)) == ""
    assert preset_warning("imagecorruptions", (32, 40)) == ""
    text = preset_warning("imagenet", (32, 40))
    assert "'imagenet'" in text
    assert "224 x 224" in text
    assert "32 x 40" in text
    with pytest.raises(UnknownNameError):
        preset_warning("", (32, 32))


# names and versions


def test_the_19_published_ones_are_there() -> None:
    assert len(NAMES) == 19
    assert set(SETS["all-corruptions"]) == set(NAMES)
    assert SETS["common-corruptions"] == STANDARD_15
    assert not set(SETS["extra-corruptions"]) & set(STANDARD_15)
    assert set(SETS["quick-five"]) <= set(STANDARD_15)


FAMILIES = {
    "noise": ("gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"),
    "blur": ("defocus_blur", "gaussian_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("brightness", "fog", "frost", "snow", "spatter"),
    "digital": ("contrast", "elastic_transform", "jpeg_compression", "pixelate", "saturate"),
}


@everything
def test_names_and_families(name: str) -> None:
    cls = CORRUPTIONS.get(name)
    assert cls.name == name
    assert name in FAMILIES[cls.family]


def sums(result: np.ndarray) -> tuple[int, int]:
    """Return the sum of all values, and their sum under a fixed pattern of signs."""
    values = result.ravel().astype(np.int64)
    signs = 1 - 2 * (np.arange(values.size) * 2654435761 >> 20 & 1)
    return int(values.sum()), int((values * signs).sum())


# Version, and sums of the samples with the presets cifar and imagenet. When one of them changes,
# every measured number changes: raise the version of the class, print what `sums` finds now, and
# say so in the changelog.
KNOWN = {
    "brightness": (1, (1040427, -2993), (3779660, -8816)),
    "contrast": (1, (764650, -474), (2304666, 186)),
    "defocus_blur": (2, (765834, 950), (2336493, 599)),
    "elastic_transform": (1, (765119, -691), (2337887, 3277)),
    "fog": (2, (821913, -1167), (2360356, 138)),
    "frost": (1, (1085796, -624), (3395162, -2412)),
    "gaussian_blur": (1, (764464, 338), (2300518, 468)),
    "gaussian_noise": (2, (766469, -585), (2325210, -4606)),
    "glass_blur": (1, (762697, -479), (2283435, 177)),
    "impulse_noise": (1, (764638, -1030), (2315116, -1048)),
    "jpeg_compression": (1, (769411, 2365), (2316714, 1944)),
    "motion_blur": (1, (763807, 969), (2334745, 621)),
    "pixelate": (1, (768806, -720), (2315723, 153)),
    "saturate": (1, (712660, -2938), (2043458, -1496)),
    "shot_noise": (1, (760407, 3521), (2161380, -14382)),
    "snow": (1, (973533, -653), (3578548, 3280)),
    "spatter": (1, (746073, -1343), (2125280, -1344)),
    "speckle_noise": (1, (754551, -1209), (2185552, 7076)),
    "zoom_blur": (1, (764903, -13), (2309127, 1227)),
}


@pytest.mark.parametrize(
    ("position", "preset", "shape"), [(1, "cifar", (32, 32)), (2, "imagenet", (64, 48))]
)
def test_pixels_belong_to_the_version(position: int, preset: str, shape: tuple[int, int]) -> None:
    found = {name: (CORRUPTIONS.get(name).version, sums(x)) for name, x in samples(preset, *shape)}
    assert set(found) == set(KNOWN)
    # Another processor may round a value in a thousand to the neighboring level.
    allowed = 2 * shape[0] * shape[1] * 3 // 1000 + 2
    for name, (version, values) in found.items():
        assert version == KNOWN[name][0], name
        difference = np.abs(np.subtract(values, KNOWN[name][position]))
        assert (difference <= allowed).all(), (name, values)
