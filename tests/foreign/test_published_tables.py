"""The tables of da Silva et al. 2025: our numbers from their errors are the ones they published."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from shrinkproof.foreign import import_results
from shrinkproof.foreign.run import LIKE_PUBLISHED
from shrinkproof.results import Results
from shrinkproof.selectors import Selector

PUBLISHED = (
    Path(
        os.environ.get("SHRINKPROOF_DEV_DATA")
        or Path(__file__).resolve().parents[2] / "../shared/data"
    )
    / "published"
)
TABLES = [PUBLISHED / f"dasilva2025_cifar10_{name}.csv" for name in ("conditions", "summary")]

pytestmark = pytest.mark.skipif(
    not all(path.is_file() for path in TABLES), reason="the published tables are not here"
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return import_results(TABLES, tmp_path_factory.mktemp("published") / "run")


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    with TABLES[1].open(newline="") as file:
        return {
            f"cifar10-{row['model']}/{row['variant']}".replace("/original", "/baseline"): row
            for row in csv.DictReader(file)
        }


def test_every_row_is_a_candidate(imported, rows):
    assert {c.label for c in imported.candidates} == set(rows)
    assert len(rows) == 48


@pytest.mark.parametrize("name", ["mce", "relative_mce"])
def test_mce_equals_the_published_one_on_all_rows(imported, rows, name):
    ours, theirs = {}, {}
    for label, row in rows.items():
        found = imported.numbers.find(label, "report", Selector(f"robustness.{name}"))
        ours[label] = round(100 * found.value, 6)
        theirs[label] = float(row[name])
    assert ours == theirs


def test_the_pooled_front_equals_the_published_one(imported, rows):
    published = {k for k, row in rows.items() if row["on_published_pareto_front"] == "1"}
    assert set(imported.decision.front) == published
    assert any("the front pools 3 networks" in caveat for caveat in imported.caveats)


def test_costs_and_accuracy_are_those_of_the_summary(imported, rows):
    for label, row in rows.items():
        for name, value in (
            ("cost.compression_ratio_zip", float(row["compression_ratio"])),
            ("cost.bytes_zip", float(row["zip_mib"]) * 2**20),
            ("foreign.latency_p90_raspberry_pi4", float(row["latency_p90_s_raspberry_pi4"])),
            ("foreign.mce", float(row["mce"]) / 100),
        ):
            found = imported.numbers.find(label, "", Selector(name))
            assert found.value == pytest.approx(value, abs=1e-9)
        top1 = imported.numbers.find(label, "report", Selector("accuracy.top1", "clean"))
        assert top1.value == pytest.approx(float(row["accuracy_percent"]) / 100, abs=5.1e-5)


def test_the_import_says_how_far_published_numbers_are(imported):
    notes = [note for note in imported.caveats if note.startswith("published ")]
    assert len(notes) == 2
    assert all("48 of 48 equal ours with --rounded" in note for note in notes)
    assert LIKE_PUBLISHED in imported.caveats
    assert not any("clean accuracy" in note for note in imported.caveats)


@pytest.mark.slow
def test_exact_values_can_be_asked_for(tmp_path):
    found = import_results(TABLES, tmp_path / "run", rounded=False)
    assert LIKE_PUBLISHED not in found.caveats
    assert not found.spec.measure.robustness.rounded


def test_errors_alone_are_never_rounded_unasked(tmp_path):
    assert not import_results(TABLES[:1], tmp_path / "run").spec.measure.robustness.rounded
