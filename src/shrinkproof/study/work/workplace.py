"""What a process keeps between two pieces of work on one run."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from shrinkproof.data.imageset import ImageSet
from shrinkproof.environment import capture
from shrinkproof.errors import DataError, ModelError
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.records import Json
from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs


@dataclass(eq=False)
class Workplace:
    """What a process keeps between two pieces of work on one run.

    Attributes:
        run: the run directory.
        inputs: the study.
        planned: fingerprints of the splits that the run is about; those of others are not checked.
        sets: splits that were read.
        bases: uncompressed models that were loaded.
        predictors: candidates that were loaded, by key and form.
    """

    run: Path
    inputs: Inputs
    planned: Mapping[str, str] = field(default_factory=dict)
    sets: dict[str, ImageSet] = field(default_factory=dict)
    bases: dict[str, LoadedModel] = field(default_factory=dict)
    predictors: dict[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)

    @cached_property
    def machine(self) -> Json:
        """Description of the machine that this process runs on."""
        return capture()

    def images(self, wanted: Collection[str]) -> dict[str, ImageSet]:
        """Return all splits that were read, the wanted ones among them."""
        missing = [name for name in wanted if name not in self.sets]
        if missing:
            found = self.inputs.splits(missing).sets
            self._check_images(found)
            self.sets.update(found)
        return self.sets

    def _check_images(self, found: Mapping[str, ImageSet]) -> None:
        """Refuse images that are not those of the plan: keys of cells would name others.

        Raises:
            DataError: a split has changed since.
        """
        for name, images in found.items():
            if self.planned.get(name, images.fingerprint) != images.fingerprint:
                raise DataError(
                    f"data.{name}: the images of {images.source} must not change while a study "
                    "runs, got others than when it was planned; restore them, or run the study "
                    "again to measure them as they are now"
                )

    def base(self, model: str) -> LoadedModel:
        """Return an uncompressed model of the study."""
        from shrinkproof.models.reference import load_model

        if model not in self.bases:
            loaded = load_model(self.inputs.spec.models[model], self.inputs.places)
            _check_unchanged(self.run, model, loaded)
            self.bases[model] = loaded
        return self.bases[model]


def _check_unchanged(run: Path, model: str, loaded: LoadedModel) -> None:
    """Refuse a model whose weights are not those of the run's other candidates.

    The identity of a model comes from its reference, without running code; a user's function may
    still give other weights one day under the same identity.

    Raises:
        ModelError: the weights have changed.
    """
    digest = hashlib.sha256()
    for name, tensor in loaded.module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    store = Store(run)
    known = store.read_json(f"models/{loaded.fingerprint}.json")
    if known is None:
        store.write_json(f"models/{loaded.fingerprint}.json", {"sha256": digest.hexdigest()})
    elif known["sha256"] != digest.hexdigest():
        raise ModelError(
            f"{model}: the weights must stay what they were when this run began, but the same "
            "reference now gives others; use a new run directory, or a checkpoint instead of code"
        )


@functools.lru_cache(maxsize=1)
def workplace(run: str) -> Workplace:
    """Return the workplace of a run; a process works on one run at a time."""
    import cv2
    import torch

    store = Store(Path(run))
    inputs = Inputs.from_json(store.read_json("inputs.json"))
    splits = (store.read_json("data.json") or {}).get("splits", {})
    planned = {name: split["fingerprint"] for name, split in splits.items()}
    for limit in (torch.set_num_threads, cv2.setNumThreads):
        limit(inputs.spec.threads)
    _keep_bars_in_process()
    return Workplace(Path(run), inputs, planned)


def _keep_bars_in_process() -> None:
    """Give the progress bars of torch's exporter, which nobody sees, a lock of this process.

    Otherwise they make a semaphore, and a killed process leaves Python complaining of a leak.
    """
    with contextlib.suppress(ImportError):
        from tqdm import tqdm  # type: ignore[import-untyped]

        tqdm.set_lock(threading.RLock())


def forget_workplace() -> None:
    """Drop what this process keeps: the study of its run has changed."""
    workplace.cache_clear()
