"""The data part of a study: which images serve as which of the five splits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field

from shrinkproof.data.contamination import MEASURING, contamination, overlaps
from shrinkproof.data.division import divide, stratified
from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.metadata import attach
from shrinkproof.data.reading import load_images
from shrinkproof.errors import DataError
from shrinkproof.predictions import Objects
from shrinkproof.records import SPLITS
from shrinkproof.registry import Strings, component

__all__ = [
    "MEASURING",
    "DataField",
    "DataRef",
    "DataSpec",
    "SplitRule",
    "Splits",
    "contamination",
    "divide",
    "load_images",
    "load_splits",
    "overlaps",
]

Count = Annotated[int, Field(ge=1, json_schema_extra={"unit": "images"})]


def _as_share(value: Any) -> Any:
    if value == "rest" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"must be a number of images of at least 1, or 'rest', got {value!r}")


Share = Annotated[int | Literal["rest"], BeforeValidator(_as_share)]


@component
class DataRef:
    """One set of labeled images, and which of its columns matter.

    Attributes:
        use: data reference, ``scheme:rest``, for example ``digits`` or ``cifar10:test``.
        count: take a stratified subset of so many images; all of them if absent.
        metadata: CSV file with a column ``index`` or ``file`` and one row per image.
        group: column whose values are kept whole by splits (drive, scene, patient).
        slices: columns by whose values results are also reported (night, tunnel).
    """

    use: Annotated[str, Field(min_length=1)]
    count: Count | None = None
    metadata: str = ""
    group: str = ""
    slices: Strings = ()


def _as_ref(value: Any) -> Any:
    if isinstance(value, str):
        return DataRef(use=value)
    return _build(DataRef, value, "a reference such as 'digits', or a mapping with 'use'")


def _build(cls: type[Any], value: Any, rule: str) -> Any:
    """Build a nested component here: strict validation would accept instances only."""
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"must be {rule}, got {value!r}")
    return cls(**value)


DataField = Annotated[DataRef, BeforeValidator(_as_ref, json_schema_input_type=str | DataRef)]
"""A `DataRef`, or its ``use`` alone as a plain string."""


@component
class SplitRule:
    """How one set of images is divided into splits: by image hash, once.

    Sizes are counts of images; ``rest`` takes what the others leave and may appear once.

    Attributes:
        from_: the images to divide (``from`` in the study file).
        train: number of images to learn from.
        calibrate: number of images for observers and statistics.
        select: number of images for early stopping and for the choice.
        certify: number of images for the certificate.
        report: number of images for every printed number.
        seed: another seed, another division.
    """

    from_: Annotated[DataField, Field(alias="from")]
    train: Share | None = None
    calibrate: Share | None = None
    select: Share | None = None
    certify: Share | None = None
    report: Share | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @pydantic.model_validator(mode="after")
    def _check(self) -> SplitRule:
        sizes = self.sizes
        if not sizes:
            raise ValueError(
                "must give a size to at least one of " + ", ".join(SPLITS) + "; "
                "write for example 'report: rest'"
            )
        rests = [name for name, size in sizes.items() if size == "rest"]
        if len(rests) > 1:
            raise ValueError(f"'rest' may appear once, got it for {' and '.join(rests)}")
        return self

    @property
    def sizes(self) -> dict[str, int | Literal["rest"]]:
        """Requested size of each split that the rule makes, in the order of the splits."""
        wanted = {name: getattr(self, name) for name in SPLITS}
        return {name: size for name, size in wanted.items() if size is not None}


def _as_rule(value: Any) -> Any:
    return _build(SplitRule, value, "a mapping with 'from' and sizes")


def _as_batch(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"must be a number of images of at least 1, or 'auto', got {value!r}")


Batch = Annotated[int | Literal["auto"], BeforeValidator(_as_batch)]


@component
class DataSpec:
    """Which images serve as which split, and how they are read.

    Attributes:
        train: images to learn from.
        calibrate: images for observers and statistics.
        select: images for early stopping and for the choice.
        certify: images for the certificate.
        report: images for every printed number.
        split: divide one set into several of these instead.
        preset: constants of the corruptions, where the data source does not know them.
        frost: ``procedural``, or ``photos``: the original ones, from the root ``frost_dir``.
        jpeg85: save corrupted images as JPEG of quality 85, as the published files are.
        stored: read corrupted images from this set instead of making them.
        batch: images per inference batch; part of the identity of results. ``auto`` is a rule of
            the size of the images alone: 256, and fewer above 64 x 64 pixels.
    """

    train: DataField | None = None
    calibrate: DataField | None = None
    select: DataField | None = None
    certify: DataField | None = None
    report: DataField | None = None
    split: (
        Annotated[SplitRule, BeforeValidator(_as_rule, json_schema_input_type=SplitRule)] | None
    ) = None
    preset: str | None = None
    frost: Literal["procedural", "photos"] = "procedural"
    jpeg85: bool = False
    stored: str | None = None
    batch: Batch = "auto"

    @pydantic.model_validator(mode="after")
    def _check(self) -> DataSpec:
        if self.split is not None:
            twice = [name for name in self.split.sizes if getattr(self, name) is not None]
            if twice:
                raise ValueError(
                    f"each split may be given once, got {' and '.join(twice)} both by itself and "
                    f"under 'split'; remove one of the two"
                )
        idle = [name for name, given in self._making.items() if given]
        if self.stored is not None and idle:
            raise ValueError(
                f"'stored' must stand without {' and '.join(idle)}, which say how corrupted images "
                "are made, got both; remove one of the two"
            )
        if not self.names:
            raise ValueError(
                "must name at least one split; write for example "
                "'split: {from: digits, train: 1000, report: rest}'"
            )
        return self

    @property
    def _making(self) -> dict[str, bool]:
        """Whether each field about the making of corrupted images is given."""
        return {
            "preset": self.preset is not None,
            "frost": self.frost != "procedural",
            "jpeg85": self.jpeg85,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Splits that the study has, in their order."""
        made = self.split.sizes if self.split is not None else {}
        return tuple(n for n in SPLITS if n in made or getattr(self, n) is not None)

    @property
    def references(self) -> dict[str, str]:
        """Data reference of each part that names one: splits, and ``split.from``."""
        given = {name: getattr(self, name) for name in SPLITS}
        found = {name: ref.use for name, ref in given.items() if ref is not None}
        return found if self.split is None else {**found, "split.from": self.split.from_.use}


@dataclass(frozen=True, slots=True)
class Splits:
    """The images of each split, and what a reader must know about them.

    Attributes:
        sets: split -> images.
        notes: caveats, one sentence each, for example that a split is a subset.
    """

    sets: Mapping[str, ImageSet]
    notes: tuple[str, ...] = ()


def load_splits(
    spec: DataSpec,
    *,
    roots: Mapping[str, Path],
    limit: int | None = None,
    wanted: Collection[str] | None = None,
) -> Splits:
    """Return the images of each split of a study.

    Every reference is read once. Subsets (``count`` and ``limit``) are deterministic, and
    stratified where each image has one class; each one is stated in the notes, as is what a source
    says about how it was read.

    Args:
        spec: the data part of the study.
        roots: named places the user gave for data; ``study`` is the folder of the study file.
        limit: at most so many images for select, certify and report; train and calibrate are
            never shortened.
        wanted: splits to load; all of the study's if absent.

    Raises:
        DataError: a split is missing or empty, images cannot be read, or the splits differ in
            classes or image size.
        UnknownNameError: the scheme of a reference is not registered.
    """
    names = spec.names if wanted is None else tuple(n for n in SPLITS if n in wanted)
    _check_names(spec, names, wanted, limit)
    notes: list[str] = []
    read: dict[DataRef, ImageSet] = {}
    divided: dict[str, ImageSet] = {}
    if spec.split is not None and any(n in spec.split.sizes for n in names):
        whole = _load(spec.split.from_, roots, read, notes, label="split.from")
        divided = divide(whole, spec.split)
        notes += _division_notes(whole, spec.split, divided)
    sets: dict[str, ImageSet] = {}
    for name in names:
        if name in divided:
            images = divided[name]
        else:
            images = _load(getattr(spec, name), roots, read, notes, label=name)
        if limit is not None and name in MEASURING and limit < len(images):
            notes.append(_subset_note(name, limit, images))
            images = stratified(images, limit)
        sets[name] = images
    _check_agreement(sets)
    return Splits(sets, tuple(notes))


def _check_names(
    spec: DataSpec, names: tuple[str, ...], wanted: Collection[str] | None, limit: int | None
) -> None:
    if limit is not None and limit < 1:
        raise DataError(f"limit must be at least 1 image, got {limit}")
    unknown = sorted(set(wanted or ()) - set(SPLITS))
    if unknown:
        raise DataError(f"splits are {', '.join(SPLITS)}; got {', '.join(unknown)}")
    missing = [name for name in names if name not in spec.names]
    if missing:
        raise DataError(
            f"data.{missing[0]} is needed but the study does not give it (it gives "
            f"{', '.join(spec.names)}); add '{missing[0]}:' under 'data' or under 'data.split'"
        )


def _load(
    ref: DataRef,
    roots: Mapping[str, Path],
    read: dict[DataRef, ImageSet],
    notes: list[str],
    *,
    label: str,
) -> ImageSet:
    plain = DataRef(use=ref.use)
    if plain not in read:
        read[plain] = load_images(ref.use, roots)
        notes += [f"{ref.use}: {note}" for note in read[plain].notes]
    images = attach(read[plain], ref, roots)
    if not len(images):
        raise DataError(f"data.{label}: {ref.use} must hold at least 1 image, got none")
    if ref.count is None or ref.count == len(images):
        return images
    if ref.count > len(images):
        raise DataError(
            f"data.{label}: count must be at most the {len(images)} images of {ref.use}, "
            f"got {ref.count}; lower it"
        )
    notes.append(_subset_note(label, ref.count, images))
    return stratified(images, ref.count)


def _subset_note(label: str, count: int, images: ImageSet) -> str:
    kind = "subset" if isinstance(images.target, Objects) else "stratified subset"
    return f"{label}: {kind} of {count} of {len(images)} images"


def _division_notes(whole: ImageSet, rule: SplitRule, divided: Mapping[str, ImageSet]) -> list[str]:
    notes = [
        f"{name}: {len(divided[name])} images instead of {size}, because groups and identical "
        f"images are kept whole"
        for name, size in rule.sizes.items()
        if size not in ("rest", len(divided[name]))
    ]
    unused = len(whole) - sum(map(len, divided.values()))
    if unused:
        notes.append(f"split: {unused} of {len(whole)} images of {whole.source} are in no split")
    return notes


def _check_agreement(sets: Mapping[str, ImageSet]) -> None:
    first_name, *others = sets or [""]
    for name in others:
        first, other = sets[first_name], sets[name]
        if other.classes != first.classes:
            raise DataError(
                f"all splits must have the same classes in the same order; data.{first_name} has "
                f"{len(first.classes)} ({_few(first.classes)}), data.{name} has "
                f"{len(other.classes)} ({_few(other.classes)})"
            )
        kinds = {isinstance(images.target, Objects) for images in (first, other)}
        if len(kinds) > 1:
            raise DataError(
                f"all splits must be of one kind; of data.{first_name} and data.{name} one has "
                "annotated boxes and the other one class for each image"
            )
        if other.shape != first.shape and kinds == {False}:
            raise DataError(
                f"all splits must have one image size; data.{first_name} has "
                f"{first.one_shape[0]} x {first.one_shape[1]} pixels, data.{name} has "
                f"{other.one_shape[0]} x {other.one_shape[1]}"
            )


def _few(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:4]) + (", ..." if len(classes) > 4 else "")
