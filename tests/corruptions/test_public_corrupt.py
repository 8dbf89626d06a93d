"""The public function: every form of images in and out, and every way to call it wrongly."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import shrinkproof
from shrinkproof import PresetWarning, corrupt
from shrinkproof.corruptions import anyimage
from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.color import Contrast
from shrinkproof.corruptions.noise import GaussianNoise
from shrinkproof.errors import DataError, UnknownNameError, UsageError
from shrinkproof.records import Condition

IMAGES = np.random.default_rng(5).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
NOISE = Condition("gaussian_noise", 3)
EXPECTED = corrupt_batch(IMAGES, NOISE, preset="cifar", seed=4, index=np.arange(7))


def noisy(images, **settings):
    return corrupt(images, "gaussian_noise", severity=3, preset="cifar", seed=4, **settings)


def channels_first(images: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.from_numpy(images).movedim(-1, -3).to(torch.float64) / 255).to(dtype)


# forms


def test_arrays() -> None:
    result = noisy(IMAGES)
    np.testing.assert_array_equal(result, EXPECTED)
    assert type(result) is np.ndarray
    single = noisy(IMAGES[0])
    assert single.shape == (32, 32, 3)
    np.testing.assert_array_equal(single, EXPECTED[0])


def test_pictures() -> None:
    result = noisy(Image.fromarray(IMAGES[0]))
    assert isinstance(result, Image.Image)
    assert (result.mode, result.size) == ("RGB", (32, 32))
    np.testing.assert_array_equal(np.asarray(result), EXPECTED[0])


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_pictures(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = kind(Image.fromarray(image) for image in IMAGES)
    for together in (anyimage._TOGETHER, 3 * 32 * 32 * 3, 1):
        monkeypatch.setattr(anyimage, "_TOGETHER", together)
        result = noisy(pictures)
        assert type(result) is kind
        np.testing.assert_array_equal(np.stack([np.asarray(p) for p in result]), EXPECTED)


def test_pictures_of_different_sizes() -> None:
    wide = np.random.default_rng(1).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    pictures = [Image.fromarray(i) for i in (IMAGES[0], IMAGES[1], wide, IMAGES[3])]
    with pytest.warns(PresetWarning, match="20 x 50") as caught:
        result = noisy(pictures)
    assert len(caught) == 1
    assert [picture.size for picture in result] == [(32, 32), (32, 32), (50, 20), (32, 32)]
    for position in (0, 1, 3):
        np.testing.assert_array_equal(np.asarray(result[position]), EXPECTED[position])
    with pytest.warns(PresetWarning):
        np.testing.assert_array_equal(np.asarray(result[2]), noisy(wide, index=2))


def test_tensors_of_levels_have_channels_last() -> None:
    result = noisy(torch.from_numpy(IMAGES))
    assert result.dtype == torch.uint8
    np.testing.assert_array_equal(result.numpy(), EXPECTED)
    np.testing.assert_array_equal(noisy(torch.from_numpy(IMAGES[0])).numpy(), EXPECTED[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_floating_tensors_have_channels_first(dtype: torch.dtype) -> None:
    images = channels_first(IMAGES, dtype)
    result = noisy(images)
    assert result.dtype == dtype
    assert result.shape == (7, 3, 32, 32)
    assert result.is_contiguous()
    assert torch.equal(result, channels_first(EXPECTED, dtype))
    assert torch.equal(noisy(images[0]), result[0])


def test_bfloat16_holds_levels_only_roughly() -> None:
    result = noisy(channels_first(IMAGES, torch.bfloat16))
    assert result.dtype == torch.bfloat16
    difference = result.double() - channels_first(EXPECTED, torch.float64)
    # 8 bits of precision: half a unit for the input, half a unit for the output.
    assert difference.abs().max() < 2 * 2**-8


def test_floating_tensors_are_rounded_to_levels_first() -> None:
    images = (channels_first(IMAGES) + 0.4 / 255).clamp(0, 1)
    assert torch.equal(noisy(images), channels_first(EXPECTED))
    images = torch.full((3, 16, 16), 100.6 / 255)
    flat = corrupt(images, "contrast", severity=1, preset="imagecorruptions")
    assert torch.equal(flat, torch.full((3, 16, 16), 101 / 255))


def test_a_result_has_no_gradient() -> None:
    images = channels_first(IMAGES).requires_grad_()
    assert not noisy(images).requires_grad


def test_shape_alone_decides_where_the_channels_are() -> None:
    first = np.random.default_rng(2).integers(0, 256, (3, 32, 3), dtype=np.uint8)
    for images, shape in ((torch.from_numpy(first), "3 x 32"), (torch.rand(3, 32, 3), "32 x 3")):
        with pytest.raises(DataError, match=f"at least 16 x 16 pixels, got {shape}"):
            corrupt(images, "contrast", severity=1, preset="imagecorruptions")


def test_the_inputs_stay_untouched() -> None:
    images, tensor = IMAGES.copy(), channels_first(IMAGES)
    noisy(images)
    noisy(tensor)
    np.testing.assert_array_equal(images, IMAGES)
    assert torch.equal(tensor, channels_first(IMAGES))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::-1],
        lambda x: x[:, ::-1, ::-1],
        lambda x: x.transpose(0, 2, 1, 3),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    ],
)
def test_arrays_that_are_not_contiguous(view) -> None:
    images = view(IMAGES)
    np.testing.assert_array_equal(noisy(images), noisy(np.ascontiguousarray(images)))
    tensor = torch.from_numpy(np.ascontiguousarray(IMAGES)).transpose(1, 2)
    np.testing.assert_array_equal(noisy(tensor).numpy(), noisy(IMAGES.transpose(0, 2, 1, 3)))


def test_read_only_and_memory_mapped_arrays(tmp_path: Path) -> None:
    fixed = IMAGES.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(noisy(fixed), EXPECTED)
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    result = noisy(mapped)
    np.testing.assert_array_equal(result, EXPECTED)
    assert type(result) is np.ndarray


def test_a_memory_mapped_array_is_not_copied_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "images.npy", np.zeros((200, 32, 32, 3), dtype=np.uint8))
    seen = []
    real = Contrast.apply

    def apply(self, images, *rest):
        seen.append((len(images), isinstance(images, np.memmap) or images.base is not None))
        return real(self, images, *rest)

    monkeypatch.setattr(Contrast, "apply", apply)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    corrupt(mapped, "contrast", severity=1, preset="cifar")
    assert len(seen) > 1
    assert all(count < 200 and is_view for count, is_view in seen)


def test_no_images() -> None:
    assert noisy(IMAGES[:0]).shape == (0, 32, 32, 3)
    assert noisy([]) == []
    assert noisy(()) == ()
    assert noisy(torch.zeros(0, 3, 32, 32)).shape == (0, 3, 32, 32)
    assert noisy(torch.zeros(0, 32, 32, 3, dtype=torch.uint8)).shape == (0, 32, 32, 3)
    assert noisy(IMAGES[:0, :20], index=[]).shape == (0, 20, 32, 3)


# settings


def test_the_index_makes_batches_equal_to_the_whole() -> None:
    parts = [noisy(IMAGES[:3]), noisy(IMAGES[3:], index=np.arange(3, 7))]
    np.testing.assert_array_equal(np.concatenate(parts), EXPECTED)
    for index in ([6, 2], (6, 2), np.array([6, 2], dtype=np.uint8), torch.tensor([6, 2])):
        np.testing.assert_array_equal(noisy(IMAGES[[6, 2]], index=index), EXPECTED[[6, 2]])
    for index in (5, np.int64(5), [5], torch.tensor(5)):
        np.testing.assert_array_equal(noisy(IMAGES[5], index=index), EXPECTED[5])
    assert (noisy(IMAGES[5]) != EXPECTED[5]).any()


def test_the_seed() -> None:
    np.testing.assert_array_equal(
        corrupt(IMAGES, "gaussian_noise", severity=np.int64(3), preset="cifar", seed=np.uint8(4)),
        EXPECTED,
    )
    other = corrupt(IMAGES, "gaussian_noise", severity=3, preset="cifar")
    assert (other != EXPECTED).any()


def test_jpeg85() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    plain = corrupt(images, "contrast", severity=1, preset="tiny")
    again = corrupt(images, "contrast", severity=1, preset="tiny", jpeg85=True)
    assert (plain != again).any()
    expected = corrupt_batch(
        images, Condition("contrast", 1), preset="tiny", seed=0, index=np.arange(2), jpeg85=True
    )
    np.testing.assert_array_equal(again, expected)


def test_frost_photos_come_from_the_argument_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(anyimage, "create", lambda name, folder: seen.append(folder))
    for name in ("contrast", "gaussian_noise"):
        corrupt(IMAGES, name, severity=1, preset="cifar", frost_dir=str(tmp_path))
    monkeypatch.setenv("SHRINKPROOF_FROST_DIR", "/from/the/environment")
    noisy(IMAGES)
    noisy(IMAGES, frost_dir=tmp_path)
    monkeypatch.setenv("SHRINKPROOF_FROST_DIR", "")
    noisy(IMAGES)
    assert seen == [tmp_path, tmp_path, Path("/from/the/environment"), tmp_path, None]


def test_a_frost_folder_without_photos_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"frost"):
        corrupt(IMAGES, "frost", severity=1, preset="cifar", frost_dir=tmp_path)


# warnings


def test_a_preset_for_another_size_warns_once_per_call() -> None:
    with pytest.warns(
        PresetWarning, match="made for 224 x 224 pixels, the images have 32 x 32"
    ) as w:
        corrupt(IMAGES, "contrast", severity=1, preset="imagenet")
    assert len(w) == 1
    assert w[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noisy(IMAGES)
        corrupt(IMAGES, "contrast", severity=1, preset="imagecorruptions")
        corrupt(IMAGES[:0], "contrast", severity=1, preset="imagenet")


# bad input


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.int32), "must be uint8, got int32"),
        (IMAGES / 255, r"must be uint8, got float64; round x \* 255 to uint8 first"),
        (IMAGES > 0, "must be uint8, got bool"),
        (IMAGES[0, ..., 0], r"must be RGB, \(H, W, 3\) or \(N, H, W, 3\), got \(32, 32\)"),
        (IMAGES[..., :1], r"must be RGB.*, got \(7, 32, 32, 1\)"),
        (np.zeros((32, 32, 4), np.uint8), r"must be RGB.*, got \(32, 32, 4\)"),
        (np.zeros((2, 3, 32, 32), np.uint8), r"must be RGB.*, got \(2, 3, 32, 32\)"),
        (np.zeros((1, 1, 32, 32, 3), np.uint8), r"must be RGB.*, got \(1, 1, 32, 32, 3\)"),
        (np.uint8(3), "must be a uint8 array .*, got uint8"),
        (IMAGES[:, :15], "at least 16 x 16 pixels, got 15 x 32"),
        (IMAGES[0].tolist(), "a list of images must hold PIL images, got list at position 0"),
        (list(IMAGES), "got ndarray at position 0; stack arrays"),
        ([Image.new("RGB", (32, 32)), Image.new("L", (32, 32))], "position 1: .* got 'L'"),
        (
            Image.new("L", (32, 32)),
            r"mode 'RGB', got 'L'; convert it with image.convert\(\"RGB\"\)",
        ),
        (Image.new("RGBA", (32, 32)), "mode 'RGB', got 'RGBA'"),
        (Image.new("P", (32, 32)), "mode 'RGB', got 'P'"),
        (Image.new("RGB", (32, 8)), "at least 16 x 16 pixels, got 8 x 32"),
        ("photo.jpg", "must be a uint8 array .*, got str"),
        (None, "got NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_images_of_a_wrong_form(images, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PresetWarning)
        with pytest.raises(DataError, match=message):
            noisy(images)


def test_a_picture_whose_file_is_cut_off(tmp_path: Path) -> None:
    Image.fromarray(IMAGES[0]).save(tmp_path / "x.jpg", quality=100)
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:700])
    with (
        Image.open(tmp_path / "x.jpg") as picture,
        pytest.raises(DataError, match=r"a PIL image must be complete: .*truncated"),
    ):
        noisy(picture)


FLOAT = channels_first(IMAGES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (FLOAT * 255, r"values from 0 to 1, got 0 to 255; corrupt images before they are normal"),
        (FLOAT - 0.5, "values from 0 to 1, got -0.5 to 0.5"),
        (torch.where(FLOAT > 0.5, torch.nan, FLOAT), "values from 0 to 1, got nan to nan"),
        (
            FLOAT.movedim(1, -1),
            r"floating .* must be .*N, 3, H, W\), got \(7, 32, 32, 3\); permute",
        ),
        (
            torch.from_numpy(IMAGES).movedim(-1, 1),
            r"uint8 .* got \(7, 3, 32, 32\); permute it to c",
        ),
        (
            torch.from_numpy(IMAGES[0]).movedim(-1, 0),
            r"got \(3, 32, 32\); permute it to channels l",
        ),
        (FLOAT[:, :1], r"must be .*, got \(7, 1, 32, 32\)$"),
        (FLOAT[0, 0], r"must be .*, got \(32, 32\)$"),
        (torch.zeros(2, 4, 32, 32), r"must be .*, got \(2, 4, 32, 32\)$"),
        (torch.from_numpy(IMAGES).int(), "must be uint8 or floating, got torch.int32"),
        (torch.from_numpy(IMAGES) > 3, "must be uint8 or floating, got torch.bool"),
    ],
)
def test_tensors_of_a_wrong_form(images: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        noisy(images)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (np.arange(6), r"one whole number per image \(7,\), got \(6,\)"),
        (3, r"one whole number per image \(7,\), got \(\)"),
        (np.arange(7.0), r"got \(7,\) float64"),
        ([True] * 7, r"got \(7,\) bool"),
        (np.arange(7) - 1, "must not be negative, got -1"),
        ([2**63] * 7, r"below 2\*\*63"),
        ([2**64] * 7, "object"),
        ([], r"got \(0,\)"),
    ],
)
def test_wrong_index(index, message: str) -> None:
    with pytest.raises(DataError, match=message):
        noisy(IMAGES, index=index)


@pytest.mark.parametrize(
    ("severity", "message"),
    [
        (0, "1 to 5, got 0"),
        (6, "1 to 5, got 6"),
        (-1, "1 to 5, got -1"),
        (2.5, "whole number, got 2.5"),
        (3.0, r"whole number, got 3\.0"),
        (True, "whole number, got True"),
        ("3", "whole number, got '3'"),
        (None, "whole number, got None"),
    ],
)
def test_wrong_severity(severity, message: str) -> None:
    with pytest.raises(UsageError, match=f"severity must be .*{message}$"):
        corrupt(IMAGES, "contrast", severity=severity, preset="cifar")


def test_wrong_names_and_settings() -> None:
    with pytest.raises(UnknownNameError, match="unknown corruption 'fogg'; did you mean 'fog'"):
        corrupt(IMAGES, "fogg", severity=1, preset="cifar")
    with pytest.raises(UnknownNameError, match="unknown preset 'cifar10'; did you mean 'cifar'"):
        corrupt(IMAGES, "contrast", severity=1, preset="cifar10")
    with pytest.raises(UsageError, match="got 'clean'; clean images are the images as they are"):
        corrupt(IMAGES, "clean", severity=1, preset="cifar")
    with pytest.raises(UsageError, match="jpeg85 must go with"):
        corrupt(IMAGES, "contrast", severity=1, preset="cifar", jpeg85=True)
    with pytest.raises(UsageError, match=r"seed must be a whole number, got 1\.5"):
        corrupt(IMAGES, "contrast", severity=1, preset="cifar", seed=1.5)
    with pytest.raises(TypeError, match="preset"):
        corrupt(IMAGES, "contrast", severity=1)  # type: ignore[call-arg]


# surroundings


def test_torch_stays_out_where_no_tensor_comes_in() -> None:
    code = (
        "import sys, numpy as np; from PIL import Image; from shrinkproof import corrupt\n"
        "x = np.zeros((2, 32, 32, 3), np.uint8)\n"
        "corrupt(x, 'contrast', severity=1, preset='cifar')\n"
        "corrupt([Image.fromarray(x[0])], 'gaussian_noise', severity=1, preset='cifar')\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_cuda_tensors_are_corrupted_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device at hand: what is handed to the device path, and what is made of it."""
    device = pytest.importorskip("shrinkproof.corruptions.device")
    from shrinkproof.corruptions import tensors

    calls = []

    def on_device(images, condition, **settings):
        calls.append((images.shape, images.dtype, condition, settings))
        return images // 2

    class Cuda:
        type = "cuda"

    class Remote(torch.Tensor):
        device = Cuda()

        def detach(self):
            return self

    monkeypatch.setattr(device, "corrupt_on_device", on_device)
    images = channels_first(IMAGES).as_subclass(Remote)
    form = tensors.tensor_form(images, torch)
    request = anyimage.Request.checked("contrast", 2, "cifar", 9, None, jpeg85=False)
    (result,) = anyimage.corrupt_forms([form], request, np.arange(7))
    assert torch.equal(result.as_subclass(torch.Tensor), channels_first(IMAGES // 2))
    ((shape, dtype, condition, settings),) = calls
    assert (shape, dtype, condition) == ((7, 32, 32, 3), torch.uint8, Condition("contrast", 2))
    assert settings.pop("index").tolist() == list(range(7))
    assert settings == {"preset": "cifar", "seed": 9, "frost_dir": None, "jpeg85": False}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_tensors_come_back_on_their_device() -> None:
    images = channels_first(IMAGES).cuda()
    result = noisy(images)
    assert result.device == images.device
    assert result.dtype == images.dtype
    assert (result.cpu() - channels_first(EXPECTED)).abs().max() <= 1.01 / 255


def test_the_names_are_public() -> None:
    assert shrinkproof.corrupt is corrupt
    assert {"corrupt", "CorruptedDataset", "PresetWarning"} <= set(shrinkproof.__all__)
    assert GaussianNoise.name == NOISE.corruption
