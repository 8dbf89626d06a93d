from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.apply import corrupt_batch, create
from shrinkproof.corruptions.device import apply as applying
from shrinkproof.corruptions.device import corrupt_on_device, corrupted_batches
from shrinkproof.corruptions.device.exact import divided, levels, unit
from shrinkproof.corruptions.device.twins import TOLERANCE, TWINS, twin_of
from shrinkproof.corruptions.frost import PHOTOS
from shrinkproof.corruptions.presets import PRESETS, SETS
from shrinkproof.errors import DataError, UnknownNameError, UsageError
from shrinkproof.randomness import Streams
from shrinkproof.records import CLEAN, Condition

NAMES = SETS["all-corruptions"]
DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)
REFERENCE = DATA / "reference_cifar_c"


def pictures(count: int, height: int, width: int) -> np.ndarray:
    """Smooth, noisy, flat, gray, white and black images, in turn."""
    rng = np.random.default_rng(11)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    images[0::6] = uniform_filter(images[0::6], (0, 9, 9, 0))
    images[2::6] = (200, 31, 5)
    images[3::6] = images[3::6, ..., :1]
    images[4::6] = 255
    images[5::6] = 0
    return images


def on_device(images: np.ndarray, name: str, severity: int, preset: str, **rest) -> np.ndarray:
    index = rest.pop("index", np.arange(len(images)) + 50)
    device = rest.pop("device", "cpu")
    result = corrupt_on_device(
        torch.from_numpy(images).to(device),
        Condition(name, severity),
        preset=preset,
        seed=4,
        index=index,
        **rest,
    )
    assert result.device.type == device
    assert result.dtype == torch.uint8
    return result.cpu().numpy()


def on_host(images: np.ndarray, name: str, severity: int, preset: str, **rest) -> np.ndarray:
    index = np.arange(len(images)) + 50
    return corrupt_batch(
        images, Condition(name, severity), preset=preset, seed=4, index=index, **rest
    )


def check_close(name: str, got: np.ndarray, wanted: np.ndarray) -> None:
    most, share = TOLERANCE.get(name, (0, 0.0))
    difference = np.abs(got.astype(int) - wanted.astype(int))
    assert difference.max() <= most
    assert (difference > 0).mean() <= share


def test_every_corruption_has_a_twin_or_is_known_to_run_on_the_host() -> None:
    assert set(NAMES) - set(TWINS) == {"jpeg_compression"}
    assert set(TOLERANCE) <= set(TWINS) <= set(CORRUPTIONS.names())


@pytest.mark.parametrize("name", NAMES)
def test_small_images_agree_with_the_host(name: str) -> None:
    cases = [((32, 32), "cifar", severity) for severity in (1, 2, 3, 4, 5)]
    cases += [((32, 32), preset, severity) for preset in PRESETS for severity in (2, 5)]
    cases += product(((17, 40), (40, 17), (64, 64)), ("tiny", "imagecorruptions"), (1, 3, 4))
    for shape, preset, severity in cases:
        images = pictures(6, *shape)
        got = on_device(images, name, severity, preset)
        check_close(name, got, on_host(images, name, severity, preset))


@pytest.mark.parametrize("name", NAMES)
def test_large_images_agree_with_the_host(name: str) -> None:
    images = pictures(2, 224, 224)
    for severity, preset in ((1, "imagenet"), (4, "imagenet"), (3, "imagecorruptions")):
        got = on_device(images, name, severity, preset)
        check_close(name, got, on_host(images, name, severity, preset))


@pytest.mark.parametrize("name", NAMES)
def test_a_pixel_does_not_depend_on_the_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(13, 32, 32)
    index = np.arange(13) * 7
    whole = on_device(images, name, 4, "cifar", index=index)
    order = np.random.default_rng(0).permutation(13)[:8]
    np.testing.assert_array_equal(
        on_device(images[order], name, 4, "cifar", index=index[order]), whole[order]
    )
    np.testing.assert_array_equal(
        on_device(images[3:4], name, 4, "cifar", index=index[3:4]), whole[3:4]
    )
    monkeypatch.setattr(applying, "_CPU_BLOCK", 3 * 32 * 32 * 3)
    monkeypatch.setattr(applying, "_SHARE", 2 * 32 * 32 * 3)
    np.testing.assert_array_equal(on_device(images, name, 4, "cifar", index=index), whole)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_twins_take_float64_draws_and_leave_draws_and_images_alone(name: str) -> None:
    images = torch.from_numpy(pictures(3, 20, 24))
    streams = Streams(("test",), np.arange(3))
    drawn = create(name).draw(streams, (20, 24), 5, "cifar")
    draws = {key: torch.from_numpy(values) for key, values in drawn.items()}
    draws = {k: v.double() if v.is_floating_point() else v for k, v in draws.items()}
    kept, kept_images = {key: values.clone() for key, values in draws.items()}, images.clone()
    first = TWINS[name](images, 5, "cifar", draws)
    assert torch.equal(images, kept_images)
    assert all(torch.equal(draws[key], kept[key]) for key in kept)
    assert torch.equal(TWINS[name](images, 5, "cifar", draws), first)
    assert (first.shape, first.dtype) == (images.shape, torch.uint8)


def test_the_image_matters_and_so_do_seed_severity_and_index() -> None:
    images = pictures(6, 32, 32)
    first = on_device(images, "gaussian_noise", 3, "cifar")
    assert not np.array_equal(first, on_device(images, "gaussian_noise", 4, "cifar"))
    other = on_device(images, "gaussian_noise", 3, "cifar", index=np.arange(6))
    assert not np.array_equal(first, other)


def test_spatter_leaves_water_to_the_host_and_keeps_mud() -> None:
    spatter = create("spatter")
    assert twin_of(spatter, 1, "cifar") is None
    assert twin_of(spatter, 5, "cifar") is not None


def test_a_device_without_float64_takes_the_way_over_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = pictures(4, 32, 32)
    monkeypatch.setattr(applying, "_NO_FLOAT64", ("cpu",))

    def refuse(*_: object) -> None:
        raise AssertionError("the twin must not run")

    monkeypatch.setitem(TWINS, "fog", refuse)  # type: ignore[index]
    got = on_device(images, "fog", 3, "cifar")
    np.testing.assert_array_equal(got, on_host(images, "fog", 3, "cifar"))


def test_jpeg85_is_the_host_codec_after_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(6, 64, 64)
    monkeypatch.setattr(applying, "_SHARE", 2 * 64 * 64 * 3)
    for name in ("contrast", "jpeg_compression"):
        got = on_device(images, name, 2, "tiny", jpeg85=True)
        np.testing.assert_array_equal(got, on_host(images, name, 2, "tiny", jpeg85=True))
        assert not np.array_equal(got, on_device(images, name, 2, "tiny"))


def test_clean_images_come_back_unchanged_and_no_image_is_no_error() -> None:
    images = torch.from_numpy(pictures(2, 32, 32))
    index = np.arange(2)
    assert corrupt_on_device(images, CLEAN, preset="cifar", seed=0, index=index) is images
    for name in NAMES:
        none = on_device(np.zeros((0, 32, 20, 3), np.uint8), name, 3, "cifar")
        assert none.shape == (0, 32, 20, 3)


@pytest.mark.parametrize("name", NAMES)
def test_strided_images_work_and_stay_untouched(name: str) -> None:
    planes = torch.from_numpy(pictures(4, 24, 32)).permute(0, 3, 1, 2).contiguous()
    view = planes.permute(0, 2, 3, 1)[:, :, ::2]
    kept = view.clone()
    result = corrupt_on_device(
        view, Condition(name, 2), preset="cifar", seed=4, index=np.arange(4) + 50
    )
    assert torch.equal(view, kept)
    assert result.is_contiguous()
    check_close(name, result.numpy(), on_host(view.contiguous().numpy(), name, 2, "cifar"))


@pytest.mark.parametrize(
    ("images", "index", "kinds", "words"),
    [
        (torch.zeros(2, 32, 32, 3), np.arange(2), DataError, r"\(2, 32, 32, 3\) float32"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), np.arange(2), DataError, "must be"),
        (torch.zeros(2, 32, 12, 3, dtype=torch.uint8), np.arange(2), DataError, "16 x 16"),
        (torch.zeros(2, 32, 32, 3, dtype=torch.uint8), np.arange(3), DataError, "one whole"),
        (torch.zeros(2, 32, 32, 3, dtype=torch.uint8), np.array([0, -1]), DataError, "negative"),
    ],
)
def test_bad_images_and_indices_are_refused_as_on_the_host(
    images: torch.Tensor, index: np.ndarray, kinds: type[Exception], words: str
) -> None:
    condition = Condition("fog", 1)
    with pytest.raises(kinds, match=words) as here:
        corrupt_on_device(images, condition, preset="cifar", seed=0, index=index)
    with pytest.raises(kinds) as there:
        corrupt_batch(images.numpy(), condition, preset="cifar", seed=0, index=index)
    assert str(here.value) == str(there.value)


def test_unknown_names_and_jpeg85_of_another_preset_are_refused() -> None:
    images = pictures(2, 32, 32)
    with pytest.raises(UnknownNameError, match="preset"):
        on_device(images, "fog", 1, "cifra")
    with pytest.raises(UnknownNameError, match="fogg"):
        on_device(images, "fogg", 1, "cifar")
    with pytest.raises(UsageError, match="jpeg85"):
        on_device(images, "fog", 1, "cifar", jpeg85=True)


def test_frost_takes_the_photos_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"frost1\.png"):
        on_device(pictures(2, 32, 32), "frost", 1, "cifar", frost_dir=tmp_path)
    for number, name in enumerate(PHOTOS):
        flat = np.full((180 + 30 * number, 200, 3), 40 * number, dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / name), flat)
    images = pictures(12, 32, 32)
    got = on_device(images, "frost", 3, "cifar", frost_dir=tmp_path)
    np.testing.assert_array_equal(got, on_host(images, "frost", 3, "cifar", frost_dir=tmp_path))
    assert not np.array_equal(got, on_device(images, "frost", 3, "cifar"))


@pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"no outputs of the original generator in {REFERENCE}"
)
@pytest.mark.parametrize("preset", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", ["zoom_blur", "defocus_blur", "gaussian_blur", "brightness"])
def test_twins_without_draws_are_bit_equal_to_the_original(name: str, preset: str) -> None:
    with np.load(REFERENCE / f"deterministic_{preset}.npz") as stored:
        images, wanted = stored["clean"], stored[name]
    images = images.reshape(-1, *images.shape[-3:])
    for severity in (1, 2, 3, 4, 5):
        got = on_device(images, name, severity, preset)
        np.testing.assert_array_equal(got, wanted[severity - 1].reshape(images.shape))


def batches_of(sizes: tuple[int, ...], images: np.ndarray) -> Iterator[tuple]:
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        yield np.arange(start, start + size) + 50, torch.from_numpy(images[part])
        start += size


@pytest.mark.parametrize("name", ["gaussian_noise", "contrast", "jpeg_compression"])
def test_batches_one_ahead_are_the_same_images(name: str) -> None:
    images = pictures(12, 32, 32)
    source = batches_of((5, 1, 6), images)
    got = list(corrupted_batches(source, Condition(name, 3), preset="cifar", seed=4))
    assert [len(index) for index, _ in got] == [5, 1, 6]
    np.testing.assert_array_equal(np.concatenate([index for index, _ in got]), np.arange(12) + 50)
    whole = torch.cat([part for _, part in got]).numpy()
    np.testing.assert_array_equal(whole, on_device(images, name, 3, "cifar"))
    assert list(corrupted_batches([], Condition(name, 3), preset="cifar", seed=4)) == []


def test_clean_batches_pass_through() -> None:
    images = pictures(4, 32, 32)
    got = list(corrupted_batches(batches_of((4,), images), CLEAN, preset="cifar", seed=4))
    np.testing.assert_array_equal(got[0][1].numpy(), images)


def test_the_next_batch_is_prepared_while_one_is_used() -> None:
    images = pictures(4, 32, 32)
    asked = [threading.Event() for _ in range(2)]

    def source() -> Iterator[tuple]:
        for event, batch in zip(asked, batches_of((2, 2), images), strict=True):
            event.set()
            yield batch

    stream = corrupted_batches(source(), Condition("fog", 1), preset="cifar", seed=4)
    assert not asked[0].is_set()
    next(stream)
    assert asked[1].wait(timeout=10)
    stream.close()


def test_an_exception_of_the_thread_reaches_the_caller() -> None:
    images = pictures(2, 32, 32)

    def source() -> Iterator[tuple]:
        yield from batches_of((2,), images)
        raise RuntimeError("the disk is gone")

    stream = corrupted_batches(source(), Condition("fog", 1), preset="cifar", seed=4)
    next(stream)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(stream)
    with pytest.raises(DataError, match="must be"):
        list(
            corrupted_batches(
                [(np.arange(2), torch.zeros(2, 3, 32, 32))],
                Condition("fog", 1),
                preset="cifar",
                seed=4,
            )
        )


def test_closing_the_generator_ends_the_thread() -> None:
    images = pictures(6, 32, 32)
    before = set(threading.enumerate())
    stream = corrupted_batches(
        batches_of((2, 2, 2), images), Condition("fog", 1), preset="cifar", seed=4
    )
    next(stream)
    assert set(threading.enumerate()) - before
    stream.close()
    assert not set(threading.enumerate()) - before


def test_levels_are_divided_as_numpy_does_and_truncated() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    np.testing.assert_array_equal(unit(every).numpy(), np.arange(256) / 255.0)
    values = torch.arange(1, 2000, dtype=torch.float64)
    np.testing.assert_array_equal(divided(values, 49.0).numpy(), values.numpy() / 49.0)
    given = torch.tensor([-0.5, 0.0, 0.999 / 255, 1.999 / 255, 1.0, 7.0], dtype=torch.float64)
    assert levels(given).tolist() == [0, 0, 0, 1, 255, 255]


def test_corruptions_without_the_device_part_do_not_import_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from shrinkproof.corruptions.apply import corrupt_batch\n"
        "from shrinkproof.records import Condition\n"
        "images = np.zeros((1, 16, 16, 3), np.uint8)\n"
        "corrupt_batch(images, Condition('fog', 1), preset='cifar', seed=0, index=np.arange(1))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_agrees_with_the_host(name: str) -> None:
    for (height, count), preset in product(((32, 64), (224, 4)), ("cifar", "imagenet")):
        images = pictures(count, height, height)
        for severity in (1, 2, 3, 4, 5):
            got = on_device(images, name, severity, preset, device="cuda")
            check_close(name, got, on_host(images, name, severity, preset))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["gaussian_noise", "fog", "jpeg_compression"])
def test_batches_on_a_gpu_are_the_same_images(name: str) -> None:
    images = pictures(12, 32, 32)
    source = ((index, part.cuda()) for index, part in batches_of((5, 1, 6), images))
    got = corrupted_batches(source, Condition(name, 3), preset="cifar", seed=4)
    whole = torch.cat([part for _, part in got]).cpu().numpy()
    np.testing.assert_array_equal(whole, on_device(images, name, 3, "cifar", device="cuda"))
