"""Frost on the window in front of the camera."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.constants import FROST, FROST_SCALE
from shrinkproof.corruptions.draws import bits, unit
from shrinkproof.corruptions.frost_layers import LAYERS_VERSION, procedural_layers
from shrinkproof.corruptions.presets import constant
from shrinkproof.errors import DataError
from shrinkproof.protocols import Draws
from shrinkproof.registry import component

PHOTOS: Final = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The published photos that are used; the sixth, frost6.jpg, is never drawn by the reference."""

_PROCEDURAL: Final = f"procedural:{LAYERS_VERSION}"

_LEVELS: Final = np.arange(256, dtype=np.uint8)


@component
class Frost:
    """Ice crystals over the image, as on a frozen window.

    a * x + b * f in levels of 0 to 255, f a random piece of one of five layers, clipped, then
    truncated to uint8. A layer is a photo, or by default an image drawn by rules of our own. It
    is scaled by a factor of the preset; for ``imagecorruptions`` by 1.1, and more if the image is
    larger, by bicubic interpolation.

    Args:
        photos: folder with the photos published with the common corruptions, frost1.png to
            frost5.jpg; empty for the procedural layers. See `frost_source`.

    Input: images (N, H, W, 3) uint8; draws ``photo`` (N,) int64 from 0 to 4 and ``corner`` (N, 2)
        float64 in [0, 1): row and column as fractions of the places where the image fits.
    Output: images (N, H, W, 3) uint8.
    Differences: none from the reference, given its draws and the photos: bit-equal for each pair
        of levels. Where the image is not smaller than the layer, which the reference refuses, the
        layer is enlarged to exceed it by at least a pixel. The procedural layers resemble the
        photos in mean color, contrast and spectrum only.
    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261.

    Raises:
        DataError: the folder does not hold the five photos.
    """

    name: ClassVar[str] = "frost"
    family: ClassVar[str] = "weather"
    version: ClassVar[int] = 1
    photos: str = ""

    def __post_init__(self) -> None:
        """Check the photos; the procedural layers are made when they are needed."""
        if self.photos:
            layers_of(self.photos)

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return which layer and which piece of it covers each image."""
        del shape
        constant(FROST, preset, severity)
        words = bits(streams, photo=(np.uint32, ()), corner=(np.uint32, (2,)))
        photo = (words["photo"].astype(np.int64) * len(PHOTOS)) >> 32
        return {"photo": photo, "corner": unit(words["corner"])}

    def apply(
        self,
        images: NDArray[np.uint8],
        severity: int,
        preset: str,
        draws: Mapping[str, NDArray[Any]],
    ) -> NDArray[np.uint8]:
        """Return the images behind frost."""
        frost = layers_of(self.photos)
        height, width = images.shape[1:3]
        pieces = np.empty(images.shape, dtype=np.uint8)
        corners = draws["corner"].tolist()
        for piece, photo, (row, column) in zip(
            pieces, draws["photo"].tolist(), corners, strict=True
        ):
            layer = scaled_layer(frost, photo, (height, width), preset)
            top = int(row * (layer.shape[0] - height))
            left = int(column * (layer.shape[1] - width))
            piece[...] = layer[top : top + height, left : left + width]
        return weighted_sum(images, pieces, constant(FROST, preset, severity))


def frost_source(photos: Path | None) -> str:
    """Return the identity of the frost layers, for keys of results.

    Args:
        photos: folder with the original photos; None for the procedural layers.

    Returns:
        ``procedural:`` and the version of the layers, or ``photos:`` and 16 hexadecimal digits of
        the SHA-256 of the five files, read again only if a file's size or time changes.

    Raises:
        DataError: the folder does not hold the five photos.
    """
    return _PROCEDURAL if photos is None else layers_of(str(photos)).source


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """Five layers, (H, W, 3) uint8 RGB each, in full size, and who they are."""

    source: str
    layers: tuple[NDArray[np.uint8], ...]


def layers_of(photos: str) -> Layers:
    """Return the photos of a folder, or the procedural layers if it is empty; read once.

    Raises:
        DataError: the folder does not hold the five photos.
    """
    if not photos:
        return _procedural()
    state = []
    for path in _paths(photos):
        try:
            found = path.stat()
        except OSError as error:
            raise _refused(path, "must be there", error.strerror or str(error)) from None
        state.append((found.st_size, found.st_mtime_ns))
    return _photos(photos, tuple(state))


@functools.lru_cache(maxsize=2)
def _paths(photos: str) -> tuple[Path, ...]:
    return tuple(Path(photos) / name for name in PHOTOS)


@functools.cache
def _procedural() -> Layers:
    return Layers(_PROCEDURAL, procedural_layers())


@functools.lru_cache(maxsize=2)
def _photos(photos: str, state: tuple[tuple[int, int], ...]) -> Layers:
    del state
    contents = [_content(path) for path in _paths(photos)]
    digest = hashlib.sha256(b"".join(contents)).hexdigest()[:16]
    layers = tuple(map(_decoded, _paths(photos), contents))
    return Layers(f"photos:{digest}", layers)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _refused(path, "must be readable", error.strerror or str(error)) from None


def _decoded(path: Path, content: bytes) -> NDArray[np.uint8]:
    encoded = np.frombuffer(content, dtype=np.uint8)
    stored: Any = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if content else None
    if stored is None:
        raise _refused(path, "must be an image", f"{len(content)} bytes that are none")
    if stored.ndim != 3:
        raise _refused(path, "must have color", "a gray image")
    photo: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    layer = np.ascontiguousarray(photo[..., ::-1], dtype=np.uint8)
    layer.flags.writeable = False
    return layer


def _refused(path: Path, rule: str, received: str) -> DataError:
    return DataError(
        f"frost photo {path}: {rule}, got: {received}; put the original generator's photos "
        f"{', '.join(PHOTOS)} there, or leave the folder out for procedural frost"
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """How to scale a layer: by a factor, or to a height and width."""

    factor: float = 0.0
    height: int = 0
    width: int = 0
    method: int = cv2.INTER_LINEAR


def _scale(layer: NDArray[np.uint8], shape: tuple[int, int], preset: str) -> _Scale:
    height, width = layer.shape[:2]
    if preset not in FROST_SCALE:
        factor = 1.1 * max(1, shape[0] / height, shape[1] / width)
        return _covering(layer, factor, cv2.INTER_CUBIC)
    factor = FROST_SCALE[preset]
    if round(height * factor) > shape[0] and round(width * factor) > shape[1]:
        return _Scale(factor)
    factor = max((shape[0] + 1) / height, (shape[1] + 1) / width)
    return _covering(layer, factor, cv2.INTER_LINEAR)


def _covering(layer: NDArray[np.uint8], factor: float, method: int) -> _Scale:
    height, width = (math.ceil(size * factor) for size in layer.shape[:2])
    return _Scale(0.0, height, width, method)


def scaled_layer(
    frost: Layers, number: int, shape: tuple[int, int], preset: str
) -> NDArray[np.uint8]:
    """Return a layer in the size from which pieces for images are cut, (h, w, 3) uint8.

    Args:
        frost: the layers.
        number: which of them.
        shape: (H, W) of the images; the layer exceeds it in both directions.
        preset: whose scale.
    """
    return _scaled(frost, number, _scale(frost.layers[number], shape, preset))


@functools.lru_cache(maxsize=32)
def _scaled(frost: Layers, photo: int, scale: _Scale) -> NDArray[np.uint8]:
    layer = frost.layers[photo]
    if scale.factor == 1:
        return layer
    # A factor that is given counts, even if it does not lead to whole pixels.
    scaled: Any = cv2.resize(
        layer,
        (scale.width, scale.height),
        fx=scale.factor,
        fy=scale.factor,
        interpolation=scale.method,
    )
    return np.asarray(scaled, dtype=np.uint8)


def weighted_sum(
    images: NDArray[np.uint8], frost: NDArray[np.uint8], weights: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return the weighted sum of levels, clipped, then truncated.

    Args:
        images: uint8, any shape.
        frost: uint8, same shape.
        weights: weight of the images and of the frost, multiples of 0.05.
    """
    table = _sums(weights)
    if table is None:
        return _rounded_sum(images, frost, weights)
    pairs = images.astype(np.uint16)
    pairs *= 256
    pairs += frost
    return table.take(pairs)


@functools.lru_cache(maxsize=16)
def _sums(weights: tuple[float, float]) -> NDArray[np.uint8] | None:
    """Return the result for each pair of levels, (256, 256), or None if rounding gives the same.

    A sum that should be a whole number can come out below it in float64, and the reference
    truncates it.
    """
    sums = weights[0] * _LEVELS[:, None] + weights[1] * _LEVELS
    table = np.clip(sums, 0, 255).astype(np.uint8)
    image, frost = np.meshgrid(_LEVELS, _LEVELS, indexing="ij")
    return None if np.array_equal(_rounded_sum(image, frost, weights), table) else table


def _rounded_sum(
    images: NDArray[np.uint8], frost: NDArray[np.uint8], weights: tuple[float, float]
) -> NDArray[np.uint8]:
    # Weights are multiples of 0.05, so sums are too, and this rounds each one down.
    flat = (images.reshape(1, -1), frost.reshape(1, -1))
    result = np.empty(flat[0].shape, dtype=np.uint8)
    if result.size:
        cv2.addWeighted(flat[0], weights[0], flat[1], weights[1], -0.48, dst=result)
    return result.reshape(images.shape)
