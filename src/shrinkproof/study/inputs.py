"""What a study reads: its file, its data divided into splits, its model references."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from shrinkproof.corruptions.presets import PRESETS, check_jpeg85, check_preset
from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import check_present
from shrinkproof.data.splits import Splits, contamination, load_images, load_splits
from shrinkproof.errors import DataError, ShrinkproofError, SpecError
from shrinkproof.evaluators.world import Generated, Stored, World
from shrinkproof.models.reference import fingerprint
from shrinkproof.records import SPLITS, Json
from shrinkproof.spec import StudySpec, load_study_spec
from shrinkproof.spec.inference import auto_batch
from shrinkproof.spec.scales import with_scale
from shrinkproof.stored import open_stored

KNOWN_ROOTS: Final = ("cifar10", "cifar100", "frost_dir", "weights")
"""Places that built-in references are looked up in; each may be set by an environment variable."""


@dataclass(frozen=True)
class Inputs:
    """A study file with everything it reads.

    Attributes:
        text: the study file.
        folder: the folder that relative paths in it start from.
        roots: named places that the user gave for data and weights.
        limit: evaluate on at most so many images per measuring split; None for all.
        filename: name of the file, for messages.
    """

    text: str
    folder: Path
    roots: Mapping[str, Path] = field(default_factory=dict)
    limit: int | None = None
    filename: str = "study.yaml"

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        roots: Mapping[str, Path] | None = None,
        limit: int | None = None,
        scale: str | None = None,
    ) -> Inputs:
        """Return the inputs of a study file on disk, at a scale where one is chosen.

        Raises:
            SpecError: the file cannot be read.
        """
        text = _read(path)
        return cls(
            text=text if scale is None else with_scale(text, scale),
            folder=path.resolve().parent,
            roots={**roots_of_environment(), **(roots or {})},
            limit=limit,
            filename=str(path),
        )

    def as_json(self) -> Json:
        """Return plain JSON values: what a worker needs to load the same inputs."""
        return {
            "text": self.text,
            "folder": str(self.folder),
            "roots": {name: str(path) for name, path in self.roots.items()},
            "limit": self.limit,
            "filename": self.filename,
        }

    @classmethod
    def from_json(cls, value: Json) -> Inputs:
        """Return the inputs that `as_json` described."""
        return cls(
            text=value["text"],
            folder=Path(value["folder"]),
            roots={name: Path(path) for name, path in value["roots"].items()},
            limit=value["limit"],
            filename=value["filename"],
        )

    @cached_property
    def spec(self) -> StudySpec:
        """The checked study file."""
        return load_study_spec(self.text, filename=self.filename)

    @cached_property
    def places(self) -> dict[str, Path]:
        """The roots, and the folder of the study file under the name ``study``."""
        return {**self.roots, "study": self.folder}

    def check_present(self) -> None:
        """Check cheaply that the data and model files are there; nothing but models is read.

        Raises:
            SpecError: what is missing, one line each.
        """
        problems = []
        for name, reference in self.spec.data.references.items():
            try:
                check_present(reference, self.places)
            except ShrinkproofError as error:
                problems.append(f"{self.filename}: data.{name}: {error}")
        try:
            self._check_world()
        except ShrinkproofError as error:
            problems.append(f"{self.filename}: data: {error}")
        for name in self.spec.models:
            try:
                self.fingerprint(name)
            except ShrinkproofError as error:
                problems.append(f"{self.filename}: models.{name}: {error}")
        if problems:
            raise SpecError(problems)

    def splits(self, wanted: Collection[str] | None = None) -> Splits:
        """Return the wanted parts of the data, or all there are, in the study's subset."""
        return load_splits(self.spec.data, roots=self.places, limit=self.limit, wanted=wanted)

    def batch_of(self, images: ImageSet) -> int:
        """Return how many of some images networks are given at a time, if they fit into memory."""
        batch = self.spec.data.batch
        if batch != "auto":
            return batch
        return auto_batch(images.pixels, self.spec.measure.inference.device)

    def preset(self, images: ImageSet) -> str:
        """Return the corruption constants for some images.

        Raises:
            DataError: neither the study nor the data source names them.
        """
        preset = self.spec.data.preset or images.preset
        if not preset:
            raise DataError(
                f"data.preset: {images.source} does not say which corruption constants fit its "
                f"images; write one of {', '.join(PRESETS)} in the study file"
            )
        check_preset(preset)
        return preset

    def world(self, images: ImageSet) -> World:
        """Return what shows images under corrupted conditions.

        Raises:
            DataError: the study lacks the preset or the photos, or names a set that is not there.
            UsageError: ``jpeg85`` does not belong to the preset.
        """
        data = self.spec.data
        if data.stored is not None:
            return Stored(open_stored(data.stored, self.places))
        preset = self.preset(images)
        if data.jpeg85:
            check_jpeg85(preset)
        return Generated(preset, self.spec.seed, self._frost_dir(), data.jpeg85)

    def _check_world(self) -> None:
        """Check that the frost photos or the stored set are where they are looked for."""
        data = self.spec.data
        if data.stored is not None:
            open_stored(data.stored, self.places)
            return
        if data.frost == "photos":
            from shrinkproof.corruptions.frost import frost_source

            frost_source(self._frost_dir())
        if data.jpeg85 and data.preset is not None:
            check_jpeg85(data.preset)

    def _frost_dir(self) -> Path | None:
        if self.spec.data.frost == "procedural":
            return None
        folder = self.places.get("frost_dir")
        if folder is None:
            raise DataError(
                "data.frost: photos must be read from a folder, got none; give it as "
                "'--root frost_dir=DIR' or SHRINKPROOF_FROST_DIR, or write 'frost: procedural'"
            )
        return folder

    def fingerprint(self, model: str) -> str:
        """Return the identity of a model of the study; torch is not imported."""
        return fingerprint(self.spec.models[model], self.places)

    def contamination(self, model: str, sets: Mapping[str, ImageSet]) -> dict[str, str]:
        """Return why numbers on a split cannot be trusted for a model, by split.

        Raises:
            DataError: what the model has seen is a split that the study does not give, or data
                that cannot be read.
        """
        seen = self.spec.models[model].seen
        if seen is None:
            return contamination(sets, None)
        absent = [reference for reference in seen if reference in SPLITS and reference not in sets]
        if absent:
            raise DataError(
                f"models.{model}.seen: must name a split of this study or a data reference, got "
                f"{absent[0]!r}, which the study does not give; write for example 'cifar10:train'"
            )
        known = [
            sets[reference] if reference in sets else load_images(reference, self.places)
            for reference in seen
        ]
        return contamination(sets, known)


def roots_of_environment() -> dict[str, Path]:
    """Return the known places that environment variables name."""
    found = {}
    for name in KNOWN_ROOTS:
        value = os.environ.get(f"SHRINKPROOF_{name.upper()}")
        if value:
            found[name] = Path(value)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise SpecError([f"{path}: cannot be read ({error.strerror or error})"]) from error
    except UnicodeDecodeError as error:
        raise SpecError([f"{path}: is not UTF-8 text ({error})"]) from error
