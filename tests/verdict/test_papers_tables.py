"""Published tables of da Silva et al. 2025: our transcription, and what the claims say of it."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pytest

from shrinkproof.verdict.methods import METHODS
from shrinkproof.verdict.papers import PAPERS
from shrinkproof.verdict.papers.tables import (
    ORIGINAL,
    method_of,
    published_count,
    published_front,
    published_rows,
)

PUBLISHED = (
    Path(
        os.environ.get("SHRINKPROOF_DEV_DATA")
        or Path(__file__).resolve().parents[2] / "../shared/data"
    )
    / "published"
)
SUMMARY = PUBLISHED / "dasilva2025_cifar10_summary.csv"
CONDITIONS = PUBLISHED / "dasilva2025_cifar10_conditions.csv"

needs_files = pytest.mark.skipif(
    not (SUMMARY.is_file() and CONDITIONS.is_file()), reason="the published tables are not here"
)

CASES = [
    (data, network)
    for data in ("cifar10", "cifar100")
    for network in ("resnet50", "vgg19", "mobilenet_v2")
]


def points(data: str, network: str, method: str, of: str, column: str) -> float:
    rows = published_rows()
    return 100 * (rows[data, network, method][column] - rows[data, network, of][column])


def test_there_are_sixteen_variants_of_three_networks_on_both_data_sets():
    keys = list(published_rows())
    methods = [method for *place, method in keys if tuple(place) == CASES[0]]
    assert len(methods) == 16
    assert set(methods) - {ORIGINAL} <= set(METHODS)
    assert keys == [(*place, method) for place in CASES for method in methods]


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        ("p50", "prune"),
        ("c16+int8", "cluster+int8"),
        ("p50+c16+int8", "prune+cluster+int8"),
        ("pcqat+int8", "pcqat+int8"),
        ("original", "original"),
    ],
)
def test_variants_have_our_names(variant, method):
    assert method_of(variant) == method


def test_originals_are_their_own_reference():
    for place in CASES:
        row = published_rows()[*place, ORIGINAL]
        assert (row["mce"], row["relative_mce"], row["compression_ratio"]) == (1, 1, 1)


def test_compression_ratios_are_those_of_the_sizes():
    rows = published_rows()
    for (*place, _), row in rows.items():
        original = rows[place[0], place[1], ORIGINAL]["zip_mib"]
        low, high = (original / (row["zip_mib"] + step) for step in (0.006, -0.006))
        assert low - 0.006 <= row["compression_ratio"] <= high + 0.006


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_the_published_front_is_what_no_other_row_dominates(data):
    rows = {key[1:]: row for key, row in published_rows().items() if key[0] == data}
    goods = {
        key: (row["compression_ratio"], -row["mce"], row["accuracy_percent"])
        for key, row in rows.items()
    }
    front = {
        "/".join(key)
        for key, mine in goods.items()
        if not any(
            other != mine and all(a >= b for a, b in zip(other, mine, strict=True))
            for other in goods.values()
        )
    }
    assert set(published_front()[data]) == front


def test_31_of_45_variants_are_no_worse_on_either_data_set():
    assert published_count(1.0) == {"cifar10": (31, 45), "cifar100": (31, 45)}


def test_what_the_claims_say_of_the_tables_is_in_the_tables():
    claims = {claim.name: claim.published for claim in PAPERS["dasilva2025"].claims}
    rows = published_rows()

    def span(method: str, of: str, column: str, data: str = "") -> tuple[float, float]:
        found = [points(*p, method, of, column) for p in CASES if data in ("", p[0])]
        return min(found), max(found)

    def mce(method: str) -> list[float]:
        return [100 * rows[*place, method]["mce"] for place in CASES]

    for name, method in (("C4", "cluster"), ("C6", "prune+cluster")):
        low, high = span(method, ORIGINAL, "accuracy_percent")
        assert claims[name] == f"{low:+.1f} to {high:+.1f} points"
    for name, method in (("C5", "cluster"), ("C7", "prune+cluster")):
        assert claims[name] == f"mCE {min(mce(method)):.1f} to {max(mce(method)):.1f}"
    lost = [span("qat", "qat+int8", "accuracy_percent", data) for data in ("cifar10", "cifar100")]
    stated = [float(number) for number in re.findall(r"\d+\.\d", claims["C10"])]
    assert stated == pytest.approx([*lost[0], *lost[1]], abs=0.0501)
    assert claims["C11"] == f"mCE above 100 in {sum(v > 100 for v in mce('int8'))} of 6 cases"
    assert claims["C9"] == "5 of 48 on CIFAR-10, 9 of 48 on CIFAR-100"
    assert [len(members) for members in published_front().values()] == [5, 9]


def test_the_collapse_is_far_from_what_other_conversions_lose():
    of = "accuracy_percent"
    lost = {
        method: [points(*place, method, f"{method}+int8", of) for place in CASES]
        for method in ("qat", "pqat", "cqat", "pcqat")
    }
    assert min(lost.pop("qat")) == pytest.approx(10.6)
    assert max(value for values in lost.values() for value in values) == pytest.approx(0.22)


@needs_files
def test_our_cifar10_rows_are_those_of_the_published_summary():
    with SUMMARY.open(newline="") as file:
        theirs = {
            (r["dataset"], r["model"], method_of(r["variant"])): r for r in csv.DictReader(file)
        }
    ours = {key: row for key, row in published_rows().items() if key[0] == "cifar10"}
    assert set(ours) == set(theirs)
    for key, row in ours.items():
        for column in ("accuracy_percent", "mce", "relative_mce"):
            assert 100 * row[column] == pytest.approx(float(theirs[key][column]), abs=1e-9)
        for column in ("compression_ratio", "zip_mib", "on_published_pareto_front"):
            assert row[column] == float(theirs[key][column])


@needs_files
def test_our_mean_errors_are_those_of_the_published_conditions():
    errors: dict[tuple[str, str, str], list[float]] = {}
    with CONDITIONS.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["corruption"] != "clean":
                key = (row["dataset"], row["model"], method_of(row["variant"]))
                errors.setdefault(key, []).append(float(row["error"]))
    assert {len(values) for values in errors.values()} == {75}
    for key, values in errors.items():
        mean = sum(values) / len(values)
        assert published_rows()[key]["mean_error_percent"] == pytest.approx(mean, abs=5.1e-5)
