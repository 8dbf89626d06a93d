"""The numbers of kept verdicts, computed once more from the kept records with nothing of ours."""

from __future__ import annotations

import csv
import functools
import gzip
import re
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

KEPT = Path(__file__).parents[2] / "results"
ECE, ACCURACY, HCC = "calibration.ece[bins=10]", "accuracy.top1", "saliency.hcc"


@functools.cache
def numbers(study: str) -> dict[tuple[str, str, str, str], float]:
    """Return ``(network, variant, condition, metric) -> value`` on the printed images."""
    with gzip.open(KEPT / study / "records.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return {
            (row["model"], row["variant"], row["condition"], row["metric"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["split"] == "report" and row["value"]
        }


def judged(study: str, claim: str, network: str) -> Any:
    """Return what equals the number in the claim's row, to half a unit of its last digit."""
    table, _, _ = (KEPT / study / "verdict.md").read_text("utf-8").partition("Controls, which")
    cells = [[c.strip() for c in line.split("|")] for line in table.splitlines()]
    (ours,) = (
        row[5]
        for row in cells
        if len(row) > 6 and re.match(rf"{claim}\b", row[1]) and row[4].split(" ")[0] == network
    )
    number = re.match(r"[-+]?[\d.]+", ours)
    assert number, ours
    digits = len(number.group().partition(".")[2])
    return pytest.approx(float(number.group()), abs=0.51 * 10**-digits)


class Network:
    """What a kept run says of one network."""

    def __init__(self, study: str, name: str) -> None:
        self.name, self.values = name, numbers(study)
        self.variants = {variant for model, variant, _, _ in self.values if model == name}

    def conditions(self, severity: str = "") -> list[str]:
        found = {condition for model, _, condition, _ in self.values if model == self.name}
        return sorted(c for c in found if ":" in c and c.endswith(severity))

    def value(self, variant: str, metric: str, conditions: Iterable[str] = ("clean",)) -> float:
        return fmean(self.values[self.name, variant, c, metric] for c in conditions)

    def repeated(self, recipe: str, metric: str, conditions: Iterable[str] = ("clean",)) -> float:
        """Return the mean over the trainings of a recipe; `-longer` is the one of ResNet-8."""
        again = [v for v in self.variants if v.partition("#")[0] in (recipe, f"{recipe}-longer")]
        return fmean(self.value(v, metric, conditions) for v in again)

    def change(
        self, recipes: Iterable[str], metric: str, conditions: Iterable[str] = ("clean",)
    ) -> float:
        """Return 100 times the mean change of recipes from the original."""
        conditions = tuple(conditions)
        changed = fmean(self.repeated(recipe, metric, conditions) for recipe in recipes)
        return 100 * (changed - self.value("baseline", metric, conditions))


WEIGHTS = ("weight0.3", "weight0.5", "weight0.7")


def test_mitra2024() -> None:
    study = "mitra2024-cpu"
    own = Network(study, "resnet20")
    corrupted, worst = own.conditions(), own.conditions(":5")
    assert (len(corrupted), len(worst)) == (75, 15)
    for claim, value in {
        "A1": own.change(WEIGHTS, ECE),
        "A3": own.change(WEIGHTS, ECE, corrupted),
        "A4": own.change(WEIGHTS, ACCURACY),
        "A5": -own.change(WEIGHTS, ACCURACY, corrupted),
        "A9": 100 * own.value("baseline", ACCURACY),
        "A10": 100 * own.value("baseline", ACCURACY, worst),
        "A11": 100 * (own.value("baseline", ECE, worst) / own.value("baseline", ECE) - 1),
    }.items():
        assert value == judged(study, claim, own.name), claim


def test_the_slope_of_mitra2024() -> None:
    own = Network("mitra2024-cpu", "resnet20")
    ratios = (0.0, 0.3, 0.5, 0.7)
    changes = (0.0, *(own.change((recipe,), ECE) for recipe in WEIGHTS))
    middle = fmean(ratios)
    slope = sum((r - middle) * c for r, c in zip(ratios, changes, strict=True)) / sum(
        (r - middle) ** 2 for r in ratios
    )
    assert slope == judged("mitra2024-cpu", "A2", own.name)


@pytest.mark.parametrize(
    ("study", "network"),
    [
        ("mantowsky2023-cpu", "resnet20"),
        ("mantowsky2023-cpu", "resnet32"),
        ("mantowsky2023-vgg", "vgg16"),
    ],
)
def test_mantowsky2023(study: str, network: str) -> None:
    own = Network(study, network)
    ece = own.value("baseline", ECE)
    weights = ["weight0.5", "weight0.7"]
    for claim, value in {
        "B1": own.change(["hrank0.5"], ECE),
        "B2": own.change(["hrank0.5"], ACCURACY),
        "B3": own.change(["hrank0.7"], ECE),
        "B4": own.change(["hrank0.7"], ACCURACY),
        "B5": own.change(["hrank0.5"], ECE) / ece,
        "B6": own.change(["hrank0.7"], ECE) / ece,
        "B7": own.change(["hrank0.5", "hrank0.7"], ECE),
        "B8": own.change(["filter0.5", "filter0.7"], ECE),
        **({"B9": own.change(weights, ECE)} if own.variants.issuperset(weights) else {}),
    }.items():
        assert value == judged(study, claim, network), claim


@pytest.mark.parametrize("network", ["resnet20", "resnet32"])
def test_heat_maps_of_mantowsky2023_rank_as_accuracy_does(network: str) -> None:
    own = Network("mantowsky2023-cpu", network)
    recipes = [
        f"{method}{ratio}" for method in ("hrank", "filter", "weight") for ratio in (0.5, 0.7)
    ]
    by_maps = sorted(recipes, key=lambda recipe: own.repeated(recipe, HCC))
    by_accuracy = sorted(recipes, key=lambda recipe: own.repeated(recipe, ACCURACY))
    assert judged("mantowsky2023-cpu", "B12", network) == 1.0
    assert by_maps == by_accuracy


@pytest.mark.parametrize("network", ["resnet8", "resnet20"])
def test_dasilva2025(network: str) -> None:
    study = "dasilva2025-cpu"
    own = Network(study, network)
    corrupted = own.conditions()
    assert len(corrupted) == 75
    for claim, value in {
        "C4": own.change(["cluster"], ACCURACY),
        "C5": -own.change(["cluster"], ACCURACY, corrupted),
        "C6": own.change(["prune+cluster"], ACCURACY),
        "C7": -own.change(["prune+cluster"], ACCURACY, corrupted),
        "C11": -own.change(["int8"], ACCURACY, corrupted),
    }.items():
        assert value == judged(study, claim, network), claim


def test_the_larger_network_of_dasilva2025_comes_off_better() -> None:
    small, large = (Network("dasilva2025-cpu", name) for name in ("resnet8", "resnet20"))
    errors = [-own.change(["cluster"], ACCURACY, own.conditions()) for own in (small, large)]
    assert errors[1] - errors[0] == judged("dasilva2025-cpu", "C8", "all")
