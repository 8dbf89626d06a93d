"""What `results --tidy` prints, and that `import` reads the same numbers from it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from shrinkproof.errors import DataError, UsageError
from shrinkproof.foreign import import_results
from shrinkproof.results import Results
from shrinkproof.results.tidy import tidy_rows, write_tidy
from shrinkproof.selectors import Selector

from .foreign_tables import conditions


@pytest.fixture
def own(finished_run: Path) -> Results:
    return Results.load(finished_run)


def test_rows_are_the_measured_numbers_of_the_printed_split(own):
    rows = list(tidy_rows(own))
    assert {row["split"] for row in rows} == {"", own.printing}
    assert {row["study"] for row in rows} == {own.spec.full_name}
    accuracies = [row for row in rows if row["metric"] == "accuracy.top1"]
    assert len(accuracies) == len(own.candidates) * len(own.spec.conditions_list())
    assert not any(row["metric"].startswith(("change.", "robustness.")) for row in rows)
    names = {row["variant"] for row in rows}
    assert "baseline" in names
    assert not any(name.startswith("control.") for name in names)
    assert any(name.startswith("dense-") for name in names)


def test_an_import_of_the_rows_has_the_same_numbers(own, tmp_path):
    table = write_tidy(own, tmp_path / "own.csv.gz")
    assert len(table.read_bytes()) < 100_000
    found = import_results([table], tmp_path / "run")
    assert found.spec.study == "own"
    assert found.data["splits"]["report"]["count"] == own.data["splits"][own.printing]["count"]
    (mapped,) = (c.label for c in found.candidates if c.label.endswith("/cluster8"))
    for text in (
        "accuracy.top1@clean",
        "calibration.ece@gaussian_noise:5",
        "cost.bytes_zip",
        "robustness.mean_error@corrupted",
    ):
        selector = Selector.parse(text)
        theirs = found.numbers.find(mapped, found.printing, selector)
        ours = own.numbers.find(mapped, own.printing, selector)
        assert theirs.value == pytest.approx(ours.value, rel=1e-5), text
    clean = Selector.parse("accuracy.top1@clean")
    theirs = found.numbers.find(mapped, found.printing, clean)
    ours = own.numbers.find(mapped, own.printing, clean)
    assert (theirs.low, theirs.high) == pytest.approx((ours.low, ours.high), abs=1e-5)
    assert theirs.count == ours.count


def test_notes_travel_along(own, tmp_path):
    told = {(row["metric"], row["note"]) for row in tidy_rows(own) if row["note"]}
    assert told, "some number of the run has a caveat"
    found = import_results([write_tidy(own, tmp_path / "own.csv")], tmp_path / "run")
    for metric, note in told:
        assert any(r.metric == metric and r.reason.endswith(note) for r in found.records), note


def test_one_metric_alone(own):
    rows = list(tidy_rows(own, ("accuracy.top1",)))
    assert {row["metric"] for row in rows} == {"accuracy.top1"}
    with pytest.raises(UsageError, match=r"must be one of .*accuracy.top1, .* got 'accuracy'"):
        list(tidy_rows(own, ("accuracy",)))


def test_the_file_is_the_same_each_time(own, tmp_path):
    first, second = (write_tidy(own, tmp_path / f"{name}.csv.gz") for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(UsageError, match=r"must end in \.csv or \.csv\.gz, got 'a\.xls'"):
        write_tidy(own, tmp_path / "a.xls")


def test_a_damaged_compressed_file_is_named(tmp_path):
    table = conditions(tmp_path / "conditions.csv")
    packed = tmp_path / "conditions.csv.gz"
    packed.write_bytes(gzip.compress(table.read_bytes())[:-20])
    with pytest.raises(DataError, match=r"conditions.csv.gz: must be a whole gzip file"):
        import_results([packed], tmp_path / "run")
