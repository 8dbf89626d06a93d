"""The images that compression hit hardest, one by one: what both networks said of each."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, Condition, Json
from shrinkproof.report.samples import HIT_LIMIT, IMAGE_LIMIT, HitImage, Said
from shrinkproof.summary.classes import class_names
from shrinkproof.summary.exemplars import EXEMPLARS

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

_PICTURES: Final = 300_000
"""Bytes of pictures on a page; the images that come later are told in words."""


def images_hit_hardest(results: Results) -> dict[str, tuple[HitImage, ...]]:
    """Return the images that the page shows, by label of the candidate.

    The choice comes first, then the front. Each image is shown clean and under the mildest
    condition in which only the baseline gets it right: there the damage surprises most.
    """
    exhibits = [item.value for item in results.summary.exhibits if item.kind == EXEMPLARS]
    decision = results.decision
    chosen, front = (decision.chosen, decision.front) if decision else (None, ())
    exhibits.sort(key=lambda item: (item["candidate"] != chosen, item["candidate"] not in front))
    shower = _Shower(results)
    return {
        item["candidate"]: tuple(
            shower.image(item, image) for image in item["images"][:IMAGE_LIMIT]
        )
        for item in exhibits[:HIT_LIMIT]
        if item["images"]
    }


class _Shower:
    """Reads each stored prediction once, one candidate at a time.

    Args:
        results: a run.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._room = _PICTURES
        self._keys = {candidate.label: candidate.key for candidate in results.candidates}
        self._read: dict[str, dict[str, ClassificationPredictions | None]] = {}

    def image(self, item: Json, image: Json) -> HitImage:
        """Return one image as the page shows it."""
        return HitImage(
            index=image["index"],
            true=image["class"],
            count=image["count"],
            conditions=item["conditions"],
            under=tuple(image["under"]),
            said=tuple(
                self._said(item, image["index"], condition) for condition in mildest(image["under"])
            ),
        )

    def _said(self, item: Json, index: int, condition: Condition) -> Said:
        split = item["split"]
        return Said(
            condition=str(condition),
            picture=self._picture(split, index, condition),
            baseline=self._answer(item["baseline"], split, index, condition),
            candidate=self._answer(item["candidate"], split, index, condition),
        )

    def _picture(self, split: str, index: int, condition: Condition) -> str:
        found = self._results.pictures.find(split, index, condition)
        if found is None or len(found) > self._room:
            return ""
        self._room -= len(found)
        return base64.b64encode(found).decode()

    def _answer(
        self, label: str, split: str, index: int, condition: Condition
    ) -> tuple[str, float] | None:
        """Return the class that a network named and its confidence; None where it is unknown."""
        shard = self._results.scored(self._keys[label], split).get(condition)
        predictions = None if shard is None else self._predictions(label, shard.cell.key)
        if predictions is None:
            return None
        places = np.flatnonzero(predictions.index == index)
        if not len(places):
            return None
        logits_C = predictions.logits[int(places[0])].astype(np.float64)
        weight_C = np.exp(logits_C - logits_C.max())
        best = int(weight_C.argmax())
        names = class_names(self._results.settings, len(weight_C))
        return names[best], float(weight_C[best] / weight_C.sum())

    def _predictions(self, label: str, key: str) -> ClassificationPredictions | None:
        """Return stored predictions; those of two networks at most stay in memory."""
        if label not in self._read and len(self._read) > 1:
            self._read.pop(next(iter(self._read)))
        own = self._read.setdefault(label, {})
        if key not in own:
            own[key] = self._results.store.read_logits(key)
        return own[key]


def mildest(under: Sequence[str]) -> tuple[Condition, ...]:
    """Return clean, and the mildest of the corrupted conditions under which an image is lost."""
    corrupted = [at for at in map(Condition.parse, under) if not at.is_clean]
    return tuple(dict.fromkeys((CLEAN, min(corrupted, key=lambda at: at.severity, default=CLEAN))))
