"""A kit for a target that we cannot run: the images of a study, their hashes, and a runner."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.atomic import explained, replace_file, scratch_in
from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import StoreError, UsageError
from shrinkproof.evaluators.subject import Scene
from shrinkproof.records import Condition, Json
from shrinkproof.results import Results
from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.progress import Progress, Silence

FORMAT: Final = 1
"""Raise it when the manifest changes its meaning."""

RUNNER: Final = "run_on_target.py"
"""The runner; a file of this package, copied as it is."""

_HASHES: Final = "images"
"""Folder of a run with the hashes of the images that kits were made of."""

_OUTPUT: Final = {
    "index": "(N,) integers, as in index of this file, in any order",
    "logits": "(N, classes) numbers before the softmax",
    "sha256": "(N,) text, SHA-256 of the bytes of each image (height, width, 3) as it was read",
    "latency_seconds": "(N,) time of each inference; may be absent",
    "condition": "which condition; may be absent, then it is given on import",
}
"""What a file of predictions holds; Parquet has columns of these names, logits as lists."""


@dataclass(frozen=True, slots=True)
class Kit:
    """A kit that was written.

    Attributes:
        path: its folder.
        split: part of the data.
        deciding: part on which the run chooses.
        count: images per condition.
        conditions: what it has the images under.
        bytes: size of the images.
    """

    path: Path
    split: str
    deciding: str
    count: int
    conditions: tuple[Condition, ...]
    bytes: int


def write_kit(
    run: Path,
    out: Path,
    *,
    split: str = "",
    conditions: Sequence[str] = (),
    limit: int | None = None,
    progress: Progress | None = None,
) -> Kit:
    """Write the images that a run measures, exactly as its candidates saw them.

    ``images/CONDITION.npy`` holds (N, H, W, 3) uint8, ``images/CONDITION.sha256`` a hash per image,
    ``manifest.json`` indices, hashes of files, preprocessing, classes and the layout of what shall
    come back, ``run_on_target.py`` a runner to adapt. The hashes are kept in the run, so that
    predictions can be checked when they are imported.

    Args:
        run: the run directory; its data must still be where they were.
        out: the folder; made where it is missing.
        split: ``select`` or ``report``; by default the one whose numbers are printed.
        conditions: some of the study's, spelled ``clean`` or ``fog:3``; all of them by default.
        limit: only the first so many images, to try the target; their predictions cannot be
            imported.
        progress: who is told how far it is.

    Raises:
        UsageError: the run has no such split or condition.
        DataError: the data are missing.
        StoreError: a file cannot be written.
    """
    results = Results.load(run)
    store = results.store
    name = split or results.printing
    wanted = _wanted(results, name, conditions)
    inputs = _inputs(store)
    images = inputs.splits([name]).sets[name]
    if images.fingerprint != results.data["splits"][name]["fingerprint"]:
        raise UsageError(
            f"{name}: the images must be those of the run, got others; restore the data, or run "
            "the study again"
        )
    full = len(images)
    if limit is not None and limit < full:
        images = images.take(np.arange(limit, dtype=np.int64))
    with explained(out):
        (out / "images").mkdir(parents=True, exist_ok=True)
    told = progress or Silence()
    start = time.perf_counter()
    told.begin("kit", len(wanted))
    files: dict[str, Json] = {}
    for condition in wanted:
        hashes = _write_images(out, inputs, images, condition)
        if len(images) == full:
            keep_hashes(results, name, condition, images.index, hashes)
        files[str(condition)] = _entry(out, condition)
        told.advance(str(condition))
    manifest = {
        "format": FORMAT,
        "study": results.spec.full_name,
        "split": name,
        "count": len(images),
        "of": full,
        "index": images.index.tolist(),
        "classes": list(images.classes),
        "models": {model: _model(inputs, model) for model in inputs.spec.models},
        "conditions": files,
        "output": _OUTPUT,
    }
    text = json.dumps(manifest, indent=1) + "\n"
    replace_file(out / "manifest.json", lambda f: f.write(text.encode()))
    runner = Path(__file__).with_name(RUNNER).read_bytes()
    replace_file(out / RUNNER, lambda f: f.write(runner))
    size = len(wanted) * len(images) * images.one_shape[0] * images.one_shape[1] * 3
    told.end("kit", time.perf_counter() - start)
    return Kit(out, name, results.deciding, len(images), tuple(wanted), size)


def _wanted(results: Results, split: str, conditions: Sequence[str]) -> list[Condition]:
    if split not in results.measuring:
        raise UsageError(
            f"--split: must be one that the run measures ({', '.join(results.measuring)}), got "
            f"{split!r}"
        )
    measured = {c.condition: None for c in results.cells if c.split == split}
    if not conditions:
        return list(measured)
    found = []
    for text in conditions:
        try:
            condition = Condition.parse(text)
        except ValueError as error:
            raise UsageError(f"--condition: {error}") from error
        if condition not in measured:
            raise UsageError(
                f"--condition: must be one that the run measures "
                f"({', '.join(map(str, measured))}), got {text!r}"
            )
        found.append(condition)
    return list(dict.fromkeys(found))


def _inputs(store: Store) -> Inputs:
    value = store.read_json("inputs.json")
    if value is None:
        raise UsageError(
            f"{store.path}: must be the directory of a run, got one without images (inputs.json "
            "is missing); results of tables have none"
        )
    return Inputs.from_json(value)


def _write_images(
    out: Path, inputs: Inputs, images: ImageSet, condition: Condition
) -> NDArray[np.uint8]:
    """Write the images under a condition; return their hashes, (N, 32) uint8."""
    world = None if condition.is_clean else inputs.world(images)
    scene = Scene(images, condition, world, inputs.batch_of(images))
    hashes = np.empty((len(images), 32), dtype=np.uint8)
    target = out / "images" / f"{file_name(condition)}.npy"
    scratch = scratch_in(target.parent)
    with explained(target):
        try:
            array = np.lib.format.open_memmap(
                scratch, mode="w+", dtype=np.uint8, shape=(len(images), *images.one_shape, 3)
            )
            for positions, batch in scene.batches():
                array[positions] = batch
                hashes[positions] = [np.frombuffer(_digest(image), np.uint8) for image in batch]
            array.flush()
            del array
            scratch.rename(target)
        finally:
            scratch.unlink(missing_ok=True)
    lines = "".join(
        f"{row.tobytes().hex()}  {index}\n" for row, index in zip(hashes, images.index, strict=True)
    )
    replace_file(target.with_suffix(".sha256"), lambda f: f.write(lines.encode()))
    return hashes


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def _entry(out: Path, condition: Condition) -> Json:
    name = file_name(condition)
    return {
        "images": f"images/{name}.npy",
        "images_sha256": _file_digest(out / "images" / f"{name}.npy"),
        "hashes": f"images/{name}.sha256",
        "hashes_sha256": _file_digest(out / "images" / f"{name}.sha256"),
        "predictions": f"predictions/{name}.npz",
    }


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model(inputs: Inputs, model: str) -> Json:
    """Return how a network wants its images."""
    from shrinkproof.models.reference import load_model

    loaded = load_model(inputs.spec.models[model], inputs.places)
    return {
        "input_shape": list(loaded.input_shape),
        "mean": list(loaded.preprocess.mean),
        "std": list(loaded.preprocess.std),
        "input": "(pixel / 255 - mean) / std per channel, float32, (channels, height, width)",
        "classes": loaded.num_classes,
    }


def file_name(condition: Condition) -> str:
    """Return the name of a condition in file names, ``fog-3``."""
    return str(condition).replace(":", "-")


# hashes in the run


def _places(results: Results, split: str, condition: Condition) -> Iterator[Path]:
    """Yield where hashes of some images may lie: the key of a cell covers the pixels."""
    for cell in results.cells:
        if (cell.evaluator, cell.split, cell.condition) == ("scores", split, condition):
            yield results.store.path / _HASHES / f"{cell.key}.npz"


def keep_hashes(
    results: Results,
    split: str,
    condition: Condition,
    index: NDArray[np.int64],
    hashes: NDArray[np.uint8],
) -> None:
    """Keep the hashes of the images of a condition in the run."""
    path = next(_places(results, split, condition))
    with explained(path):
        path.parent.mkdir(exist_ok=True)
    replace_file(path, lambda f: np.savez(f, index=index, sha256=hashes))


def read_hashes(results: Results, split: str, condition: Condition) -> dict[int, str] | None:
    """Return index -> SHA-256 of each image under a condition, or None where no kit was written.

    Raises:
        StoreError: the file is damaged.
    """
    path = next((p for p in _places(results, split, condition) if p.is_file()), None)
    if path is None:
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            index, hashes = found["index"], found["sha256"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} is damaged ({error}); write the kit again") from error
    return {int(i): row.tobytes().hex() for i, row in zip(index, hashes, strict=True)}
