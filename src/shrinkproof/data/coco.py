"""Image files with the boxes of one annotation file in COCO format."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.boxes import Annotated, Listed, boxed_images, settings_of
from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import locate, require
from shrinkproof.errors import DataError
from shrinkproof.registry import component

_PARTS: Final = ("images", "annotations", "categories")
_STANDARD: Final = (
    *("id", "file_name", "width", "height", "license"),
    *("flickr_url", "coco_url", "date_captured"),
)
"""What COCO says of every image; anything else is a column."""


@component
class Coco:
    """Image files with the boxes of a COCO annotation file.

    Reference ``coco:ANNOTATIONS.json``; a relative path starts from the folder of the study file.
    Settings follow a question mark and are joined by ``&``:

    * ``images=FOLDER``: where the files are; the folder ``images`` beside the annotations if there
      is one, else the folder of the annotations.
    * ``where=COLUMN=VALUE`` or ``where=COLUMN=VALUE,VALUE``: take only images with one of the
      values in a column of ``images``, for example ``where=split=val``. Several must all hold.

    Classes are all categories in the order of their ids, whether or not they occur. Images are in
    the order of the file. Whatever the file says of an image beyond the COCO standard is a column
    that ``group`` and ``slices`` may name; values that are no text are written as JSON, and
    lists and mappings are passed over.

    Boxes: ``x, y, width, height`` become edges; those that reach outside their image are clipped,
    those without area are left out, and notes count both. An image without boxes stays. The area
    is the annotated one, of the box where there is none.

    Pixels: RGB by Pillow, without regard to EXIF orientation: width and height must be those that
    the annotations state. Hashes are those of the files.
    """

    name: ClassVar[str] = "coco"
    version: ClassVar[int] = 1

    def present(self, rest: str, roots: Mapping[str, Path]) -> None:
        """Check that annotations and images exist.

        Raises:
            DataError: the file or the folder is missing, or a setting is wrong.
        """
        reference = _Reference.of(rest, roots)
        require(reference.path)
        require(reference.folder)

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Return the images with their objects; headers are read now, pixels later.

        Raises:
            DataError: annotations or image files are missing, damaged or contradict each other.
        """
        reference = _Reference.of(rest, roots)
        path = reference.path
        found = _read(path)
        label_of, classes = _classes(path, found["categories"])
        position_of = _identified(path, "images", found["images"])
        columns = _columns(found["images"])
        chosen = _chosen(reference, columns, len(position_of))
        place_of = {number: place for place, number in enumerate(chosen.tolist())}
        annotated = Annotated()
        _identified(path, "annotations", found["annotations"])
        for entry in found["annotations"]:
            position = _known(path, entry, "image_id", position_of, "listed images")
            label = _known(path, entry, "category_id", label_of, "categories")
            box = _box(path, entry)
            crowd = _crowd(path, entry)
            if position in place_of:
                area = _area(path, entry)
                annotated.add(place_of[position], box, label, crowd=crowd, area=area)
        listed = [_listed(path, found["images"][number]) for number in chosen.tolist()]
        return boxed_images(
            reference.source,
            reference.folder,
            listed,
            annotated,
            classes,
            columns={name: values[chosen] for name, values in columns.items()},
        )


@dataclass(frozen=True, slots=True)
class _Reference:
    """A data reference taken apart.

    Attributes:
        source: the whole reference.
        path: the annotation file.
        folder: where the image files are.
        where: column -> values, of which an image must have one.
    """

    source: str
    path: Path
    folder: Path
    where: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, rest: str, roots: Mapping[str, Path]) -> _Reference:
        text, _, query = rest.partition("?")
        source = f"coco:{rest}"
        if not text:
            raise DataError("data reference must be 'coco:ANNOTATIONS.json', got no path")
        path = locate(text, roots)
        settings = settings_of(source, query, ("images", "where"), several=("where",))
        where = []
        for condition in settings.get("where", []):
            column, _, values = condition.partition("=")
            if not column or not values:
                raise DataError(
                    f"{source}: where must be COLUMN=VALUE, for example 'where=split=val', got "
                    f"{condition!r}"
                )
            where.append((column, tuple(values.split(","))))
        beside = path.parent / "images"
        folder = beside if beside.is_dir() else path.parent
        if "images" in settings:
            folder = locate(settings["images"][0], roots)
        return cls(source, path, folder, tuple(where))


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the three lists of the file."""
    require(path)
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: must be a readable JSON file: {error}") from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path}: must be a mapping with {', '.join(_PARTS)}, got a {type(found).__name__}; "
            "a file of detections is no file of annotations"
        )
    for part in _PARTS:
        entries = found.get(part)
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise DataError(
                f"{path}: {part!r} must be a list of mappings, got "
                f"{type(entries).__name__ if part in found else 'nothing'}; is this a file of "
                "boxes in COCO format?"
            )
    if not found["images"]:
        raise DataError(f"{path}: 'images' must list at least 1 image, got none")
    return {part: found[part] for part in _PARTS}


def _identified(
    path: Path, part: str, entries: Sequence[Mapping[str, Any]]
) -> dict[int | str, int]:
    """Return the position of each id."""
    found: dict[int | str, int] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id")
        if not isinstance(number, (int, str)):
            raise DataError(
                f"{path}: {part} must each have an id, a whole number or a text, got {number!r} "
                f"at position {position}"
            )
        if number in found:
            raise DataError(
                f"{path}: ids of {part} must differ, got {number!r} at positions "
                f"{found[number]} and {position}"
            )
        found[number] = position
    return found


def _classes(
    path: Path, categories: Sequence[Mapping[str, Any]]
) -> tuple[dict[int | str, int], tuple[str, ...]]:
    """Return the label of each category id, and the names of the classes."""
    position_of = _identified(path, "categories", categories)
    kinds = {type(number) for number in position_of}
    if len(kinds) != 1:
        raise DataError(
            f"{path}: categories must have ids of one type, got "
            f"{' and '.join(sorted(kind.__name__ for kind in kinds)) or 'no categories'}"
        )
    ids = sorted(position_of, key=lambda number: (str(number) if str in kinds else "", number))
    names = [categories[position_of[number]].get("name") for number in ids]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise DataError(f"{path}: categories must have different names, got {names}")
    return {number: label for label, number in enumerate(ids)}, tuple(map(str, names))


def _columns(images: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.str_]]:
    """Return what the file says of each image beyond the standard; empty where it says nothing."""
    names = {name: None for image in images for name in image if name not in _STANDARD}
    found = {}
    for name in names:
        values = [image.get(name, "") for image in images]
        if not any(isinstance(value, (list, dict)) for value in values):
            texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
            found[name] = np.array(texts, dtype=np.str_)
    return found


def _chosen(
    reference: _Reference, columns: Mapping[str, NDArray[np.str_]], count: int
) -> NDArray[np.int64]:
    """Return the positions of the images for which every condition holds."""
    keep = np.ones(count, dtype=np.bool_)
    for name, values in reference.where:
        if name not in columns:
            raise DataError(
                f"{reference.source}: where must name a column of 'images', which has "
                f"{', '.join(sorted(columns)) or 'none'}, got {name!r}"
            )
        unknown = sorted(set(values) - set(columns[name].tolist()))
        if unknown:
            present = sorted(set(columns[name].tolist()))
            raise DataError(
                f"{reference.source}: values of {name!r} must be of "
                f"{', '.join(present[:8])}{', ...' if len(present) > 8 else ''}, got "
                f"{', '.join(unknown)}"
            )
        keep &= np.isin(columns[name], values)
    if not keep.any():
        raise DataError(f"{reference.source}: where must leave at least 1 image, got none")
    return np.flatnonzero(keep)


def _known(
    path: Path, entry: Mapping[str, Any], name: str, known: Mapping[int | str, int], what: str
) -> int:
    """Return the position of what an annotation refers to."""
    number = entry.get(name)
    if not isinstance(number, (int, str)) or number not in known:
        ids = [repr(each) for each in list(known)[:8]]
        raise DataError(
            f"{path}: annotation {entry['id']!r}: {name} must be one of the {len(known)} {what} "
            f"({', '.join(ids)}{', ...' if len(known) > 8 else ''}), got {number!r}"
        )
    return known[number]


def _is_number(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # a whole number beyond every float


def _box(path: Path, entry: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return the edges of a box."""
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise DataError(
            f"{path}: annotation {entry['id']!r}: bbox must be 4 finite numbers, x, y, width and "
            f"height in pixels, got {box!r}"
        )
    left, top, width, height = box
    return left, top, left + width, top + height


def _crowd(path: Path, entry: Mapping[str, Any]) -> bool:
    flag = entry.get("iscrowd", 0)
    if flag not in (0, 1):
        raise DataError(f"{path}: annotation {entry['id']!r}: iscrowd must be 0 or 1, got {flag!r}")
    return bool(flag)


def _area(path: Path, entry: Mapping[str, Any]) -> float | None:
    area = entry.get("area")
    if area is None:
        return None
    if not _is_number(area) or area < 0:
        raise DataError(
            f"{path}: annotation {entry['id']!r}: area must be square pixels of at least 0, got "
            f"{area!r}"
        )
    return float(area)


def _listed(path: Path, image: Mapping[str, Any]) -> Listed:
    name, height, width = image.get("file_name"), image.get("height"), image.get("width")
    if not isinstance(name, str) or not name:
        raise DataError(f"{path}: image {image['id']!r}: file_name must be a text, got {name!r}")
    if height is None and width is None:
        return Listed(name, None)
    if not (type(height) is int and type(width) is int and min(height, width) >= 1):
        raise DataError(
            f"{path}: image {image['id']!r}: height and width must be whole numbers of pixels of "
            f"at least 1, got {height!r} and {width!r}"
        )
    return Listed(name, (height, width))
