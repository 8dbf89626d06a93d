"""The run directory: what is done, written atomically, readable after any accident.

A shard is written to a temporary file in the same directory, flushed to the disk, and renamed, so
it is there completely or not at all; each ends with a line that counts and hashes the ones before.
There are no locks: two launchers on one directory waste work but cannot corrupt it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from shrinkproof.atomic import (
    explained,
    is_abandoned,
    readable,
    replace_file,
    scratch_in,
    scratches_in,
    sync_file,
    sync_folder,
)
from shrinkproof.errors import StoreError
from shrinkproof.metrics.heatmaps import HeatMaps
from shrinkproof.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Predictions,
)
from shrinkproof.protocols import Measurement
from shrinkproof.records import Candidate, Cell, Failure, Json
from shrinkproof.store import maps, predictions
from shrinkproof.store.parts import Part, Parts

_CELLS: Final = "cells"
_CANDIDATES: Final = "candidates"
_PREDICTIONS: Final = "predictions"
_PARTS: Final = "parts"
_ENVIRONMENT: Final = "environment"
_MODELS: Final = "models"
_SALIENCY: Final = "saliency"
_WORK: Final = "work"

_PLANNED_CANDIDATE: Final = '{"candidate"'
"""How the line of a candidate begins in the plan."""
_TOGETHER: Final = 1000
"""Lines of the plan that are parsed together."""


@dataclass(frozen=True, slots=True)
class Shard:
    """What is stored of one finished cell.

    Attributes:
        cell: which cell.
        measurements: its numbers.
        environment: key of the machine that measured them.
        versions: metric or evaluator name -> version, of what made the numbers.
        notes: caveats of the measurement, for the report.
    """

    cell: Cell
    measurements: tuple[Measurement, ...]
    environment: str
    versions: Mapping[str, int]
    notes: tuple[str, ...] = ()


class Store:
    """One run directory.

    Args:
        path: the directory; `create` makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: Path) -> Store:
        """Return the store in a directory, made where it is missing.

        Raises:
            StoreError: the directory cannot be made or written.
        """
        store = cls(path)
        with explained(store.path):
            for name in (_CELLS, _CANDIDATES, _PREDICTIONS, _ENVIRONMENT, _MODELS):
                (store.path / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=store.path) as file:
                store._sweep(os.fstat(file.fileno()).st_mtime)
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """Return the store of an existing run.

        Raises:
            StoreError: there is no run in that directory.
        """
        store = cls(path)
        if not (store.path / "plan.jsonl").is_file():
            raise StoreError(
                f"{path} is not a run directory: plan.jsonl is missing. "
                "Start one with: shrinkproof run STUDY --out DIR"
            )
        return store

    def _sweep(self, now: float) -> None:
        """Remove what killed writers have left; the clock is that of the directory's disk."""
        for scratch in scratches_in(self.path):
            with contextlib.suppress(FileNotFoundError):
                if not is_abandoned(scratch, now):
                    continue
                if scratch.is_dir():
                    shutil.rmtree(scratch, ignore_errors=True)
                else:
                    scratch.unlink()

    # cells

    def write_cell(self, shard: Shard) -> None:
        """Store the numbers of a finished cell and forget its earlier failure."""
        self.write_text(self._cell(shard.cell.key), _text_of(shard))
        self._failed(shard.cell.key).unlink(missing_ok=True)

    def write_cells(self, shards: Iterable[Shard]) -> None:
        """Store many cells at once, without waiting for the disk after each.

        Whoever writes a plan afterwards may rely on them: a cell that a power failure has cut short
        counts as missing.
        """
        with explained(self.path):
            for shard in shards:
                self._cell(shard.cell.key).write_text(_text_of(shard), "utf-8")

    def read_cell(self, key: str) -> Shard | None:
        """Return a finished cell, or None where it is missing or damaged."""
        found = self._verified(key)
        if found is None:
            return None
        body, end = found
        try:
            return Shard(
                cell=Cell.from_json(end["cell"]),
                measurements=tuple(Measurement(**value) for value in values_in(body)),
                environment=end["environment"],
                versions=end["versions"],
                notes=tuple(end["notes"]),
            )
        except (ValueError, KeyError, TypeError):
            return None  # foreign content counts as missing, as cut off content does

    def read_versions(self, key: str) -> Mapping[str, int] | None:
        """Return which versions made the numbers of a finished cell, or None as `read_cell`."""
        found = self._verified(key)
        versions: Mapping[str, int] | None = None if found is None else found[1].get("versions")
        return versions

    def _verified(self, key: str) -> tuple[list[str], Json] | None:
        """Return the lines of a cell's numbers and what its last line says of them, if it fits."""
        path = self._cell(key)
        try:
            with readable(path):
                *body, last = path.read_text("utf-8").splitlines()
            end: Json = json.loads(last)["end"]
            digest = hashlib.sha256("\n".join(body).encode()).hexdigest()
            is_whole = end["count"] == len(body) and end["sha256"] == digest
            return (body, end) if is_whole and end["cell"]["key"] == key else None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, IndexError, TypeError):
            return None  # truncated or foreign content counts as missing

    def finished(self) -> frozenset[str]:
        """Return the keys of all cells with a shard; names only, nothing is read."""
        names = self._names(_CELLS)
        return frozenset({name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl")})

    def write_failure(self, key: str, failure: Failure, *, label: str) -> None:
        """Store why a cell, or a candidate, gave no result."""
        text = json.dumps({"label": label, **failure.as_json()}, sort_keys=True)
        self.write_text(self._failed(key), text + "\n")

    def failures(self) -> dict[str, Json]:
        """Return the stored failures, by key of the cell or candidate."""
        found = {}
        names = [name for name in self._names(_CELLS) if name.endswith(".failed.json")]
        for name in sorted(names):
            key = name.removesuffix(".failed.json")
            with contextlib.suppress(FileNotFoundError):  # another launcher has succeeded since
                found[key] = self._failure(key)
        return found

    def _failure(self, key: str) -> Json:
        """Return a stored failure; that a damaged file says nothing more is told."""
        path = self._failed(key)
        with readable(path):
            text = path.read_text("utf-8", errors="replace")
        try:
            return {"label": key, **Failure("unknown", "").as_json(), **json.loads(text)}
        except (ValueError, TypeError):
            found = Failure("StoreError", f"why it failed is not known: {path} is damaged")
            return {"label": key, **found.as_json()}

    def forget_failure(self, key: str) -> None:
        """Remove a stored failure, because its work has succeeded since."""
        self._failed(key).unlink(missing_ok=True)

    def _cell(self, key: str) -> Path:
        return Path(self.path, _CELLS, f"{key}.jsonl")

    def _failed(self, key: str) -> Path:
        return self.path / _CELLS / f"{key}.failed.json"

    # candidates

    def candidate(self, key: str) -> Path:
        """Return the directory of a candidate."""
        return self.path / _CANDIDATES / key

    def has_candidate(self, key: str) -> bool:
        """Return whether a candidate is prepared."""
        return (self.candidate(key) / "complete.json").is_file()

    def forget_candidate(self, key: str) -> None:
        """Let a candidate count as missing, because its files are damaged."""
        (self.candidate(key) / "complete.json").unlink(missing_ok=True)

    def write_candidate(self, candidate: Candidate, write: Callable[[Path], Json]) -> None:
        """Let ``write`` fill a directory and put it in its place when it is complete.

        ``write`` returns the sizes of the files it made; they are checked on reading. Where another
        process has prepared the candidate meanwhile, its files stay: somebody may be reading them.
        """
        with explained(self.path):
            parent = self.path / _CANDIDATES
            parent.mkdir(parents=True, exist_ok=True)
            scratch = scratch_in(parent)
            scratch.mkdir()
            try:
                facts = write(scratch)
                for file in scratch.iterdir():
                    sync_file(file)
                self.write_text(scratch / "complete.json", json.dumps(facts, sort_keys=True) + "\n")
                self._put(scratch, candidate.key)
                sync_folder(parent)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _put(self, scratch: Path, key: str) -> None:
        """Give a complete folder its name, unless another process was faster."""
        target = self.candidate(key)
        if target.exists() and not self.has_candidate(key):
            shutil.rmtree(target)
        try:
            scratch.rename(target)
        except OSError:
            if not self.has_candidate(key):
                raise

    def scratch(self, key: str) -> Path:
        """Return the folder of what lets the preparation of a candidate go on after a kill."""
        return self.path / _WORK / key

    def forget_scratch(self, key: str) -> None:
        """Remove that folder, because the candidate is prepared."""
        shutil.rmtree(self.scratch(key), ignore_errors=True)

    def write_progress(self, candidate: Candidate, note: Mapping[str, Any]) -> None:
        """Store how far the preparation of a candidate is; the latest note replaces others."""
        folder = self.scratch(candidate.key)
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        value = {"label": candidate.label, **note}
        self.write_text(folder / "progress.json", json.dumps(value) + "\n")

    def forget_progress(self, key: str) -> None:
        """Remove that note, because the preparation has failed."""
        (self.scratch(key) / "progress.json").unlink(missing_ok=True)

    def in_progress(self, wanted: Collection[str]) -> list[str]:
        """Return how far the training of each wanted candidate is that is not prepared yet."""
        lines = []
        for key in sorted(self._names(_WORK)):
            note = self.read_json(f"{_WORK}/{key}/progress.json") if key in wanted else None
            if note is None or self.has_candidate(key):
                continue
            parts = [
                f"{name} {note[name]}/{note.get(f'{name}s', '?')}"
                for name in ("iteration", "epoch")
                if name in note
            ]
            left = note.get("seconds_left")
            time_left = "" if left is None else f", about {left:.0f} s left"
            lines.append(f"{note['label']}: {', '.join(parts)}{time_left}")
        return lines

    # predictions

    def write_predictions(self, key: str, found: Predictions) -> None:
        """Store the predictions of a cell; many logits are rounded, see `half.as_stored`."""
        predictions.write_predictions(self.path / _PREDICTIONS / key, found)

    def has_predictions(self, key: str) -> bool:
        """Return whether predictions of a cell are stored; nothing is read."""
        return predictions.has_predictions(self.path / _PREDICTIONS / key)

    def has_whole_predictions(self, key: str) -> bool:
        """Return whether predictions of a cell are stored and not cut off; hardly read."""
        return predictions.has_whole_predictions(self.path / _PREDICTIONS / key)

    def is_rounded(self, key: str) -> bool:
        """Return whether the stored logits of a cell are in half precision."""
        return predictions.is_rounded(self.path / _PREDICTIONS / key)

    def parts(self, key: str) -> Parts:
        """Return the parts of a cell that was not predicted to its end yet."""
        return Parts(self.path / _PARTS / key)

    def in_parts(self) -> frozenset[str]:
        """Return the keys of all cells that have parts; names only, nothing is read."""
        return frozenset(self._names(_PARTS))

    def join_parts(self, key: str, parts: Sequence[Part]) -> list[Any] | None:
        """Store the predictions of a cell from its parts; see `Parts.join`."""
        return self.parts(key).join(parts, self.path / _PREDICTIONS / key)

    def read_predictions(self, key: str) -> Predictions | None:
        """Return the stored predictions of a cell, or None where they are missing or damaged."""
        return predictions.read_predictions(self.path / _PREDICTIONS / key)

    def read_logits(self, key: str) -> ClassificationPredictions | None:
        """Return the stored predictions of a classifier, or None where there are none."""
        found = self.read_predictions(key)
        return found if isinstance(found, ClassificationPredictions) else None

    def read_boxes(self, key: str) -> DetectionPredictions | None:
        """Return the stored predictions of a detector, or None where there are none."""
        found = self.read_predictions(key)
        return found if isinstance(found, DetectionPredictions) else None

    # heat maps

    def write_maps(self, key: str, found: HeatMaps) -> None:
        """Store the heat maps of a cell, float32, with what they are about; one file."""
        maps.write_maps(self._maps(key), found)

    def read_maps(self, key: str) -> HeatMaps | None:
        """Return the stored heat maps of a cell, or None where they are missing or damaged."""
        return maps.read_maps(self._maps(key))

    def has_maps(self, key: str) -> bool:
        """Return whether the heat maps of a cell are stored to the end; they are not read."""
        return zipfile.is_zipfile(self._maps(key))

    def _maps(self, key: str) -> Path:
        return self.path / _SALIENCY / f"{key}.npz"

    # files

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file atomically."""
        self.write_bytes(path, text.encode())

    def write_bytes(self, path: Path, content: bytes) -> None:
        """Write a file atomically."""
        replace_file(path, lambda f: f.write(content))

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file of the run directory atomically."""
        self.write_text(self.path / name, json.dumps(value, indent=1, sort_keys=True) + "\n")

    def read_json(self, name: str) -> Any:
        """Return a JSON file of the run directory, or None where it is missing."""
        try:
            with readable(self.path / name):
                return json.loads((self.path / name).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"{self.path / name} is not JSON ({error}); delete it") from error

    def write_plan(self, candidates: Sequence[Candidate], cells: Sequence[Cell]) -> None:
        """Store what the study wants, one line each."""
        lines = [json.dumps({"candidate": c.as_json()}, sort_keys=True) for c in candidates]
        lines += [json.dumps({"cell": c.as_json()}, sort_keys=True) for c in cells]
        self.write_text(self.path / "plan.jsonl", "\n".join(lines) + "\n")

    def read_candidates(self) -> tuple[Candidate, ...]:
        """Return the candidates of the last run; its cells, which are many more, are not parsed.

        Raises:
            StoreError: the plan is damaged.
        """
        return self._planned(cells=False)[0]

    def read_plan(self) -> tuple[tuple[Candidate, ...], tuple[Cell, ...]]:
        """Return the candidates and cells of the last run.

        Raises:
            StoreError: the plan is damaged.
        """
        return self._planned(cells=True)

    def _planned(self, *, cells: bool) -> tuple[tuple[Candidate, ...], tuple[Cell, ...]]:
        candidates, found = [], []
        try:
            lines = (self.path / "plan.jsonl").read_text("utf-8").splitlines()
            if not cells:
                lines = [line for line in lines if line.startswith(_PLANNED_CANDIDATE)]
            for value in values_in(lines):
                if "candidate" in value:
                    candidates.append(Candidate.from_json(value["candidate"]))
                else:
                    found.append(Cell.from_json(value["cell"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self.path / 'plan.jsonl'} is damaged ({error}); run the study again to "
                "rewrite it, finished cells are kept"
            ) from error
        return tuple(candidates), tuple(found)

    def write_environment(self, key: str, value: Json) -> None:
        """Store the description of a machine."""
        self.write_json(f"{_ENVIRONMENT}/{key}.json", value)

    def environments(self) -> dict[str, Json]:
        """Return the stored machine descriptions, by key."""
        names = sorted(n for n in self._names(_ENVIRONMENT) if n.endswith(".json"))
        return {n.removesuffix(".json"): self.read_json(f"{_ENVIRONMENT}/{n}") for n in names}

    def _names(self, folder: str) -> list[str]:
        try:
            return os.listdir(self.path / folder)  # noqa: PTH208 - names only, 10x faster
        except FileNotFoundError:
            return []


def values_in(lines: Sequence[str]) -> Iterator[Any]:
    """Yield the value of each line of JSON; many lines at once are parsed twice as fast as each."""
    for start in range(0, len(lines), _TOGETHER):
        yield from json.loads(f"[{','.join(lines[start : start + _TOGETHER])}]")


def _text_of(shard: Shard) -> str:
    """Return the file of a cell: a line per number, and one that counts and hashes them."""
    lines = [json.dumps(asdict(m), sort_keys=True) for m in shard.measurements]
    end = {
        "cell": shard.cell.as_json(),
        "count": len(lines),
        "environment": shard.environment,
        "notes": list(shard.notes),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "versions": dict(shard.versions),
    }
    return "\n".join([*lines, json.dumps({"end": end}, sort_keys=True)]) + "\n"


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file in hex digits; empty where it is missing."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
