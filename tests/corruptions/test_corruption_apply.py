from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions import apply as applying
from shrinkproof.corruptions.apply import corrupt
from shrinkproof.corruptions.noise import GaussianNoise
from shrinkproof.corruptions.presets import (
    FOG_MAP,
    PRESETS,
    SETS,
    constant,
    preset_warning,
)
from shrinkproof.errors import DataError, PluginError, UnknownNameError, UsageError
from shrinkproof.records import CLEAN, Condition

NAMES = CORRUPTIONS.names()


def textured(count: int, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:side, :side] / side
    phase = rng.random((count, 3)) * 6
    waves = np.sin(6 * x + 9 * y + phase[..., None, None]) + np.sin(29 * x - 17 * y)
    noise = rng.normal(0, 0.2, (count, 3, side, side))
    return (np.clip((waves + noise + 2) / 4, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


IMAGES = textured(24)


def run(
    images: np.ndarray, name: str, severity: int, index: np.ndarray, seed: int = 0
) -> np.ndarray:
    return corrupt(images, Condition(name, severity), preset="cifar", seed=seed, index=index)


@pytest.mark.parametrize("name", NAMES)
def test_same_pixels_for_every_batch_order_and_subset(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = np.arange(100, 124)
    whole = run(IMAGES, name, 3, index)
    order = np.random.default_rng(0).permutation(24)[:11]
    np.testing.assert_array_equal(run(IMAGES[order], name, 3, index[order]), whole[order])
    monkeypatch.setattr(applying, "_BLOCK", 5 * 32 * 32 * 3)
    np.testing.assert_array_equal(run(IMAGES, name, 3, index), whole)


@pytest.mark.parametrize("name", NAMES)
def test_harm_grows_with_severity(name: str) -> None:
    errors = [
        np.mean((run(IMAGES, name, s, np.arange(24)).astype(float) - IMAGES) ** 2)
        for s in (1, 2, 3, 4, 5)
    ]
    psnr = 10 * np.log10(255**2 / np.array(errors))
    assert (np.diff(psnr) < 0).all(), psnr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("shape", [(16, 40), (70, 35)])
def test_every_preset_keeps_shape_and_type(name: str, preset: str, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    before = images.copy()
    result = corrupt(images, Condition(name, 5), preset=preset, seed=0, index=np.arange(2))
    assert result.shape == images.shape
    assert result.dtype == np.uint8
    assert (result != images).any()
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("name", ["fog", "gaussian_noise"])
def test_randomness_depends_on_index_seed_and_severity(name: str) -> None:
    flat = np.full((2, 32, 32, 3), 128, dtype=np.uint8)
    first = run(flat, name, 3, np.array([5, 6]))
    assert (first[0] != first[1]).any()
    assert (run(flat, name, 3, np.array([5, 6]), seed=1) != first).any()
    np.testing.assert_array_equal(run(flat, name, 3, np.array([6, 6]))[0], first[1])


@pytest.mark.parametrize("name", ["contrast", "defocus_blur", "jpeg_compression"])
def test_the_others_have_no_randomness(name: str) -> None:
    first = run(IMAGES, name, 2, np.arange(24))
    np.testing.assert_array_equal(first, run(IMAGES, name, 2, np.arange(24) + 7, seed=9))


def test_moments_of_the_noise() -> None:
    flat = np.full((64, 32, 32, 3), 128, dtype=np.uint8)
    for severity, sigma in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1):
        result = run(flat, "gaussian_noise", severity, np.arange(64)).astype(float)
        # Truncation takes half a level and adds the variance 1/12; 196,608 values.
        expected = np.hypot(sigma * 255, 12**-0.5)
        assert abs(result.mean() - 127.5) < 4 * expected / result.size**0.5
        assert abs(result.std() / expected - 1) < 0.01
    neighbors = np.corrcoef(result[:, :, :-1].ravel(), result[:, :, 1:].ravel())[0, 1]
    channels = np.corrcoef(result[..., 0].ravel(), result[..., 1].ravel())[0, 1]
    assert abs(neighbors) < 0.01
    assert abs(channels) < 0.02


@settings(max_examples=10, deadline=None)
@given(level=st.integers(0, 255), name=st.sampled_from(["contrast", "defocus_blur"]))
def test_flat_images_stay_flat(level: int, name: str) -> None:
    flat = np.full((1, 24, 24, 3), level, dtype=np.uint8)
    result = run(flat, name, 4, np.array([0]))
    # Truncation may take one level.
    assert set(np.unique(result)) <= {level, max(level - 1, 0)}


def test_fog_map_grows_only_with_the_image() -> None:
    class Two:
        def __len__(self) -> int:
            return 1

        def each(self):
            yield np.random.default_rng(0)

    fog = CORRUPTIONS.create("fog")
    for shape, side in (((16, 16), 32), ((32, 32), 32), ((33, 20), 64), ((20, 200), 256)):
        assert fog.draw(Two(), shape, 1, "cifar")["uniform"].shape == (1, side * side - 1)
    assert set(FOG_MAP) == set(PRESETS)


def test_clean_returns_the_images() -> None:
    assert corrupt(IMAGES, CLEAN, preset="", seed=0, index=np.arange(24)) is IMAGES


def test_no_images() -> None:
    assert run(IMAGES[:0], "fog", 1, np.arange(0)).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (IMAGES.astype(np.float32), "float32"),
        (IMAGES[0], r"\(32, 32, 3\)"),
        (IMAGES[..., :1], r"\(24, 32, 32, 1\)"),
        (IMAGES[:, :15], "15 x 32"),
    ],
)
def test_wrong_images(images: np.ndarray, got: str) -> None:
    with pytest.raises(DataError, match=got):
        run(images, "fog", 1, np.arange(24))


@pytest.mark.parametrize(
    "index", [np.arange(23), np.arange(24.0), np.arange(24) - 1, np.zeros((24, 1), dtype=np.int64)]
)
def test_wrong_index(index: np.ndarray) -> None:
    with pytest.raises(DataError, match="index must"):
        run(IMAGES, "fog", 1, index)


def test_unknown_names_are_met_with_suggestions() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fog'"):
        run(IMAGES, "fogg", 1, np.arange(24))
    with pytest.raises(UnknownNameError, match="unknown preset 'cifr'; did you mean 'cifar'"):
        corrupt(IMAGES, Condition("fog", 1), preset="cifr", seed=0, index=np.arange(24))
    with pytest.raises(UsageError, match="severity must be 1 to 5, got 0"):
        constant({"cifar": (1, 2, 3, 4, 5)}, "cifar", 0)


def test_a_corruption_that_breaks_its_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GaussianNoise, "apply", lambda self, images, *rest: images / 255)
    with pytest.raises(PluginError, match=r"'gaussian_noise'.*uint8, got .* float64"):
        run(IMAGES, "gaussian_noise", 1, np.arange(24))


def test_preset_warning_names_both_sizes() -> None:
    assert preset_warning("cifar", (32, 32)) == ""
    text = preset_warning("imagenet", (32, 40))
    assert "'imagenet'" in text
    assert "224 x 224" in text
    assert "32 x 40" in text
    with pytest.raises(UnknownNameError):
        preset_warning("", (32, 32))


def test_named_sets_hold_registered_names() -> None:
    assert set(SETS["quick-five"]) == set(NAMES)
    for name in NAMES:
        cls = CORRUPTIONS.get(name)
        assert cls.name == name
        assert cls.version == 1
        assert cls.family in ("noise", "blur", "weather", "digital")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("contrast", "23d3dfc124872e55"),
        ("fog", "1f4c7c34a4c846cd"),
        ("gaussian_noise", "f97ab54adc9d6249"),
    ],
)
def test_pixels_belong_to_the_version(name: str, expected: str) -> None:
    ramp = np.arange(2 * 32 * 32 * 3) * 7 // 5 % 251
    images = ramp.reshape(2, 32, 32, 3).astype(np.uint8)
    result = run(images, name, 4, np.array([3, 2**40]), seed=11)
    # A change here changes every measured number: raise the version of the corruption.
    assert hashlib.sha256(result.tobytes()).hexdigest()[:16] == expected
