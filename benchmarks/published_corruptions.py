"""The 19 corruptions as published: one image at a time, with the libraries of the scripts.

What the generator scripts of Hendrycks and Dietterich 2019 (arXiv:1903.12261; hendrycks/robustness)
do to an image, step by step, written anew from their description: neither slower nor faster, with
keywords that today's libraries know. It is the opponent of ``benchmarks/corruptions.py`` and the
oracle of ``tests/parity/test_parity_corruptions.py``.

All randomness comes through an object: ``Legacy`` draws as the scripts do, ``Injected`` gives out
the draws of one of our corruptions, so both can corrupt an image with the same numbers.

Needs scikit-image, and Wand with ImageMagick 6 for motion blur and snow.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from published_constants import CONSTANTS, FROST_SIZE, PLASMA_SIDE
from scipy.ndimage import map_coordinates, zoom
from scipy.stats import poisson
from skimage.color import hsv2rgb, rgb2hsv
from skimage.filters import gaussian
from skimage.util import random_noise

Values = NDArray[Any]

PHOTOS: Final = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")
WITHOUT_RANDOMNESS: Final = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)


class Legacy:
    """Draws as the scripts do, from numpy's generator of their time and from scikit-image."""

    def __init__(self, seed: int = 0) -> None:
        self._state = np.random.RandomState(seed)

    def noise(self, shape: tuple[int, ...], scale: float) -> Values:
        """Return normal noise."""
        return self._state.normal(size=shape, scale=scale)

    def layer(self, shape: tuple[int, ...], mean: float, scale: float) -> Values:
        """Return a normal layer."""
        return self._state.normal(size=shape, loc=mean, scale=scale)

    def photons(self, rate: Values) -> Values:
        """Return Poisson counts."""
        return self._state.poisson(rate)

    def salt_and_pepper(self, x: Values, amount: float) -> Values:
        """Return x with values flipped to 0 or 1."""
        return random_noise(x, mode="s&p", amount=amount)

    def shift(self, reach: int) -> Values:
        """Return (dx, dy) from -reach to reach - 1."""
        return self._state.randint(-reach, reach, size=(2,))

    def angle(self, low: float, high: float) -> float:
        """Return an angle in degrees."""
        return self._state.uniform(low, high)

    def photo(self) -> int:
        """Return which photo."""
        return self._state.randint(5)

    def corner(self, rows: int, columns: int) -> tuple[int, int]:
        """Return a row and a column."""
        return self._state.randint(0, rows), self._state.randint(0, columns)

    def plasma(self, wibble: float, shape: tuple[int, ...]) -> Values:
        """Return uniform numbers in [-wibble, wibble)."""
        return self._state.uniform(-wibble, wibble, shape)

    def jitter(self, reach: float, shape: tuple[int, ...]) -> Values:
        """Return shifts of three points."""
        return self._state.uniform(-reach, reach, size=shape)

    def field(self, shape: tuple[int, ...]) -> Values:
        """Return uniform numbers in [-1, 1)."""
        return self._state.uniform(-1, 1, size=shape)


class Injected:
    """The draws of one of our corruptions for one image, handed out in the order of use.

    Args:
        draws: what ``Corruption.draw`` returned, the entries of one image, without batch axis.
    """

    def __init__(self, draws: Mapping[str, Values]) -> None:
        self._draws = draws
        self._used = 0
        self._shifts = iter(draws["shift"].reshape(-1, 2).tolist() if "shift" in draws else ())

    def noise(self, shape: tuple[int, ...], scale: float) -> Values:
        """Return normal noise."""
        return self._draws["noise"].reshape(shape).astype(np.float64) * scale

    def layer(self, shape: tuple[int, ...], mean: float, scale: float) -> Values:
        """Return a normal layer."""
        return self._draws["layer"].reshape(shape).astype(np.float64) * scale + mean

    def photons(self, rate: Values) -> Values:
        """Return the smallest counts whose distribution function reaches (u + 0.5) / 65536."""
        wanted = (self._draws["uniform"] + 0.5) / 2**16
        counts = np.zeros(rate.shape)
        for mean in np.unique(rate):
            here = rate == mean
            reached = poisson.cdf(np.arange(int(mean + 12 * mean**0.5) + 30), mean)
            counts[here] = np.searchsorted(reached, wanted[here])
        return counts

    def salt_and_pepper(self, x: Values, amount: float) -> Values:
        """Return x with half the flipped values at 0 (the lowest draws), the others at 1."""
        uniform = self._draws["uniform"] / 2**32
        return np.where(uniform < amount / 2, 0.0, np.where(uniform < amount, 1.0, x))

    def shift(self, reach: int) -> tuple[int, int]:
        """Return (dx, dy) from -reach to reach - 1."""
        dx, dy = next(self._shifts)
        assert -reach <= min(dx, dy) <= max(dx, dy) < reach
        return dx, dy

    def angle(self, low: float, high: float) -> float:
        """Return an angle in degrees."""
        found = float(self._draws["angle"])
        assert low <= found < high
        return found

    def photo(self) -> int:
        """Return which photo."""
        return int(self._draws["photo"])

    def corner(self, rows: int, columns: int) -> tuple[int, int]:
        """Return a row and a column."""
        row, column = self._draws["corner"]
        return int(row * rows), int(column * columns)

    def plasma(self, wibble: float, shape: tuple[int, ...]) -> Values:
        """Return uniform numbers in [-wibble, wibble)."""
        count = int(np.prod(shape))
        uniform = self._draws["uniform"][self._used : self._used + count].reshape(shape)
        self._used += count
        return -wibble + 2 * wibble * uniform

    def jitter(self, reach: float, shape: tuple[int, ...]) -> Values:
        """Return shifts of three points."""
        return self._draws["jitter"].reshape(shape).astype(np.float64) * reach

    def field(self, shape: tuple[int, ...]) -> Values:
        """Return uniform numbers in [-1, 1)."""
        self._used += 1
        return self._draws["field"][self._used - 1].reshape(shape).astype(np.float64)


Randomness = Legacy | Injected


def published(
    name: str,
    image: Image.Image,
    severity: int,
    preset: str,
    random: Randomness,
    *,
    photos: Path | None = None,
) -> NDArray[np.uint8]:
    """Return an image as the published script of a preset corrupts it, (H, W, 3) uint8.

    Args:
        name: one of the 19 corruptions.
        image: RGB image, square for ``zoom_blur`` and ``snow``.
        severity: 1 to 5.
        preset: ``cifar``, ``tiny``, ``imagenet`` or ``inception``.
        random: where randomness comes from.
        photos: folder with the frost photos.
    """
    c = CONSTANTS[name][preset][severity - 1]
    if name == "frost":
        assert photos is not None
        return np.uint8(frost(image, c, random, photos, FROST_SIZE[preset]))
    if name == "fog":
        return np.uint8(fog(image, c, random, PLASMA_SIDE[preset]))
    return np.uint8(_FUNCTIONS[name](image, c, random))


def gaussian_noise(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image with normal noise."""
    x = np.array(image) / 255.0
    return np.clip(x + random.noise(x.shape, c), 0, 1) * 255


def shot_noise(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image from Poisson counts."""
    x = np.array(image) / 255.0
    return np.clip(random.photons(x * c) / c, 0, 1) * 255


def impulse_noise(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image with salt and pepper."""
    x = random.salt_and_pepper(np.array(image) / 255.0, c)
    return np.clip(x, 0, 1) * 255


def speckle_noise(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image with noise in proportion to brightness."""
    x = np.array(image) / 255.0
    return np.clip(x + x * random.noise(x.shape, c), 0, 1) * 255


def gaussian_blur(image: Image.Image, c: Any, _: Randomness) -> Values:
    """Return the smoothed image."""
    x = gaussian(np.array(image) / 255.0, sigma=c, channel_axis=-1)
    return np.clip(x, 0, 1) * 255


def glass_blur(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image with pixels taken from nearby, in a scan; swapped views are copies."""
    sigma, reach, passes = c
    x = np.uint8(gaussian(np.array(image) / 255.0, sigma=sigma, channel_axis=-1) * 255)
    height, width = x.shape[:2]
    for _ in range(passes):
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = random.shift(reach)
                other_h, other_w = h + dy, w + dx
                x[h, w], x[other_h, other_w] = x[other_h, other_w], x[h, w]
    return np.clip(gaussian(x / 255.0, sigma=sigma, channel_axis=-1), 0, 1) * 255


def disk(radius: float, smoothing: float) -> Values:
    """Return the smoothed disk."""
    if radius <= 8:
        steps, size = np.arange(-8, 8 + 1), (3, 3)
    else:
        steps, size = np.arange(-radius, radius + 1), (5, 5)
    across, down = np.meshgrid(steps, steps)
    hard = np.array((across**2 + down**2) <= radius**2, dtype=np.float32)
    hard /= np.sum(hard)
    return cv2.GaussianBlur(hard, ksize=size, sigmaX=smoothing)


def defocus_blur(image: Image.Image, c: Any, _: Randomness) -> Values:
    """Return the image blurred by a disk, channel by channel."""
    x = np.array(image) / 255.0
    kernel = disk(*c)
    channels = [cv2.filter2D(x[:, :, channel], -1, kernel) for channel in range(3)]
    return np.clip(np.array(channels).transpose((1, 2, 0)), 0, 1) * 255


def streak(image: Image.Image, radius: float, sigma: float, angle: float) -> Values:
    """Return the motion blur of ImageMagick, there and back as PNG, as OpenCV reads it."""
    from wand.image import Image as MagickImage

    content = io.BytesIO()
    image.save(content, format="PNG")
    blurred = MagickImage(blob=content.getvalue())
    blurred.motion_blur(radius, sigma, angle)
    return cv2.imdecode(np.frombuffer(blurred.make_blob(), np.uint8), cv2.IMREAD_UNCHANGED)


def motion_blur(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image with streaks."""
    x = streak(image, c[0], c[1], random.angle(-45, 45))
    if x.ndim == 3:
        return np.clip(x[..., [2, 1, 0]], 0, 255)
    return np.clip(np.array([x, x, x]).transpose((1, 2, 0)), 0, 255)


def centre_zoom(x: Values, factor: float) -> Values:
    """Return the enlarged centre of a square image, trimmed to its size."""
    side = x.shape[0]
    cut = int(np.ceil(side / factor))
    top = (side - cut) // 2
    x = zoom(x[top : top + cut, top : top + cut], (factor, factor, 1), order=1)
    trim = (x.shape[0] - side) // 2
    return x[trim : trim + side, trim : trim + side]


def zoom_blur(image: Image.Image, c: Any, _: Randomness) -> Values:
    """Return the mean of the image and of its zooms."""
    x = (np.array(image) / 255.0).astype(np.float32)
    factors = np.arange(1, *c)
    total = np.zeros_like(x)
    for factor in factors:
        total += centre_zoom(x, factor)
    x = (x + total) / (len(factors) + 1)
    return np.clip(x, 0, 1) * 255


def snow(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image whitened, with streaks of flakes."""
    mean, scale, factor, threshold, radius, sigma, mix = c
    x = np.array(image, dtype=np.float32) / 255.0
    layer = random.layer(x.shape[:2], mean, scale)
    layer = centre_zoom(layer[..., np.newaxis], factor)
    layer[layer < threshold] = 0
    flakes = Image.fromarray((np.clip(layer.squeeze(), 0, 1) * 255).astype(np.uint8))
    layer = streak(flakes, radius, sigma, random.angle(-135, -45)) / 255.0
    layer = layer[..., np.newaxis]
    gray = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).reshape(*x.shape[:2], 1)
    x = mix * x + (1 - mix) * np.maximum(x, gray * 1.5 + 0.5)
    return np.clip(x + layer + np.rot90(layer, k=2), 0, 1) * 255


def frost(
    image: Image.Image, c: Any, random: Randomness, photos: Path, size: float | None
) -> Values:
    """Return the image behind a part of a photo of frost, which is read for every image."""
    layer = cv2.imread(str(photos / PHOTOS[random.photo()]))
    if size is not None:
        layer = cv2.resize(layer, (0, 0), fx=size, fy=size)
    x = np.array(image)
    height, width = x.shape[:2]
    row, column = random.corner(layer.shape[0] - height, layer.shape[1] - width)
    layer = layer[row : row + height, column : column + width][..., [2, 1, 0]]
    return np.clip(c[0] * x + c[1] * layer, 0, 255)


def plasma(side: int, decay: float, random: Randomness) -> Values:
    """Return a plasma fractal by diamonds and squares."""
    cells = np.empty((side, side), dtype=np.float64)
    cells[0, 0] = 0
    step, wibble = side, 100.0

    def shaken(sums: Values) -> Values:
        return sums / 4 + wibble * random.plasma(wibble, sums.shape)

    while step >= 2:
        half = step // 2
        corners = cells[0:side:step, 0:side:step]
        sums = corners + np.roll(corners, shift=-1, axis=0)
        sums += np.roll(sums, shift=-1, axis=1)
        cells[half:side:step, half:side:step] = shaken(sums)

        centres = cells[half:side:step, half:side:step]
        corners = cells[0:side:step, 0:side:step]
        sums = (centres + np.roll(centres, 1, axis=0)) + (corners + np.roll(corners, -1, axis=1))
        cells[0:side:step, half:side:step] = shaken(sums)
        sums = (centres + np.roll(centres, 1, axis=1)) + (corners + np.roll(corners, -1, axis=0))
        cells[half:side:step, 0:side:step] = shaken(sums)
        step //= 2
        wibble /= decay
    cells -= cells.min()
    return cells / cells.max()


def fog(image: Image.Image, c: Any, random: Randomness, side: int) -> Values:
    """Return the image in fog; the map of a larger image has the next power of two as side."""
    x = np.array(image) / 255.0
    height, width = x.shape[:2]
    while side < max(height, width):
        side *= 2
    largest = x.max()
    x += c[0] * plasma(side, c[1], random)[:height, :width][..., np.newaxis]
    return np.clip(x * largest / (largest + c[0]), 0, 1) * 255


def brightness(image: Image.Image, c: Any, _: Randomness) -> Values:
    """Return the image with a higher value of HSV."""
    x = rgb2hsv(np.array(image) / 255.0)
    x[:, :, 2] = np.clip(x[:, :, 2] + c, 0, 1)
    return np.clip(hsv2rgb(x), 0, 1) * 255


def saturate(image: Image.Image, c: Any, _: Randomness) -> Values:
    """Return the image with another saturation of HSV."""
    x = rgb2hsv(np.array(image) / 255.0)
    x[:, :, 1] = np.clip(x[:, :, 1] * c[0] + c[1], 0, 1)
    return np.clip(hsv2rgb(x), 0, 1) * 255


def contrast(image: Image.Image, c: Any, _: Randomness) -> Values:
    """Return the image nearer to its mean color."""
    x = np.array(image) / 255.0
    means = np.mean(x, axis=(0, 1), keepdims=True)
    return np.clip((x - means) * c + means, 0, 1) * 255


def jpeg_compression(image: Image.Image, c: Any, _: Randomness) -> Image.Image:
    """Return the image as it comes back from a JPEG file."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=c)
    return Image.open(content)


def pixelate(image: Image.Image, c: Any, _: Randomness) -> Image.Image:
    """Return the image in fewer, larger pixels."""
    width, height = image.size
    small = image.resize((int(width * c), int(height * c)), Image.Resampling.BOX)
    return small.resize((width, height), Image.Resampling.BOX)


def elastic_transform(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image after a random affine map and random local shifts."""
    strength, sigma, reach = c
    x = np.array(image, dtype=np.float32) / 255.0
    shape = x.shape
    size = shape[:2]
    centre = np.float32(size) // 2
    square = min(size) // 3
    before = np.array(
        [centre + square, [centre[0] + square, centre[1] - square], centre - square],
        dtype=np.float32,
    )
    after = before + random.jitter(reach, before.shape).astype(np.float32)
    affine = cv2.getAffineTransform(before, after)
    x = cv2.warpAffine(x, affine, size[::-1], borderMode=cv2.BORDER_REFLECT_101)

    def shifts() -> Values:
        smooth = gaussian(random.field(size), sigma, mode="reflect", truncate=3)
        return (smooth * strength).astype(np.float32)[..., np.newaxis]

    across, down = shifts(), shifts()
    columns, rows, channels = np.meshgrid(*(np.arange(shape[axis]) for axis in (1, 0, 2)))
    at = [np.reshape(part, (-1, 1)) for part in (rows + down, columns + across, channels)]
    return np.clip(map_coordinates(x, at, order=1, mode="reflect").reshape(shape), 0, 1) * 255


def spatter(image: Image.Image, c: Any, random: Randomness) -> Values:
    """Return the image behind drops of water or mud."""
    mean, scale, sigma, threshold, amount, mud = c
    x = np.array(image, dtype=np.float32) / 255.0
    liquid = gaussian(random.layer(x.shape[:2], mean, scale), sigma=sigma)
    liquid[liquid < threshold] = 0
    return _muddy(x, liquid, threshold, amount) if mud else _wet(x, liquid, amount)


def _wet(x: Values, liquid: Values, amount: float) -> Values:
    liquid = (liquid * 255).astype(np.uint8)
    edges = 255 - cv2.Canny(liquid, 50, 150)
    far = cv2.distanceTransform(edges, cv2.DIST_L2, 5)
    _, far = cv2.threshold(far, 20, 20, cv2.THRESH_TRUNC)
    far = cv2.equalizeHist(cv2.blur(far, (3, 3)).astype(np.uint8))
    relief = cv2.filter2D(far, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    relief = cv2.blur(relief, (3, 3)).astype(np.float32)
    m = cv2.cvtColor(liquid * relief, cv2.COLOR_GRAY2BGRA)
    m /= np.max(m, axis=(0, 1))
    m *= amount
    ones = np.ones_like(m[..., :1])
    turquoise = np.concatenate([value / 255.0 * ones for value in (175, 238, 238)], axis=2)
    turquoise = cv2.cvtColor(turquoise, cv2.COLOR_BGR2BGRA)
    x = cv2.cvtColor(x, cv2.COLOR_BGR2BGRA)
    return cv2.cvtColor(np.clip(x + m * turquoise, 0, 1), cv2.COLOR_BGRA2BGR) * 255


def _muddy(x: Values, liquid: Values, threshold: float, amount: float) -> Values:
    m = gaussian(np.where(liquid > threshold, 1, 0).astype(np.float32), sigma=amount)
    m[m < 0.8] = 0
    ones = np.ones_like(x[..., :1])
    brown = np.concatenate([value / 255.0 * ones for value in (63, 42, 20)], axis=2)
    brown *= m[..., np.newaxis]
    x *= 1 - m[..., np.newaxis]
    return np.clip(x + brown, 0, 1) * 255


_FUNCTIONS: Final[Mapping[str, Callable[[Image.Image, Any, Randomness], Any]]] = {
    function.__name__: function
    for function in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        speckle_noise,
        gaussian_blur,
        glass_blur,
        defocus_blur,
        motion_blur,
        zoom_blur,
        snow,
        brightness,
        contrast,
        saturate,
        jpeg_compression,
        pixelate,
        elastic_transform,
        spatter,
    )
}
