"""The images that compression hit hardest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.records import Candidate, Condition, Json
from shrinkproof.summary.classes import class_names
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Split, Totals
from shrinkproof.summary.values import Exhibit

# Shape suffixes: N images, M conditions.

EXEMPLARS: Final = "exemplars"

SHOWN: Final = 12
"""How many images of a candidate are shown."""


def hit_hardest(run: Run, split: Split, candidate: Candidate) -> Iterator[Exhibit]:
    """Yield the images that only the baseline gets right under the most conditions.

    Images lost under equally many conditions are ordered by how much probability of the true class
    they lost, mean over all conditions.
    """
    baseline = run.baseline(candidate)
    own, other = (split.totals.get(c.key) for c in (candidate, baseline))
    is_compared = candidate.role != "baseline" and split.name == run.printing
    if not is_compared or own is None or other is None or not own.predicted:
        return
    found: Json = {
        "candidate": candidate.label,
        "baseline": baseline.label,
        "split": split.name,
        "conditions": len(own.predicted),
        "affected": 0,
        "images": [],
        "reason": "",
    }
    if set(own.predicted) != set(other.predicted):
        found["reason"] = (
            f"{candidate.label} and {baseline.label} were not measured under the same conditions"
        )
    else:
        conditions = [c for c in split.settings.conditions if c in own.predicted]
        found |= _hit(split, own, other, conditions)
    yield Exhibit(EXEMPLARS, found)


def _hit(split: Split, own: Totals, other: Totals, conditions: Sequence[Condition]) -> Json:
    lost_MN = np.stack([(own.errors[c] > 0) & (other.errors[c] == 0) for c in conditions])
    count_N = lost_MN.sum(axis=0)
    loss_N = np.asarray(other.true_probability - own.true_probability) / len(conditions)
    order = np.lexsort((-loss_N, -count_N))
    shown = [int(at) for at in order[:SHOWN] if count_N[at]]
    return {
        "affected": int((count_N > 0).sum()),
        "images": [_image(split, own, conditions, lost_MN[:, at], at, loss_N) for at in shown],
    }


def _image(
    split: Split,
    own: Totals,
    conditions: Sequence[Condition],
    lost_M: NDArray[np.bool_],
    at: int,
    loss_N: NDArray[Any],
) -> Json:
    images = split.images
    assert images is not None, "there are predictions"
    names = class_names(split.settings, images.num_classes)
    hit = [condition for condition, is_lost in zip(conditions, lost_M, strict=True) if is_lost]
    votes = np.bincount([int(own.predicted[condition][at]) for condition in hit])
    return {
        "index": int(images.index[at]),
        "class": names[int(images.target[at])],
        "predicted": names[int(votes.argmax())],
        "count": len(hit),
        "under": [str(condition) for condition in hit],
        "loss": float(loss_N[at]),
    }
