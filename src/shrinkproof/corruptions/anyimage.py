"""Corrupt images in the form in which the caller has them: arrays, pictures or tensors."""

from __future__ import annotations

import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.apply import corrupt_batch, create
from shrinkproof.corruptions.presets import check_jpeg85, check_preset, preset_warning
from shrinkproof.errors import DataError, UsageError
from shrinkproof.records import Condition

T = TypeVar("T")

FROST_DIR: Final = "SHRINKPROOF_FROST_DIR"
"""Environment variable that names the folder with the original frost photos."""

_TOGETHER: Final = 2**22
"""Values of separate images that are put into one batch: fast, and bounded in memory."""

_FORMS: Final = (
    "a uint8 array (H, W, 3) or (N, H, W, 3), a PIL image or a list of them, a uint8 tensor "
    "(H, W, 3) or (N, H, W, 3), or a floating tensor (3, H, W) or (N, 3, H, W) within 0 to 1"
)


class PresetWarning(UserWarning):
    """The images have another size than those that the preset was made for."""


@dataclass(frozen=True, slots=True)
class Request:
    """Everything but the images that decides the pixels, checked.

    Attributes:
        condition: which corruption at which severity.
        preset: whose constants to use.
        seed: root of the randomness.
        frost_dir: folder with the original frost photos, or None.
        jpeg85: whether each result is written and read as JPEG of quality 85.
    """

    condition: Condition
    preset: str
    seed: int
    frost_dir: Path | None = None
    jpeg85: bool = False

    @classmethod
    def checked(
        cls,
        corruption: str,
        severity: int,
        preset: str,
        seed: int,
        frost_dir: str | Path | None,
        *,
        jpeg85: bool,
    ) -> Request:
        """Return the request behind the arguments of `corrupt`, with its errors."""
        level = _whole("severity", severity)
        if not 1 <= level <= 5:
            raise UsageError(f"severity must be 1 to 5, got {level}")
        if corruption == "clean":
            raise UsageError(
                "corruption must be one that changes images, got 'clean'; clean images are the "
                "images as they are, so leave the call out"
            )
        check_preset(preset)
        if jpeg85:
            check_jpeg85(preset)
        folder = frost_folder(frost_dir)
        create(corruption, folder)
        return cls(Condition(corruption, level), preset, _whole("seed", seed), folder, jpeg85)

    def batch(self, images: NDArray[np.uint8], index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the corrupted images, (N, H, W, 3) uint8."""
        return corrupt_batch(
            images,
            self.condition,
            preset=self.preset,
            seed=self.seed,
            index=index,
            frost_dir=self.frost_dir,
            jpeg85=self.jpeg85,
        )

    def misfit(self, forms: Sequence[Form]) -> str:
        """Return what to warn of if some image is not of the preset's size, else nothing."""
        texts = (preset_warning(self.preset, form.shape) for form in forms if form.count)
        return next(filter(None, texts), "")


@dataclass(frozen=True, slots=True)
class Form:
    """Images in the caller's form: what they are, how to read them, how to give results back.

    Attributes:
        count: how many images.
        shape: (H, W) in pixels.
        read: returns them, (count, H, W, 3) uint8.
        wrap: turns such an array into the caller's form.
        elsewhere: corrupts them where they are instead, on a CUDA device; None for the processor.
    """

    count: int
    shape: tuple[int, int]
    read: Callable[[], NDArray[np.uint8]]
    wrap: Callable[[NDArray[np.uint8]], Any]
    elsewhere: Callable[[Request, NDArray[np.int64]], Any] | None = None


def corrupt(
    images: T,
    corruption: str,
    *,
    severity: int,
    preset: str,
    seed: int = 0,
    index: Any = None,
    frost_dir: str | Path | None = None,
    jpeg85: bool = False,
) -> T:
    """Return corrupted copies of images, in the form in which they came.

    The form is decided by type and shape alone, never by the values:

    * numpy: uint8, (H, W, 3) or (N, H, W, 3). Memory-mapped arrays are read piece by piece.
    * Pillow: one RGB image, or a list or tuple of them, each of any size.
    * torch, uint8: (H, W, 3) or (N, H, W, 3).
    * torch, floating: (3, H, W) or (N, 3, H, W), values 0 to 1. They are rounded to 8 bits
      first; results are k / 255, as an image file would be read, of the same type and on the same
      device, without a gradient. Corrupt before normalization by mean and deviation.

    Tensors on CUDA are corrupted there and agree with the processor's results within the
    tolerances of ``shrinkproof.corruptions.device``; on other devices they take the way over the
    processor. torch is never imported for this, nor where the images are none of its tensors.

    A pixel depends only on its image and on corruption, severity, preset, seed and index: not on
    the form, the batch, the order, the process or the number of threads.

    Args:
        images: at least 16 x 16 pixels each; no images give no images.
        corruption: a registered name, for example ``fog``. ``clean`` is refused.
        severity: 1 to 5.
        preset: whose constants to use: ``cifar``, ``tiny``, ``imagenet``, ``inception`` or
            ``imagecorruptions``. It is never guessed from the size of the images.
        seed: root of the randomness.
        index: index of each image in its data set, a whole number, or one per image. Default:
            0 to N - 1. Pass it where a data set is corrupted batch by batch: images with the same
            index get the same noise.
        frost_dir: folder with the original frost photos; default: the environment variable
            SHRINKPROOF_FROST_DIR; without either, frost is procedural. Other corruptions ignore
            it.
        jpeg85: write and read each result as JPEG of quality 85, as the published sets that are
            JPEG files were; goes with the presets ``tiny``, ``imagenet`` and ``inception``.

    Raises:
        UnknownNameError: corruption or preset are not known.
        UsageError: severity, seed or ``jpeg85`` do not fit.
        DataError: images, index or frost photos are not of that form.
        PluginError: a plugin broke its contract.

    Warns:
        PresetWarning: the preset was made for images of another size. Once per call.
    """
    request = Request.checked(corruption, severity, preset, seed, frost_dir, jpeg85=jpeg85)
    several = isinstance(images, (list, tuple))
    forms = _pictures(images) if isinstance(images, (list, tuple)) else [form_of(images)]
    numbers = _index(index, sum(form.count for form in forms))
    text = request.misfit(forms)
    if text:
        warnings.warn(text, PresetWarning, stacklevel=2)
    results: Any = corrupt_forms(forms, request, numbers)
    return type(images)(results) if several else results[0]  # type: ignore[call-arg]


def corrupt_forms(forms: Sequence[Form], request: Request, index: NDArray[np.int64]) -> list[Any]:
    """Return the corrupted images of each form; neighbors of one size share a batch.

    Args:
        forms: one form of any count, or several of one image each.
        request: what to do.
        index: of each image.
    """
    if len(forms) == 1:
        (form,) = forms
        if form.elsewhere is not None:
            return [form.elsewhere(request, index)]
        return [form.wrap(request.batch(form.read(), index))]
    found: list[Any] = []
    for start, stop in _runs(forms):
        part = forms[start:stop]
        if part[0].elsewhere is not None:
            found.append(part[0].elsewhere(request, index[start:stop]))
            continue
        pixels = np.concatenate([form.read() for form in part])
        done = request.batch(pixels, index[start:stop])
        found += [form.wrap(one[None].copy()) for form, one in zip(part, done, strict=True)]
    return found


def _runs(forms: Sequence[Form]) -> Iterator[tuple[int, int]]:
    """Yield where runs of neighbors that fit into one batch start and stop."""
    start = 0
    while start < len(forms):
        first = forms[start]
        most = max(1, _TOGETHER // (3 * first.shape[0] * first.shape[1]))
        stop = start + 1
        while (
            first.elsewhere is None
            and stop < min(len(forms), start + most)
            and forms[stop].elsewhere is None
            and forms[stop].shape == first.shape
        ):
            stop += 1
        yield start, stop
        start = stop


def form_of(images: Any) -> Form:
    """Return the form of an array, a PIL image or a tensor.

    Raises:
        DataError: it is none of them, or not of a form that can be corrupted.
    """
    if isinstance(images, np.ndarray):
        return _array_form(images)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(images, torch.Tensor):
        from shrinkproof.corruptions.tensors import tensor_form

        return tensor_form(images, torch)
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(images, pillow.Image):
        return _picture_form(images)
    raise DataError(f"images to corrupt must be {_FORMS}, got {type(images).__name__}")


def _array_form(images: NDArray[Any]) -> Form:
    if images.dtype != np.uint8:
        advice = "; round x * 255 to uint8 first" if images.dtype.kind == "f" else ""
        raise DataError(f"an array of images must be uint8, got {images.dtype}{advice}")
    if images.ndim not in (3, 4) or images.shape[-1] != 3:
        raise DataError(
            f"an array of images must be RGB, (H, W, 3) or (N, H, W, 3), got {images.shape}"
        )
    single = images.ndim == 3
    return Form(
        count=1 if single else len(images),
        shape=(images.shape[-3], images.shape[-2]),
        read=lambda: images[None] if single else images,
        wrap=lambda result: result[0] if single else result,
    )


def _picture_form(image: Any) -> Form:
    if image.mode != "RGB":
        raise DataError(
            f"a PIL image must be of mode 'RGB', got {image.mode!r}; "
            'convert it with image.convert("RGB")'
        )
    from PIL import Image

    def read() -> NDArray[np.uint8]:
        try:
            return np.asarray(image)[None]
        except OSError as error:
            raise DataError(f"a PIL image must be complete: {error}") from None

    return Form(
        count=1,
        shape=(image.height, image.width),
        read=read,
        wrap=lambda result: Image.fromarray(result[0]),
    )


def _pictures(images: Sequence[Any]) -> list[Form]:
    forms = []
    pillow = sys.modules.get("PIL.Image")
    for position, image in enumerate(images):
        if pillow is None or not isinstance(image, pillow.Image):
            raise DataError(
                f"a {type(images).__name__} of images must hold PIL images, got "
                f"{type(image).__name__} at position {position}; stack arrays or tensors of one "
                "size, or corrupt them one by one"
            )
        try:
            forms.append(_picture_form(image))
        except DataError as error:
            raise DataError(f"position {position}: {error}") from None
    return forms


def _index(index: Any, count: int) -> NDArray[np.int64]:
    """Return the given index of each image as an array; `corrupt_batch` checks it further."""
    if index is None:
        return np.arange(count, dtype=np.int64)
    if callable(getattr(index, "cpu", None)):
        index = index.cpu()
    found = np.asarray(index)
    if found.ndim == 0 and count == 1:
        found = found.reshape(1)
    if found.size == 0 == count:
        return np.arange(0, dtype=np.int64)
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise DataError(
            f"index must be one whole number per image ({count},), got {found.shape} {found.dtype}"
        )
    if found.max() > np.iinfo(np.int64).max:
        raise DataError(f"index must be below 2**63, got {found.max()}")
    return found.astype(np.int64)


def _whole(what: str, value: Any) -> int:
    """Return a whole number as such; neither truth values nor fractions are numbers here."""
    try:
        if not isinstance(value, (bool, np.bool_)):
            return operator.index(value)
    except TypeError:
        pass
    raise UsageError(f"{what} must be a whole number, got {value!r}")


def frost_folder(given: str | Path | None) -> Path | None:
    """Return the folder with the original frost photos: the given one, or the environment's.

    Returns:
        None if there is neither: frost is procedural then.
    """
    place = given or os.environ.get(FROST_DIR)
    return Path(place).expanduser() if place else None
