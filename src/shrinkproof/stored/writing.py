"""Write a corrupted set in the format of the published ones; killed, it goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from shrinkproof.atomic import explained, replace_file, sync_folder
from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.apply import create
from shrinkproof.corruptions.frost import frost_source
from shrinkproof.corruptions.presets import (
    PRESETS,
    SETS,
    STORED_QUALITY,
    check_preset,
    preset_warning,
)
from shrinkproof.data.imageset import ImageSet
from shrinkproof.engines.inline import Inline
from shrinkproof.errors import DataError, StoreError, UnknownNameError, UsageError
from shrinkproof.protocols import Engine
from shrinkproof.records import SEVERITIES, STANDARD_15, Condition, Failure, Json
from shrinkproof.stored.arrays import LABELS
from shrinkproof.stored.formats import (
    ArrayFormat,
    Piece,
    TreeFormat,
    format_for,
    reserve,
)
from shrinkproof.stored.manifest import FORM, continued, write_manifest
from shrinkproof.stored.work import CLEAN, PLAN, Unit, forget_workplace, make

_PARTIAL: Final = ".partial"
_JOURNAL: Final = "done.jsonl"
_VALUES: Final = 2**23
"""Values of a unit: about a second of work, so that little is lost with it."""


class Progress(Protocol):
    """Somebody who wants to know how far the work is."""

    def begin(self, stage: str, total: int) -> None:
        """Tell that a stage with so many pieces of work starts."""
        ...

    def advance(self, label: str) -> None:
        """Tell that one piece of work of the stage is done."""
        ...

    def end(self, stage: str, seconds: float) -> None:
        """Tell that a stage is over."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a folder holds now.

    Attributes:
        folder: the set.
        format: ``cifar-c`` or ``imagenet-c``; with the folder the reference to read it by.
        files: what is complete: name of a file, or of the folder of a condition -> SHA-256 (of a
            folder, that of its listing).
        caveats: what a reader of the set must know, one sentence each.
        failures: condition -> why it could not be made; empty if all is there.
    """

    folder: Path
    format: str
    files: Mapping[str, str]
    caveats: tuple[str, ...]
    failures: Mapping[str, Failure] = field(default_factory=dict)


def write_corrupted_set(
    images: ImageSet,
    folder: Path,
    *,
    corruptions: Sequence[str] = STANDARD_15,
    severities: Sequence[int] = SEVERITIES,
    preset: str = "",
    seed: int = 0,
    frost_dir: Path | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write images under corruptions in the format of the published sets.

    Images from files with names become folders ``corruption/severity/class`` of JPEG files of
    quality 85 (``imagenet-c``), all others one array per corruption with all five severities and
    ``labels.npy`` (``cifar-c``). ``manifest.json`` says what the set is made of.

    A file or folder appears under its name when it is complete. After any accident the same call
    goes on and writes the same bytes; it also adds corruptions, and severities to folders.

    Args:
        images: all images of a source.
        folder: empty, absent, or with such a set that is to be completed.
        corruptions: names of corruptions, or of sets of them.
        severities: 1 to 5, each once.
        preset: whose constants to use; needed where the images do not know theirs.
        seed: root of the randomness.
        frost_dir: folder with the original frost photos; without it frost is procedural.
        engine: where the work happens; in this process if absent.
        progress: who is told.

    Returns:
        What the folder holds. A corruption that fails costs the others nothing.

    Raises:
        DataError: the images are a part of their source only, or know no preset.
        UnknownNameError: a corruption or the preset is not known.
        UsageError: the severities do not go into the format, or the folder holds another set.
        StoreError: the folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    names = _expanded(corruptions)
    levels = _checked(severities)
    preset = preset or images.preset
    _check_images(images, preset)
    for name in names:
        create(name, frost_dir)
    chosen = format_for(images)
    pieces = chosen.pieces(names, levels)
    wanted = _manifest(images, chosen, names, levels, preset, seed, frost_dir)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        manifest = continued(folder, wanted)
    writer = _Writer(images, folder, chosen, manifest, frost_dir, progress)
    failures = writer.write(pieces, engine or Inline())
    return Written(
        folder, chosen.name, dict(manifest["files"]), tuple(manifest["caveats"]), failures
    )


def _expanded(corruptions: Sequence[str]) -> tuple[str, ...]:
    """Return names of corruptions for names of corruptions and of sets, each once."""
    found = [name for given in corruptions for name in SETS.get(given, (given,))]
    for name in found:
        if name not in CORRUPTIONS:
            raise UnknownNameError("corruption", name, [*CORRUPTIONS.names(), *SETS])
        if "/" in name:
            raise UsageError(
                f"the name of a corruption must be fit for a file, got {name!r}, which two "
                f"packages claim; uninstall one"
            )
    if not found:
        raise UsageError("a set must have at least 1 corruption, got none")
    return tuple(dict.fromkeys(found))


def _checked(severities: Sequence[int]) -> tuple[int, ...]:
    levels = tuple(sorted(severities))
    if not levels or len(set(levels)) != len(levels) or not set(levels) <= set(SEVERITIES):
        raise UsageError(
            f"severities must be of 1 to 5, each once, got {', '.join(map(str, severities))}"
        )
    return levels


def _check_images(images: ImageSet, preset: str) -> None:
    whole = np.arange(images.total, dtype=np.int64)
    if not len(images) or not np.array_equal(images.index, whole):
        raise DataError(
            f"{images.source}: a set must be made of all {images.total} images of a source in "
            f"their order, since it is paired with them again, got {len(images)}"
        )
    if not preset:
        raise DataError(
            f"{images.source} does not say which corruption constants fit its images; choose a "
            f"preset: {', '.join(PRESETS)}"
        )
    check_preset(preset)


def _manifest(
    images: ImageSet,
    chosen: ArrayFormat | TreeFormat,
    names: Sequence[str],
    levels: Sequence[int],
    preset: str,
    seed: int,
    frost_dir: Path | None,
) -> Json:
    import cv2

    from shrinkproof import __version__

    files = "\n".join(images.files.tolist()) if images.files is not None else ""
    frost = frost_source(frost_dir) if "frost" in names else ""
    jpeg = isinstance(chosen, TreeFormat)
    caveats = [
        "no seed is known of the published sets, so these images follow the same distribution but "
        "are other draws",
        preset_warning(preset, images.shape),
        "frost layers are procedural, not the photos of the published sets"
        if frost.startswith("procedural")
        else "",
        f"images are JPEG files of quality {STORED_QUALITY}, as those of the published set are"
        if jpeg
        else "",
    ]
    return {
        "caveats": [caveat for caveat in caveats if caveat],
        "corruptions": {name: CORRUPTIONS.get(name).version for name in names},
        "files": {},
        "form": FORM,
        "format": chosen.name,
        "frost": frost,
        "jpeg_quality": STORED_QUALITY if jpeg else None,
        "made_by": {
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "shrinkproof": __version__,
        },
        "preset": preset,
        "seed": seed,
        "severities": list(levels),
        "source": {
            "fingerprint": images.fingerprint,
            "images": len(images),
            "names": hashlib.sha256(files.encode()).hexdigest()[:16] if files else "",
            "reference": images.source,
            "shape": list(images.one_shape),
        },
    }


@dataclass(slots=True)
class _Writer:
    """Writes what is missing of a set; only it touches the manifest and the journal."""

    images: ImageSet
    folder: Path
    format: ArrayFormat | TreeFormat
    manifest: Json
    frost_dir: Path | None
    progress: Progress | None

    @property
    def root(self) -> Path:
        """The hidden folder in which pieces are made."""
        return self.folder / _PARTIAL

    def write(self, pieces: Sequence[Piece], engine: Engine) -> dict[str, Failure]:
        missing = [piece for piece in pieces if not self._is_complete(piece)]
        self._check_space(len(missing))
        write_manifest(self.folder, self.manifest)
        self._write_labels()
        failures: dict[str, Failure] = {}
        if missing:
            self._prepare(missing)
            try:
                failures = self._make(missing, engine)
            finally:
                forget_workplace()
        if not failures:
            shutil.rmtree(self.root, ignore_errors=True)
            for scratch in self.folder.glob(".tmp-*"):  # a killed process has left them
                scratch.unlink(missing_ok=True)
        return failures

    def _is_complete(self, piece: Piece) -> bool:
        there = (self.folder / piece.name).exists()
        listed = piece.name in self.manifest["files"]
        if there and not listed:
            raise UsageError(
                f"{self.folder / piece.name} must not exist, since it is not in the manifest of "
                f"this set and would be replaced; move it away"
            )
        return there

    def _check_space(self, count: int) -> None:
        needed = count * self.format.size()
        partial = sum(p.stat().st_size for p in self.root.glob("*.npy"))
        free = shutil.disk_usage(self.folder).free
        if needed - partial > free:
            raise StoreError(
                f"{self.folder} cannot be written: the set needs {needed / 1e9:.2f} GB more, but "
                f"the disk has {free / 1e9:.2f} GB free; free some space or choose another disk"
            )

    def _write_labels(self) -> None:
        if not isinstance(self.format, ArrayFormat):
            return
        buffer = io.BytesIO()
        np.save(buffer, np.tile(self.images.labels, len(SEVERITIES)))
        content = buffer.getvalue()
        path = self.folder / LABELS
        if not path.is_file() or path.read_bytes() != content:
            replace_file(path, lambda file: file.write(content))
        self.manifest["files"][LABELS] = hashlib.sha256(content).hexdigest()
        write_manifest(self.folder, self.manifest)

    def _prepare(self, missing: Sequence[Piece]) -> None:
        """Write what workers read, and make the places of the pieces."""
        with explained(self.root):
            self.root.mkdir(exist_ok=True)
        plan = {
            "format": self.format.as_json(),
            "frost_dir": str(self.frost_dir.resolve()) if self.frost_dir else "",
            "preset": self.manifest["preset"],
            "seed": self.manifest["seed"],
        }
        replace_file(self.root / PLAN, lambda file: file.write(json.dumps(plan).encode()))
        if not (self.root / CLEAN).is_file():
            _write_clean(self.images, self.root / CLEAN)
        for piece in missing:
            self.format.allocate(self.root, piece)

    def _make(self, missing: Sequence[Piece], engine: Engine) -> dict[str, Failure]:
        journal = _Journal(self.root / _JOURNAL)
        piece_of = {condition: piece for piece in missing for condition in piece.conditions}
        units = list(self._units(piece_of, journal.known))
        left = Counter(piece_of[unit.condition] for unit in units)
        failures: dict[str, Failure] = {}
        start = time.perf_counter()
        if self.progress is not None:
            self.progress.begin("corrupt", len(units))
        # Bringing a piece to the disk takes a while, in which the workers need new work.
        with ThreadPoolExecutor(max_workers=1) as pool, journal:
            sealed: list[Future[None]] = []
            for unit, outcome in engine.map(make, units):
                if isinstance(outcome, Failure):
                    if outcome.type == StoreError.__name__:
                        raise StoreError(outcome.message)
                    failures.setdefault(str(unit.condition), outcome)
                else:
                    journal.add(unit, outcome)
                    piece = piece_of[unit.condition]
                    left[piece] -= 1
                    if not left[piece]:
                        sealed.append(pool.submit(self._seal, piece))
                if self.progress is not None:
                    self.progress.advance(str(unit.condition))
            for future in sealed:
                future.result()
        if self.progress is not None:
            self.progress.end("corrupt", time.perf_counter() - start)
        return failures

    def _units(
        self, conditions: Mapping[Condition, Piece], known: Mapping[tuple[str, int], str]
    ) -> Iterator[Unit]:
        count = len(self.images)
        height, width = self.images.one_shape
        size = max(1, _VALUES // (height * width * 3))
        for condition in conditions:
            for start in range(0, count, size):
                digest = known.get((str(condition), start), "")
                stop = min(start + size, count)
                yield Unit(str(self.root), condition, start, stop, digest)

    def _seal(self, piece: Piece) -> None:
        """Make a complete piece visible, after the manifest knows its checksum."""
        self.manifest["files"][piece.name] = self.format.seal(self.root, piece)
        write_manifest(self.folder, self.manifest)
        target = self.folder / piece.name
        with explained(target):
            target.parent.mkdir(exist_ok=True)
            (self.root / piece.name).rename(target)
            sync_folder(target.parent)


class _Journal:
    """Which units are done, with their checksums: one line each; a torn line counts as none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.known: dict[tuple[str, int], str] = {}
        with explained(path):
            text = path.read_text("utf-8") if path.is_file() else ""
            self._file = path.open("a", encoding="utf-8")
            if text and not text.endswith("\n"):
                self._file.write("\n")
        for line in text.splitlines():
            try:
                condition, start, digest = json.loads(line)
            except ValueError:
                continue
            self.known[condition, start] = digest

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, unit: Unit, digest: str) -> None:
        with explained(self._path):
            self._file.write(json.dumps([str(unit.condition), unit.start, digest]) + "\n")
            self._file.flush()


def _write_clean(images: ImageSet, path: Path) -> None:
    """Write the clean images as one array: workers map it, and files are decoded only once."""
    shape = (len(images), *images.one_shape, 3)
    scratch = path.with_name(f".tmp-{path.name}")
    with explained(path):
        try:
            with scratch.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                file.flush()
                reserve(file.fileno(), file.tell() + int(np.prod(shape)))
                for _, pixels in images.batches(256):
                    file.write(np.ascontiguousarray(pixels).data)
            scratch.rename(path)
        finally:
            scratch.unlink(missing_ok=True)
