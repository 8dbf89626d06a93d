"""Commands about what is measured elsewhere: import, kit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Call

ROWS = """model,variant,corruption,severity,error
net,original,clean,0,0.1
net,original,fog,3,0.2
net,int8,clean,0,0.12
net,int8,fog,3,0.3
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.csv"
    path.write_text(ROWS)
    return path


def test_a_table_becomes_a_run_that_all_readers_take(call: Call, table: Path, tmp_path: Path):
    out = tmp_path / "run"
    done = call("import", table, "--out", out)
    assert done.code == 0, done.err
    assert done.lines[0] == f"{out}: 2 candidate(s) of 1 network(s), 2 condition(s)"
    for command in ("results", "pareto", "status"):
        assert call(command, out).code == 0
    assert "int8" in call("results", out).out
    assert "net/baseline" in call("pareto", out).out


def test_own_results_go_out_and_come_back(call: Call, finished_run: Path, tmp_path: Path):
    table = tmp_path / "tiny.csv"
    done = call("results", finished_run, "--tidy", table, "--metric", "accuracy.top1")
    assert (done.code, done.lines) == (0, [str(table)]), done.err
    assert call("import", table, "--out", tmp_path / "again").code == 0
    assert "cluster8" in call("results", tmp_path / "again").out
    beside = tmp_path / "beside.csv"
    done = call("results", finished_run, "--json", "--tidy", beside, "--metric", "accuracy.top1")
    assert done.code == 0, done.err
    json.loads(done.out)
    assert beside.read_bytes() == table.read_bytes()
    refused = call("results", finished_run, "--metric", "accuracy.top1")
    assert (refused.code, refused.out) == (2, "")
    assert "--metric: needs --tidy FILE" in refused.err


def test_options_may_come_first_and_the_command_may_be_named(call: Call, table, tmp_path):
    assert call("import", "--out", tmp_path / "a", table).code == 0
    assert call("import", "results", table, "-o", tmp_path / "b", "--rounded").code == 0
    assert "rounded: true" in (tmp_path / "b" / "study.yaml").read_text()


def test_there_is_nothing_to_score(call: Call, table: Path, tmp_path: Path):
    call("import", table, "--out", tmp_path / "run")
    done = call("score", tmp_path / "run")
    assert done.code == 0
    assert "nothing to score" in done.out + done.err
    assert call("score", tmp_path / "run", "--metric", "calibration.ece").code == 2


def test_a_directory_is_needed(call: Call, table: Path):
    done = call("import", table)
    assert done.code == 2
    assert "--out" in done.err


def test_a_wrong_table_is_explained(call: Call, table: Path, tmp_path: Path):
    table.write_text(ROWS.replace("0.3", "x"))
    done = call("import", table, "--out", tmp_path / "run")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("theirs.csv:5: error must be a finite number, got 'x'")


def test_an_imported_run_cannot_be_run(call: Call, table: Path, tmp_path: Path):
    call("import", table, "--out", tmp_path / "run")
    done = call("run", tmp_path / "run" / "study.yaml", "--out", tmp_path / "again")
    assert done.code == 2
    assert "nothing can be run" in done.err


def test_help_shows_both_forms(call: Call):
    done = call("import", "--help")
    assert done.code == 0
    assert "predictions" in done.out
    assert "--probabilities" in call("import", "predictions", "--help").out


def test_a_kit_says_what_to_do_with_it(call: Call, run_copy: Path, tmp_path: Path):
    done = call("kit", run_copy, "-o", tmp_path / "kit", "--condition", "clean", "--limit", "3")
    assert done.code == 0, done.err
    assert "3 images of report under 1 condition(s)" in done.out
    assert "--split select" in done.out
    assert "shrinkproof import predictions" in done.out
    assert (tmp_path / "kit" / "run_on_target.py").is_file()


def test_boxes_are_refused(call: Call, run_copy: Path, tmp_path: Path):
    done = call(
        "import", "predictions", tmp_path / "boxes.json", "--run", run_copy, "--candidate", "npu",
        "--condition", "clean",
    )  # fmt: skip
    assert done.code == 2
    assert "onnx:FILE" in done.err
