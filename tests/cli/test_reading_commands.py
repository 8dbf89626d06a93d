"""Commands that read a run: results, pareto, status, report."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from shrinkproof.errors import UsageError
from shrinkproof.records import COLUMNS
from shrinkproof.results import Results

from .conftest import Call

RECIPES = ("baseline", "prune0.5", "prune0.8", "cluster8")


def fail_candidate(run: Path, label: str) -> None:
    """Make a run one in which a candidate could not be prepared."""
    from shrinkproof.records import Failure

    found = Results.load(run)
    candidate = next(c for c in found.candidates if c.label == label)
    shutil.rmtree(run / "candidates" / candidate.key)
    for cell in found.cells:
        if cell.candidate == candidate.key:
            (run / "cells" / f"{cell.key}.jsonl").unlink()
    failure = Failure("CompressionError", "the loss is not finite; lower the learning rate", "")
    found.store.write_failure(candidate.key, failure, label=label)


def table(lines: list[str]) -> dict[str, list[str]]:
    """The rows below the rule of the first table, by candidate."""
    start = next(i for i, line in enumerate(lines) if line.startswith("───"))
    rows = {}
    for line in lines[start + 1 : lines.index("", start)]:
        name, *cells = line.removeprefix(">").replace(" ±", "±").split()
        rows[name] = cells
    return rows


def test_results_fit_80_columns_and_show_every_number(call: Call, finished_run: Path) -> None:
    done = call("results", finished_run)
    assert (done.code, done.err) == (0, "")
    assert max(len(line) for line in done.lines) <= 80
    assert "…" not in done.out
    rows = table(done.lines)
    assert set(RECIPES) < set(rows)
    assert any(name.startswith("control.finetune-") and len(name) == 21 for name in rows)
    assert all(len(cells) == 6 for cells in rows.values())
    numbers = Results.load(finished_run)
    record = next(
        r
        for r in numbers.records
        if (r.recipe, r.metric, r.split, r.form) == ("baseline", "cost.bytes", "", "artifact")
    )
    assert record.value is not None
    assert rows["baseline"][3] == f"{record.value / 1000:.1f}"
    assert rows["baseline"][0].count("±") == 1


def test_results_at_120_columns_have_the_same_table(
    call: Call, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = call("results", finished_run)
    monkeypatch.setenv("COLUMNS", "120")
    wide = call("results", finished_run)
    assert table(wide.lines) == table(narrow.lines)
    assert 80 < max(len(line) for line in wide.lines) <= 120


def test_results_explain_their_signs(call: Call, finished_run: Path) -> None:
    done = call("results", finished_run)
    text = " ".join(done.lines)
    assert "report split, 60 images, artifacts." in text
    assert "± is half the 95 % interval" in text
    assert "* means" not in text
    assert "means not measured" not in text


def test_contaminated_numbers_are_marked(call: Call, run_copy: Path) -> None:
    data = json.loads((run_copy / "data.json").read_text())
    data["contamination"]["net"] = {"report": "the model has seen 3 of its images"}
    (run_copy / "data.json").write_text(json.dumps(data))
    done = call("results", run_copy)
    assert all(cells[0].endswith("*") for cells in table(done.lines).values())
    text = " ".join(done.out.split())
    assert "* means contaminated, see the caveats" in text
    assert "caveat: net, report: contaminated, the model has seen 3 of its images" in text


def test_results_as_json(call: Call, finished_run: Path) -> None:
    done = call("results", finished_run, "--json")
    assert (done.code, done.err, len(done.lines)) == (0, "", 1)
    found = json.loads(done.out)
    assert sorted(found) == ["caveats", "records", "version"]
    assert found["version"] == 1
    assert len(found["records"]) == len(Results.load(finished_run).records)
    assert all(set(record) == set(COLUMNS) for record in found["records"])


def test_results_as_csv(call: Call, finished_run: Path) -> None:
    done = call("results", finished_run, "--csv")
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert tuple(rows[0]) == tuple(COLUMNS)
    assert len(rows) == len(Results.load(finished_run).records)


def test_several_models_get_a_heading_each(
    call: Call, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    found = Results.load(finished_run)
    other = tuple(replace(c, model="net2", key=f"2{c.key}") for c in found.candidates)
    double = Results(found.store, found.spec, found.candidates + other, found.cells)
    monkeypatch.setattr(Results, "load", lambda path: double)
    lines = [line.rstrip() for line in call("results", finished_run).lines]
    assert lines.count("   net") == lines.count("   net2") == 1
    assert max(map(len, lines)) <= 80


def test_pareto_shows_front_choice_and_reasons(call: Call, finished_run: Path) -> None:
    done = call("pareto", finished_run)
    decision = Results.load(finished_run).decision
    assert decision is not None
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.lines)) <= 80
    short = Results.load(finished_run).short
    assert set(table(done.lines)) == {short(label) for label in decision.front}
    assert any(line.startswith(f">  {short(decision.chosen)}") for line in done.lines)
    assert "on the select split; the numbers are those of the report split" in done.lines[0]
    text = " ".join(done.out.split())
    assert all(sentence in text for sentence in decision.why)


def test_pareto_as_json(call: Call, finished_run: Path) -> None:
    done = call("pareto", finished_run, "--json")
    found = json.loads(done.out)
    assert sorted(found) == sorted(
        (
            "version", "split", "front", "dominated", "infeasible", "undefined", "chosen", "why",
            "alternatives", "caveats", "candidates", "fronts", "rules_on_report", "uncertainty",
        )
    )  # fmt: skip
    assert found["split"] == "select"
    assert found["chosen"] in found["front"]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_pareto_ends_with_1_when_nobody_satisfies_the_rules(
    call: Call, run_copy: Path, form: tuple[str, ...]
) -> None:
    study = run_copy / "study.yaml"
    study.write_text(study.read_text() + '  require: ["accuracy.top1@clean >= 0.99"]\n')
    done = call("pareto", run_copy, *form)
    assert done.code == 1
    if form:
        assert json.loads(done.out)["chosen"] is None
    else:
        assert "accuracy.top1@clean >= 0.99" in done.out
        assert "out, because a rule is broken on the select split" in done.lines
        assert any(
            line.startswith("  prune0.5: accuracy.top1@clean >= 0.99") for line in done.lines
        )


def test_pareto_and_status_as_csv(call: Call, finished_run: Path) -> None:
    done = call("pareto", finished_run, "--csv")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    decision = Results.load(finished_run).decision
    assert decision is not None
    assert {row["candidate"] for row in rows if row["state"] == "front"} == set(decision.front)
    assert [row["candidate"] for row in rows if row["chosen"] == "True"] == [decision.chosen]
    assert sum(row["state"] == "control" for row in rows) == 1
    states = list(csv.DictReader(io.StringIO(call("status", finished_run, "--csv").out)))
    assert sum(int(row["cells_done"]) for row in states) == 60
    assert {row["prepared"] for row in states} == {"True"}


def test_pareto_of_other_objectives_shows_their_fronts(call: Call, finished_run: Path) -> None:
    wanted = ("--minimize", "cost.bytes", "--maximize", "accuracy.top1@clean")
    done = call("pareto", finished_run, *wanted)
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.lines)) <= 80
    assert "front of net, decided on the select split" in done.out
    front = json.loads(call("pareto", finished_run, *wanted, "--json").out)["fronts"][0]
    rows = list(csv.DictReader(io.StringIO(call("pareto", finished_run, *wanted, "--csv").out)))
    assert [row["candidate"] for row in rows if row["rank"] == "1"] == front["members"]
    assert set(front["members"]) == set(
        Results.load(finished_run).front(minimize=["cost.bytes"], maximize=["accuracy.top1@clean"])
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--minimize", "cost.byte"), "unknown metric 'cost.byte'; did you mean 'cost.bytes'"),
        (("--minimize", "accuracy.top1@clean"), "must be a metric that is better when lower"),
        (("--maximize", "top1"), "objective 'top1': must be 'metric'"),
        (("--maximize", "accuracy.top1"), "must name a condition, got none; write for example"),
    ],
)
def test_objectives_that_cannot_be(
    call: Call, finished_run: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = call("pareto", finished_run, *arguments)
    assert (done.code, done.out) == (2, "")
    assert expected in done.err


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_records_are_written_in_the_form_of_the_ending(
    finished_run: Path, tmp_path: Path, suffix: str
) -> None:
    import polars as pl

    results = Results.load(finished_run)
    path = results.write_records(tmp_path / f"records{suffix}")
    readers = {".csv": pl.read_csv, ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}
    found = readers[suffix](path, **({"infer_schema_length": None} if suffix != ".parquet" else {}))
    assert found["value"].to_list() == results.frame()["value"].to_list()
    with pytest.raises(UsageError, match=r"must end in \.csv, \.parquet, \.jsonl, got 'a.xls'"):
        results.write_records(tmp_path / "a.xls")


def test_pareto_without_a_select_section_says_what_to_add(call: Call, run_copy: Path) -> None:
    study = run_copy / "study.yaml"
    study.write_text(study.read_text().partition("select:\n")[0])
    done = call("pareto", run_copy)
    assert (done.code, done.out) == (2, "")
    assert "no 'select' section" in done.err


def test_status_of_a_finished_run(call: Call, finished_run: Path) -> None:
    done = call("status", finished_run)
    assert (done.code, done.err) == (0, "")
    assert done.lines == ["candidates 5/5   cells 60/60   failed 0   missing 0"]


def test_status_of_half_a_run_says_what_is_missing(call: Call, half_run: Path) -> None:
    done = call("status", half_run)
    assert done.code == 0
    assert done.lines[0] == "candidates 4/5   cells 43/60   failed 0   missing 17"
    assert "missing: net/prune0.8: 12 cell(s)" in done.lines
    assert "missing: net/cluster8: 5 cell(s)" in done.lines
    found = json.loads(call("status", half_run, "--json").out)
    assert found == {
        "version": 1,
        "candidates": 5,
        "prepared": 4,
        "cells": 60,
        "done": 43,
        "failed": 0,
        "missing": 17,
        "failures": [],
        "missing_of": {"net/prune0.8": 12, "net/cluster8": 5},
        "scale": "",
    }


def test_results_of_half_a_run_say_what_is_missing(call: Call, half_run: Path) -> None:
    done = call("results", half_run)
    assert done.code == 0
    assert table(done.lines)["prune0.8"] == ["-"] * 6
    text = " ".join(done.out.split())
    assert "- means not measured" in text
    assert "not finished: 17 of 60 measurements are missing, of net/prune0.8, net/cluster8" in text
    assert any(
        "not finished" in c for c in json.loads(call("results", half_run, "--json").out)["caveats"]
    )


def test_pareto_and_report_of_half_a_run_say_what_is_missing(
    call: Call, half_run: Path, tmp_path: Path
) -> None:
    done = call("pareto", half_run)
    text = " ".join(done.out.split())
    assert done.code == 0
    reasons = done.lines[done.lines.index("not comparable") + 1 :]
    assert any(line.startswith("  prune0.8: ") for line in reasons)
    assert "not finished: 17 of 60" in text
    assert call("report", half_run, "-o", tmp_path / "page.html").code == 0
    assert "not finished: 17 of 60" in (tmp_path / "page.html").read_text()


def test_failures_end_with_1_and_are_named(call: Call, run_copy: Path) -> None:
    fail_candidate(run_copy, "net/cluster8")
    for command in ("results", "status"):
        done = call(command, run_copy)
        text = " ".join(done.out.split())
        assert done.code == 1
        assert "failed: net/cluster8: the loss is not finite; lower the learning rate" in text
    assert "failed 1   missing 0" in call("status", run_copy).out
    found = json.loads(call("status", run_copy, "--json").out)
    assert [(f["label"], f["type"]) for f in found["failures"]] == [
        ("net/cluster8", "CompressionError")
    ]
    assert table(call("results", run_copy).lines)["cluster8"] == ["failed"] * 6


def test_report_prints_its_path(call: Call, run_copy: Path, tmp_path: Path) -> None:
    done = call("report", run_copy)
    assert (done.code, done.err, done.out) == (0, "", f"{run_copy / 'report.html'}\n")
    assert (run_copy / "report.html").stat().st_size > 1000
    done = call("report", run_copy, "--out", tmp_path / "elsewhere.html")
    assert done.out == f"{tmp_path / 'elsewhere.html'}\n"


def test_report_into_a_missing_folder_is_explained(call: Call, run_copy: Path) -> None:
    done = call("report", run_copy, "-o", run_copy / "nowhere" / "page.html")
    assert done.code == 2
    assert "nowhere" in done.err
    assert "cannot be written" in done.err


@pytest.mark.parametrize("command", ["results", "pareto", "status", "report"])
def test_a_directory_that_is_no_run(call: Call, tmp_path: Path, command: str) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        done = call(command, folder)
        assert (done.code, done.out) == (2, "")
        assert f"{folder} is not a run directory" in done.err
        assert "shrinkproof run STUDY --out DIR" in done.err


def test_a_damaged_plan_is_explained(call: Call, run_copy: Path) -> None:
    plan = run_copy / "plan.jsonl"
    plan.write_bytes(plan.read_bytes()[:-40])
    done = call("status", run_copy)
    assert done.code == 2
    assert "plan.jsonl is damaged" in done.err


def test_a_missing_study_file_in_a_run_is_explained(call: Call, run_copy: Path) -> None:
    (run_copy / "study.yaml").unlink()
    done = call("results", run_copy)
    assert done.code == 2
    assert "study.yaml" in done.err


def test_fronts_without_any_option_are_unmet(call: Call, finished_run: Path) -> None:
    done = call("pareto", finished_run, "--maximize", "accuracy.top1@fogg")
    assert done.code == 1
    assert "accuracy.top1@fogg was not measured on select" in " ".join(done.lines)
