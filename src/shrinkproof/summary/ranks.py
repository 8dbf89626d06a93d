"""Do recipes rank alike over networks? Friedman's test with the critical difference of Nemenyi."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

import numpy as np

from shrinkproof.metrics.detection.names import MPC, RPC
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better
from shrinkproof.records import Json
from shrinkproof.statistics.ranks import friedman
from shrinkproof.summary.known import Known
from shrinkproof.summary.run import Run
from shrinkproof.summary.values import CORRUPTED, Derived, Exhibit

RANKS: Final = "ranks"

FEWEST_BLOCKS: Final = 2
FEWEST_TREATMENTS: Final = 3


def ranked(run: Run, rows: Sequence[Derived]) -> Iterator[Exhibit]:
    """Yield a rank test for accuracy, errors under corruption, and calibration error.

    Of detectors: for average precision, its mean under corruption, and calibration error.

    Blocks are the networks of the study, treatments the recipes that all of them have, the
    uncompressed model among them. Numbers are those of the first repeat.
    """
    known = Known(run, rows)
    metrics = [
        (run.settings.quality, "clean"),
        *((name, CORRUPTED) for name in _of_robustness(known)),
        *((name, "clean") for name in known.calibrations),
    ]
    for metric, place in metrics:
        yield Exhibit(RANKS, _test(known, metric, place))


def _of_robustness(known: Known) -> tuple[str, ...]:
    """Return the numbers about robustness of which there is a test."""
    if known.run.settings.task == "detection":
        return (MPC, RPC)
    return ("robustness.mean_error", *(["robustness.mce"] if _has_mce(known) else []))


def _has_mce(known: Known) -> bool:
    """Return whether any network was measured under all that mCE needs."""
    return any(known.value(c.key, "robustness.mce", CORRUPTED) for c in known.baselines())


def _test(known: Known, metric: str, place: str) -> Json:
    blocks = {
        baseline.model: {
            c.recipe: value
            for c in (baseline, *known.recipes(baseline.model))
            if (value := known.value(c.key, metric, place)) is not None
        }
        for baseline in known.baselines()
    }
    every = list(dict.fromkeys(name for values in blocks.values() for name in values))
    names = [name for name in every if all(name in values for values in blocks.values())]
    found: Json = {
        "metric": f"{metric}@{place}",
        "split": known.run.printing,
        "blocks": list(blocks),
        "left_out": [name for name in every if name not in names],
        "reason": _problem(blocks, names),
        "test": None,
    }
    if not found["reason"]:
        values_BT = np.array([[values[name] for name in names] for values in blocks.values()])
        named = described(metric)
        is_higher_better = named is not None and named.better is Better.HIGHER
        test = friedman(values_BT, names, is_higher_better=is_higher_better, blocks=list(blocks))
        found["test"] = {
            name: [list(clique) for clique in value]
            if name == "cliques"
            else list(value)
            if isinstance(value, tuple)
            else value
            for name, value in asdict(test).items()
        }
    return found


def _problem(blocks: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """Return why there is no test; empty where there is one."""
    if len(blocks) < FEWEST_BLOCKS:
        return f"a rank test needs at least {FEWEST_BLOCKS} networks, got {len(blocks)}"
    if len(names) < FEWEST_TREATMENTS:
        return (
            f"a rank test needs at least {FEWEST_TREATMENTS} recipes with this number for every "
            f"network (the uncompressed model counts), got {len(names)}"
        )
    return ""
