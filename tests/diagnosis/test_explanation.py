"""Explanations of a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shrinkproof.diagnosis import explain
from shrinkproof.diagnosis.rules import baseline_of
from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.results import Results
from shrinkproof.results.naming import find_candidate

BROKEN = "accuracy.top1@clean >= 0.999"


@pytest.fixture(scope="module")
def results(finished_run: Path) -> Results:
    return Results.load(finished_run)


def test_a_candidate_is_named_by_its_label_or_its_recipe(results: Results) -> None:
    assert find_candidate(results, "net/cluster8").label == "net/cluster8"
    assert find_candidate(results, "cluster8").label == "net/cluster8"
    with pytest.raises(UnknownNameError, match=r"unknown candidate .*did you mean .*cluster8"):
        find_candidate(results, "cluster9")
    with pytest.raises(UsageError, match="must be a compressed candidate, got a baseline"):
        explain(results, "baseline")
    with pytest.raises(UsageError, match=r"rule 'top1 > 1': must be"):
        explain(results, "cluster8", rules=["top1 > 1"])
    with pytest.raises(UsageError, match=r"must have a condition, got none; write accuracy\.top1@"):
        explain(results, "cluster8", rules=["accuracy.top1 >= 0.9"])


def test_broken_rules_come_first_with_those_who_break_them_too(results: Results) -> None:
    found = explain(results, "prune0.8", rules=[BROKEN, "cost.bytes <= 1"], images=0)
    assert [(f.rule, f.split, f.is_met) for f in found.rules] == [
        (BROKEN, "select", False),
        (BROKEN, "report", False),
        ("cost.bytes <= 1", "", False),
    ]
    numbers = {f.split: f for f in found.rules if f.rule == BROKEN}
    assert numbers["report"].baseline is not None
    assert numbers["report"].control is not None
    assert found.words[0].startswith(f"{BROKEN} is broken on select: ")
    assert "The baseline breaks it, too" in " ".join(found.words)
    assert [scope.name for scope in found.scopes] == ["clean"]
    assert found.layers is None
    assert sum(row["share"] for row in found.costs) == pytest.approx(1.0)
    assert found.control.startswith("net/control.")


def test_without_a_broken_rule_everything_is_looked_at(results: Results) -> None:
    found = explain(results, "cluster8", rules=["accuracy.top1@clean >= 0"], images=0)
    assert not found.broken
    assert [scope.name for scope in found.scopes] == ["clean", "corrupted"]
    assert found.scopes[1].conditions == 3
    assert found.costs == ()


def test_layers_are_exchanged_and_restored_where_nothing_was_trained(results: Results) -> None:
    found = explain(results, "cluster8").layers
    assert found is not None
    assert (found.split, found.images, found.is_trained) == ("calibrate", 32, False)
    rows = {row.layer: row for row in found.rows}
    assert rows.keys() == {"0", "3", "8"}
    assert all(row.method == "exchanged" for row in rows.values())
    assert rows["3"].achieved == "8 levels"
    assert found.rows[0].divergence == max(row.divergence or 0.0 for row in found.rows)
    assert all(row.restored is not None for row in rows.values())


def test_zeros_alone_stand_for_a_layer_that_was_trained_on(results: Results) -> None:
    found = explain(results, "prune0.8", images=16).layers
    assert found is not None
    assert found.images == 16
    assert found.is_trained
    rows = {row.layer: row for row in found.rows}
    assert rows["3"].method == "zeros"
    assert rows["3"].achieved.endswith("% zeros")
    assert rows["3"].restored is None
    assert any("mixes two trainings" in note for note in found.notes)


def test_the_rest_is_told_where_the_data_are_gone(run_copy: Path) -> None:
    inputs = json.loads((run_copy / "inputs.json").read_text())
    (run_copy / "inputs.json").write_text(json.dumps({**inputs, "folder": "/nowhere"}))
    found = explain(Results.load(run_copy), "cluster8")
    assert found.layers is None
    assert found.scopes
    (note,) = [note for note in found.notes if "--root study=DIR" in note]
    assert note.startswith("the layers need the model and the images")
    again = explain(Results.load(run_copy), "cluster8", roots={"study": Path(inputs["folder"])})
    assert again.layers is not None


def test_predictions_that_are_gone_leave_the_rules(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "predictions")
    (run_copy / "predictions").mkdir()
    found = explain(Results.load(run_copy), "cluster8", rules=[BROKEN], images=0)
    assert found.rules[0].value is not None
    assert found.scopes == ()
    assert any("no predictions of both are stored" in note for note in found.notes)


def test_an_explanation_is_plain_json(results: Results) -> None:
    found = explain(results, "cluster8", rules=[BROKEN]).as_json()
    assert json.loads(json.dumps(found, allow_nan=False))["candidate"] == "net/cluster8"


def test_a_candidate_has_the_baseline_of_its_model(results: Results) -> None:
    assert baseline_of(results, find_candidate(results, "cluster8")).label == "net/baseline"
