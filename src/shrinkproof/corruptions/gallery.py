"""One picture that shows what every corruption does to an image, at every severity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from shrinkproof import __version__
from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.presets import PRESETS, SETS, check_preset, preset_warning
from shrinkproof.errors import DataError, UsageError
from shrinkproof.records import CLEAN, SEVERITIES, Condition

SMALLEST_CELL: Final = 16
_READABLE: Final = 112
"""Side, in pixels, up to which small images are enlarged."""

_LONGEST: Final = 320
"""Longest side of an image for the preset that was made for any size."""

_FONT: Final = 14
_LINE: Final = 20
_GAP: Final = 4
_MARGIN: Final = 12
_LABELS: Final = 132
_PAPER: Final = (255, 255, 255)
_INK: Final = (20, 20, 20)
_FAINT: Final = (110, 110, 110)


@dataclass(frozen=True, slots=True)
class Fitted:
    """An image of the size that a preset was made for.

    Attributes:
        pixels: (H, W, 3) uint8.
        account: what was done to the file's image, for the reader.
    """

    pixels: NDArray[np.uint8]
    account: str


def read_fitted(path: Path, preset: str) -> Fitted:
    """Return the image of a file in the size that a preset was made for.

    Turned upright, made RGB, resized so that it covers the preset's square, and cut to its middle;
    for ``imagenet`` and ``inception`` the short side is 8/7 of the square's first (256 for 224), as
    for the published sets. The preset ``imagecorruptions`` keeps the shape: long images are
    reduced to 320 pixels. An image of the right size stays as it is.

    Raises:
        UnknownNameError: there is no such preset.
        DataError: the file cannot be read as an image.
    """
    check_preset(preset)
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such image; correct the path") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: must be an image that Pillow can read: {error}") from None
    size = f"{path.name}, {image.width} x {image.height} pixels"
    side = PRESETS[preset]
    if side is None:
        return _shrunk(image, size)
    if image.size == (side, side):
        return Fitted(np.asarray(image), f"{size}, as it is")
    short = side * 8 // 7 if side >= 224 else side
    wide, high = (length * short // min(image.size) for length in image.size)
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (wide - side) // 2, (high - side) // 2
    cut = resized.crop((left, top, left + side, top + side))
    account = f"{size}, resized to {wide} x {high}, the middle {side} x {side}"
    return Fitted(np.asarray(cut), account)


def _shrunk(image: Image.Image, size: str) -> Fitted:
    if max(image.size) <= _LONGEST:
        return Fitted(np.asarray(image), f"{size}, as it is")
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BILINEAR)
    return Fitted(np.asarray(image), f"{size}, resized to {image.width} x {image.height}")


def gallery(
    image: NDArray[np.uint8],
    *,
    preset: str,
    seed: int = 0,
    frost_dir: Path | None = None,
    cell: int | None = None,
    account: str = "",
    names: Sequence[str] = SETS["all-corruptions"],
) -> Image.Image:
    """Return a table of pictures: a row per corruption, the clean image and five severities.

    Every picture is corrupted as image 0 of a data set. Below the table stand preset, seed, where
    the frost comes from, and the scale.

    Args:
        image: (H, W, 3) uint8, at least 16 x 16 pixels.
        preset: whose constants to use.
        seed: root of the randomness.
        frost_dir: folder with the original frost photos; without it frost is procedural.
        cell: side of a picture in pixels, at least 16. Images are enlarged by repeating pixels, or
            reduced by averaging them, by the whole factor that comes close without exceeding it.
            Default: as they are, small ones enlarged to at least 112.
        account: where the image comes from and what was done to it; stands below the table.
        names: the corruptions, by default all 19.

    Raises:
        UnknownNameError: preset or a corruption are not known.
        UsageError: ``cell`` is too small.
        DataError: the image is not of that form.
    """
    if cell is not None and cell < SMALLEST_CELL:
        raise UsageError(f"cell must be at least {SMALLEST_CELL} pixels, got {cell}")
    if image.ndim != 3:
        raise DataError(f"the image of a gallery must be (H, W, 3) uint8, got {image.shape}")
    scale = _Scale.of(min(image.shape[:2]), cell)
    rows = {
        group: {name: _row(image, name, preset, seed, frost_dir) for name in members}
        for group, members in _groups(names).items()
    }
    notes = [
        f"{account}." if account else "",
        f"Preset {preset}, seed {seed}. {_frost(names, frost_dir)}{scale.account} "
        f"shrinkproof {__version__}.",
        f"{preset_warning(preset, (image.shape[0], image.shape[1]))}",
    ]
    return _drawn(rows, scale, [note for note in notes if note])


def check_format(path: Path) -> None:
    """Check that the suffix of a path names a picture format that can be written.

    Raises:
        UsageError: it does not.
    """
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise UsageError(
            f"{path}: must end in the suffix of a picture format, e.g. .png, .jpg or .webp, got "
            f"{path.suffix!r}"
        )


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture; the suffix of the path says the format.

    Raises:
        UsageError: there is no such format, or the file cannot be written.
    """
    check_format(path)
    try:
        picture.save(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class _Scale:
    """How large pictures are shown: ``up`` or ``down`` times, one of them 1."""

    up: int
    down: int

    @classmethod
    def of(cls, side: int, cell: int | None) -> _Scale:
        if cell is None:
            return cls(max(1, math.ceil(_READABLE / side)), 1)
        return cls(max(1, cell // side), math.ceil(side / cell))

    @property
    def account(self) -> str:
        if self.up > 1:
            return f"Each pixel is shown as {self.up} x {self.up}."
        return f"Shown at 1/{self.down} of the size." if self.down > 1 else "Shown pixel by pixel."

    def shown(self, pixels: NDArray[np.uint8]) -> Image.Image:
        if self.down > 1:
            return Image.fromarray(pixels).reduce(self.down)
        return Image.fromarray(pixels.repeat(self.up, axis=0).repeat(self.up, axis=1))


def _groups(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        extra = name in SETS["extra-corruptions"]
        groups.setdefault("extra" if extra else CORRUPTIONS.get(name).family, []).append(name)
    return groups


def _row(
    image: NDArray[np.uint8], name: str, preset: str, seed: int, frost_dir: Path | None
) -> list[NDArray[np.uint8]]:
    conditions = [CLEAN, *(Condition(name, severity) for severity in SEVERITIES)]
    index = np.zeros(1, dtype=np.int64)
    return [
        corrupt_batch(image[None], c, preset=preset, seed=seed, index=index, frost_dir=frost_dir)[0]
        for c in conditions
    ]


def _frost(names: Sequence[str], frost_dir: Path | None) -> str:
    if "frost" not in names:
        return ""
    from shrinkproof.corruptions.frost import frost_source

    kind, _, which = frost_source(frost_dir).partition(":")
    if kind == "photos":
        return f"Frost from the original photos ({which}). "
    return f"Procedural frost (version {which}), not the published photos. "


def _label(name: str) -> str:
    return name.replace("_", " ").replace("jpeg", "JPEG")


def _drawn(
    rows: Mapping[str, Mapping[str, Sequence[NDArray[np.uint8]]]],
    scale: _Scale,
    notes: Sequence[str],
) -> Image.Image:
    font = ImageFont.load_default(_FONT)
    example = scale.shown(next(iter(next(iter(rows.values())).values()))[0])
    column, row = example.width + _GAP, example.height + _GAP
    width = 2 * _MARGIN + _LABELS + column * (1 + len(SEVERITIES))
    lines = [line for note in notes for line in _wrapped(note, font, width - 2 * _MARGIN)]
    count = sum(len(members) for members in rows.values())
    height = 2 * _MARGIN + 2 * _LINE + row * count + 2 * _LINE * len(rows) + _LINE * len(lines)

    page = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(page)
    left, top = _MARGIN + _LABELS, _MARGIN
    for number, head in enumerate(("clean", *(f"severity {s}" for s in SEVERITIES))):
        middle = left + number * column + example.width / 2
        pen.text((middle, top), head, _INK, font, anchor="ma")
    top += _LINE
    for group, members in rows.items():
        pen.text((_MARGIN, top + _LINE - 2), group.upper(), _FAINT, font, anchor="ls")
        pen.line((left, top + _LINE - 7, width - _MARGIN - _GAP, top + _LINE - 7), (215, 215, 215))
        top += _LINE + _GAP
        for name, pictures in members.items():
            middle = top + example.height / 2
            pen.text((_MARGIN, middle), _label(name), _INK, font, anchor="lm")
            for number, pixels in enumerate(pictures):
                page.paste(scale.shown(pixels), (left + number * column, top))
            top += row
        top += _GAP
    for line in lines:
        top += _LINE
        pen.text((_MARGIN, top), line, _FAINT, font, anchor="ls")
    return page.crop((0, 0, width, top + _MARGIN))


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> Iterator[str]:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    yield line
