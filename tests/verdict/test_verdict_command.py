"""What ``shrinkproof verdict`` prints, and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from shrinkproof.cli import DONE, WRONG_USE, run
from shrinkproof.results import Results
from shrinkproof.verdict.judging import judge
from shrinkproof.verdict.papers import PAPERS
from shrinkproof.verdict.showing import p_text

from .made_runs import TUNE, baseline, prune, run_of, trainings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("verdict") / "made"
    made = [
        baseline(300, confidence=0.95, fog=220),
        *trainings("dense", [302, 303, 304], (TUNE,), role="control", fog=222),
        *trainings("p", [310, 311, 313], prune(0.5), control="dense", fog=230),
    ]
    scores = ["accuracy.top1", "calibration.ece[bins=10]"]
    run_of(path, {"net": made}, uses={"net": "cifar:resnet20"}, scores=scores)
    return path


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(["verdict", *arguments]) == DONE
    return capsys.readouterr().out.splitlines()


def test_every_claim_is_printed_with_a_verdict(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = lines_of(capsys, str(folder), "--paper", "mitra2024")
    text = "\n".join(lines)
    assert max(len(line) for line in lines) <= 80
    assert "A1  " in text
    assert "arXiv:2405.20876" in text
    assert "1 conditions instead of 75" in text
    assert "resnet20 is not among the published ones" in text
    assert any("reproduced" in line and "net " in line for line in lines)


def test_json_has_every_claim_and_outcome(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines_of(capsys, str(folder), "--paper", "mitra2024", "--json")
    found = json.loads(line)
    assert found["version"] == 1
    assert found["paper"]["name"] == "mitra2024"
    assert all(claim["outcomes"] for claim in found["claims"])
    first = found["claims"][0]["outcomes"][0]
    assert first["trainings"] == 3
    assert first["low"] < first["value"] < first["high"]


def test_markdown_is_a_table_with_notes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, str(folder), "--paper", "mitra2024", "--markdown")
    half = lines.index("Controls, which decide nothing:")
    parts = lines[:half], lines[half:]
    for part, columns in zip(parts, (8, 7), strict=True):
        rows = [line for line in part if line.startswith("|")]
        assert {line.count("|") for line in rows} == {columns + 1}
        numbers = [int(line.split(". ")[0]) for line in part if re.match(r"\d+\. ", line)]
        last = {int(n) for row in rows for n in re.findall(r"\d+", row.split(" | ")[-1])}
        assert last, "rows refer to notes"
        assert max(numbers) >= max(last), "to those that stand here or before"
    table = [line for line in lines if line.startswith("|")]
    assert "1." in {line.split(" ")[0] for line in parts[0]}, "claims have the first notes"
    assert any(line.startswith("* p: how likely chance alone") for line in lines)
    assert any(cell.strip().startswith(("for ", "against ")) for cell in "".join(table).split("|"))


def test_a_network_is_called_by_its_run_only_where_there_are_several(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Claims on detectors have no run here, which is none to tell apart.
    rows = [
        line
        for line in lines_of(capsys, str(folder), "--paper", "mantowsky2023", "--markdown")
        if re.match(r"\| B\d+", line)
    ]
    assert {line.split(" | ")[3] for line in rows if "detector" in line} == {"all networks"}
    assert any(" | net | " in line for line in rows)
    assert not any("net of " in line for line in rows)


def test_an_unknown_paper_is_refused_with_the_nearest_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verdict", str(folder), "--paper", "mitra2023"]) == WRONG_USE
    assert "did you mean 'mitra2024'" in capsys.readouterr().err


def test_a_directory_without_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verdict", str(tmp_path), "--paper", "mitra2024"]) == WRONG_USE
    assert str(tmp_path) in capsys.readouterr().err


def test_a_run_of_another_task_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "boxes"
    run_of(path, {"net": [baseline()]})
    text = (path / "study.yaml").read_text()
    scores = "measure:\n  scores: [detection.ap]"
    head = text.partition("measure:")[0]
    tail = text.partition("models:")[2]
    (path / "study.yaml").write_text(f"{head}{scores}\nmodels:{tail}task: detection\n")
    assert run(["verdict", str(path), "--paper", "mitra2024"]) == WRONG_USE
    assert "are about classification, got detection" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("right", "wrong", "text"),
    [
        (0.01, 0.0001, "for .010"),  # small improvements: the verdict is that it is reproduced
        (0.3, 0.02, "against .020"),
        (0.0001, 0.9, "for <.001"),
        (1.0, 1.0, "1.000"),
        (None, None, ""),
    ],
)
def test_p_values_say_of_which_direction_they_are(
    folder: Path, right: float | None, wrong: float | None, text: str
) -> None:
    (found, *_) = judge(PAPERS["mitra2024"], [Results.load(folder)])
    assert p_text(replace(found, adjusted_p=right, adjusted_p_against=wrong)) == text


def test_notes_of_what_is_not_comparable_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [baseline(), *trainings("p", [350, 351], prune(0.5))]
    path = tmp_path / "made"
    run_of(path, {"net": made}, source="digits")
    (path / "cells" / "net-p-1-clean-artifact.jsonl").unlink()
    text = "\n".join(lines_of(capsys, str(path), "--paper", "mitra2024"))
    assert "data: digits instead of cifar10:test" in text
    assert "not finished: 1 of 3 cells missing" in text
