"""Image files with boxes in the layout of the Pascal VOC challenges."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final
from xml.etree import ElementTree

from shrinkproof.data.boxes import Annotated, Listed, boxed_images, settings_of
from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import locate, require
from shrinkproof.errors import DataError
from shrinkproof.registry import component

_EDGES: Final = ("xmin", "ymin", "xmax", "ymax")
_CHOICES: Final = {"difficult": ("ignore", "count"), "origin": ("1", "0")}
"""The settings with few values; the first one is taken if none is given."""


@component
class Voc:
    """Image files with boxes in the layout of Pascal VOC.

    Reference ``voc:FOLDER``; a relative path starts from the folder of the study file. The folder
    holds ``Annotations/NAME.xml`` and ``JPEGImages/NAME.jpg`` (or another kind of image file).
    Settings follow a question mark and are joined by ``&``:

    * ``set=val``: the names in ``ImageSets/Main/val.txt``, one per line, in that order; without it
      all annotations in the order of their names.
    * ``classes=cat,dog``: the classes in this order; without it all that occur in any annotation
      of the folder, sorted, whichever set is read.
    * ``difficult=ignore`` or ``difficult=count``: what becomes of objects marked as difficult.
    * ``origin=1`` or ``origin=0``: how corners are counted.

    Difficult objects are neither expected nor wrong in VOC. Here they become crowd regions, which
    are never missed and are not learned from. The rule differs a little: a detection is ignored if
    enough of it lies inside the region, where VOC asks for their intersection over union, so that
    detections of a part are ignored as well. ``count`` takes them as any other object.

    VOC counts pixels from 1 and both corners lie inside the box: ``xmin`` 1 and ``xmax`` W span an
    image of width W, so the edges are ``xmin - 1`` and ``xmax``. Other tools write edges from 0
    into the same files, which ``origin=0`` takes as they are.

    Boxes that reach outside their image are clipped, those without area are left out, and notes
    count both. Pixels: RGB by Pillow, without regard to EXIF orientation. Hashes are those of the
    image files.
    """

    name: ClassVar[str] = "voc"
    version: ClassVar[int] = 1

    def present(self, rest: str, roots: Mapping[str, Path]) -> None:
        """Check that the folder exists.

        Raises:
            DataError: it does not, or a setting is wrong.
        """
        require(_Reference.of(rest, roots).folder)

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Return the images with their objects; headers are read now, pixels later.

        Raises:
            DataError: annotations or image files are missing, damaged or contradict each other.
        """
        reference = _Reference.of(rest, roots)
        names = _names(reference)
        file_of = _files(reference.folder / "JPEGImages")
        absent = [name for name in names if name not in file_of]
        if absent:
            raise DataError(
                f"{reference.source}: every annotation must have an image file of its name in "
                f"JPEGImages, but {len(absent)} of {len(names)} have none, the first is "
                f"{absent[0]}; copy them there"
            )
        trees = {name: _parsed(reference.annotation(name)) for name in names}
        classes = reference.classes or _classes(reference, trees)
        annotated, listed, difficult = Annotated(), [], 0
        for position, (name, tree) in enumerate(trees.items()):
            path = reference.annotation(name)
            listed.append(Listed(file_of[name], _size(path, tree)))
            for entry in tree.findall("object"):
                label = _label(path, entry, classes)
                is_difficult = reference.ignores and _flag(path, entry, "difficult")
                difficult += is_difficult
                box = _box(path, entry, reference.origin)
                annotated.add(position, box, label, crowd=is_difficult, area=None)
        note = f"{difficult} objects marked as difficult count as crowd regions"
        return boxed_images(
            reference.source,
            reference.folder / "JPEGImages",
            listed,
            annotated,
            classes,
            notes=(note,) if difficult else (),
        )


@dataclass(frozen=True, slots=True)
class _Reference:
    """A data reference taken apart.

    Attributes:
        source: the whole reference.
        folder: the one with ``Annotations`` in it.
        chosen: name of the set of images, empty for all of them.
        classes: their names, empty where the annotations decide.
        ignores: whether difficult objects become crowd regions.
        origin: number of the first pixel.
    """

    source: str
    folder: Path
    chosen: str
    classes: tuple[str, ...]
    ignores: bool
    origin: int

    @classmethod
    def of(cls, rest: str, roots: Mapping[str, Path]) -> _Reference:
        text, _, query = rest.partition("?")
        source = f"voc:{rest}"
        if not text:
            raise DataError("data reference must be 'voc:FOLDER', got no path")
        settings = settings_of(source, query, ("set", "classes", *_CHOICES))
        found = {name: values[0] for name, values in settings.items()}
        for name, choices in _CHOICES.items():
            if found.setdefault(name, choices[0]) not in choices:
                raise DataError(
                    f"{source}: {name} must be {' or '.join(choices)}, got {found[name]!r}"
                )
        classes = tuple(found["classes"].split(",")) if "classes" in found else ()
        if len(set(classes)) != len(classes) or not all(classes):
            raise DataError(f"{source}: classes must be different names, got {found['classes']!r}")
        return cls(
            source,
            locate(text, roots),
            found.get("set", ""),
            classes,
            found["difficult"] == "ignore",
            int(found["origin"]),
        )

    def annotation(self, name: str) -> Path:
        return self.folder / "Annotations" / f"{name}.xml"


class _Plain(ElementTree.TreeBuilder):
    """A tree without document type, so that no entity can be declared and multiply."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        del pubid, system
        raise ValueError(f"a document type must not be declared, got {name!r}; remove it")


def _parsed(path: Path) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_Plain())
    try:
        parser.feed(path.read_bytes())
        tree = parser.close()
    except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
        raise DataError(f"{path}: must be a readable XML file: {error}") from error
    if tree.tag != "annotation":
        raise DataError(
            f"{path}: must be an <annotation> as Pascal VOC writes it, got <{tree.tag}>; remove "
            "the file or correct it"
        )
    return tree


def _names(reference: _Reference) -> list[str]:
    """Return the names of the images, in order."""
    folder = reference.folder / "Annotations"
    require(folder)
    present = sorted(path.stem for path in folder.glob("*.xml") if not path.name.startswith("."))
    if not reference.chosen:
        if not present:
            raise DataError(f"{folder}: must hold at least 1 annotation, got none")
        return present
    path = reference.folder / "ImageSets" / "Main" / f"{reference.chosen}.txt"
    require(path)
    try:
        names = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: must be a readable text file: {error}") from error
    problem = _problem(names, set(present))
    if problem:
        raise DataError(
            f"{path}: must hold different names of annotations, one per line, got {problem}"
        )
    return names


def _problem(names: Sequence[str], known: Collection[str]) -> str:
    """Return what is wrong with the names of a set, empty for nothing."""
    if not names:
        return "none"
    absent = [name for name in names if name not in known]
    if absent:
        return f"{absent[0]!r}, which has no annotation"
    return "" if len(set(names)) == len(names) else "repetitions"


def _files(folder: Path) -> dict[str, str]:
    """Return the file of each name."""
    require(folder)
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise DataError(
                f"{folder}: each name must have one image file, got {found[path.stem]} and "
                f"{path.name}; remove one"
            )
        found[path.stem] = path.name
    return found


def _classes(reference: _Reference, trees: Mapping[str, ElementTree.Element]) -> tuple[str, ...]:
    """Return the classes of all annotations of the folder, so that all sets have the same."""
    found = {_text(entry, "name") for tree in trees.values() for entry in tree.findall("object")}
    for path in (reference.folder / "Annotations").glob("*.xml"):
        if path.stem not in trees and not path.name.startswith("."):
            found |= {_text(entry, "name") for entry in _parsed(path).findall("object")}
    names = tuple(sorted(found - {""}))
    if not names:
        raise DataError(
            f"{reference.source}: annotations must name at least 1 class, got none; give them "
            "with '?classes=cat,dog'"
        )
    return names


def _text(entry: ElementTree.Element, name: str) -> str:
    return (entry.findtext(name) or "").strip()


def _label(path: Path, entry: ElementTree.Element, classes: Sequence[str]) -> int:
    name = _text(entry, "name")
    if name not in classes:
        raise DataError(
            f"{path}: name of an object must be one of {', '.join(classes)}, got {name!r}"
        )
    return classes.index(name)


def _flag(path: Path, entry: ElementTree.Element, name: str) -> bool:
    text = _text(entry, name) or "0"
    if text not in ("0", "1"):
        raise DataError(f"{path}: {name} must be 0 or 1, got {text!r}")
    return text == "1"


def _box(path: Path, entry: ElementTree.Element, origin: int) -> tuple[float, float, float, float]:
    """Return the edges of a box."""
    texts = {name: _text(entry, f"bndbox/{name}") for name in _EDGES}
    try:
        left, top, right, bottom = map(float, texts.values())
    except ValueError:
        left = top = right = bottom = math.nan
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise DataError(
            f"{path}: bndbox must have finite numbers {', '.join(_EDGES)}, got "
            f"{', '.join(text or 'nothing' for text in texts.values())}"
        )
    return left - origin, top - origin, right, bottom


def _size(path: Path, tree: ElementTree.Element) -> tuple[int, int] | None:
    """Return (H, W) as annotated; None where nothing is stated."""
    if tree.find("size") is None:
        return None
    texts = _text(tree, "size/height"), _text(tree, "size/width")
    if not all(text.isdecimal() and int(text) for text in texts):
        raise DataError(
            f"{path}: size must have a height and a width of at least 1 pixel, got "
            f"{' and '.join(text or 'nothing' for text in texts)}; correct or remove it"
        )
    return int(texts[0]), int(texts[1])
