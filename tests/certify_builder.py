"""A finished run that gets certify images, promises, and predictions with planted errors.

The tiny network is wrong for most images; planted predictions let a test choose the risk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import Failure
from shrinkproof.results import Results
from shrinkproof.store import Store
from shrinkproof.study import Inputs
from shrinkproof.study.work.measuring import Pass, PassResult
from shrinkproof.study.work.workplace import workplace

from .study_builder import write_images

IMAGES = 200

CERTIFY = """
certify:
  promises:
    - {error: 0.2, over: every}
  candidates: all
"""

Shares = dict[str, float | dict[str, float]]


def add_certify_images(run: Path, folder: Path) -> None:
    """Give a run certify images that nobody has looked at."""
    write_images(folder / "new.npz", IMAGES, 5)
    inputs = json.loads((run / "inputs.json").read_text())
    text = inputs["text"].replace("data:\n", f"data:\n  certify: arrays:{folder}/new.npz\n")
    (run / "inputs.json").write_text(json.dumps({**inputs, "text": text}))
    images = Inputs.from_json({**inputs, "text": text}).splits(["certify"]).sets["certify"]
    data = json.loads((run / "data.json").read_text())
    data["splits"]["certify"] = {
        "source": images.source,
        "count": len(images),
        "fingerprint": images.fingerprint,
        "classes": list(images.classes),
    }
    (run / "data.json").write_text(json.dumps(data))


def write_promises(run: Path, block: str) -> None:
    """Let the study of a run end with a certify block, as if it had been run again with it."""
    inputs = json.loads((run / "inputs.json").read_text())
    text = inputs["text"].partition("\ncertify:")[0].rstrip() + "\n" + block.lstrip()
    (run / "study.yaml").write_text(text)
    (run / "inputs.json").write_text(json.dumps({**inputs, "text": text}))


class Planted:
    """Predictions with a given share of errors instead of a network's, and what was asked for."""

    def __init__(self, shares: Shares, broken: tuple[str, ...] = ()) -> None:
        self.shares = shares
        self.broken = broken
        self.asked: list[tuple[str, str]] = []
        self.die_at: str | None = None

    def __call__(self, work: Pass) -> PassResult:
        if str(work.condition) == self.die_at:
            raise KeyboardInterrupt
        store = Store(Path(work.run))
        images = workplace(work.run).images([work.split])[work.split]
        by_key = Results.load(work.run).by_key
        measured: dict[str, Any] = {}
        for cell in work.cells:
            recipe = by_key[cell.candidate].recipe
            self.asked.append((recipe, str(work.condition)))
            if recipe in self.broken:
                measured[cell.key] = Failure("ModelError", "it cannot run")
                continue
            share = self.shares.get(recipe, 0.0)
            if isinstance(share, dict):
                share = share.get(str(work.condition), 0.0)
            told = images.target.copy()
            wrong = slice(0, round(share * len(told)))
            told[wrong] = (told[wrong] + 1) % 4
            logits = np.eye(4, dtype=np.float32)[told] * 9
            predictions = ClassificationPredictions(
                logits, images.target, images.index, images.groups
            )
            store.write_predictions(cell.key, predictions)
            measured[cell.key] = ()
        return PassResult(measured)
