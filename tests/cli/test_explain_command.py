"""The command that says what is behind the numbers of a candidate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shrinkproof.cli.explain import _row, _short
from shrinkproof.diagnosis.paired import Loss

from .conftest import Call

BROKEN = "accuracy.top1@clean >= 0.999"


def test_sentences_come_first_and_tables_fit_the_terminal(call: Call, finished_run: Path) -> None:
    done = call("explain", finished_run, "cluster8", "--rule", BROKEN)
    assert done.code == 0, done.err
    assert done.lines[0] == "net/cluster8, compared with net/baseline"
    assert done.lines[2].startswith(f"- {BROKEN} is broken on select: ")
    assert "clean on report, 60 images" in done.lines
    assert "layers, 32 calibrate images under clean" in done.lines
    assert all(len(line) <= 80 for line in done.lines if str(finished_run) not in line)
    assert call("explain", finished_run, "cluster8", "--rule", BROKEN).out == done.out


def test_json_is_one_object(call: Call, finished_run: Path) -> None:
    done = call("explain", finished_run, "cluster8", "--images", "0", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["version"] == 1
    assert found.keys() >= {"candidate", "words", "rules", "margins", "scopes", "layers", "notes"}
    assert found["layers"] is None


def test_costs_are_told_by_layer(call: Call, finished_run: Path) -> None:
    rule = ("--rule", "cost.bytes_zip <= 10", "--images", "0")
    done = call("explain", finished_run, "net/prune0.5", *rule)
    assert done.code == 0, done.err
    assert "layers with the most bytes, packed" in done.lines
    assert "it was compressed too little" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cluster9",), "did you mean"),
        (("baseline",), "must be a compressed candidate"),
        (("cluster8", "--rule", "nonsense"), "rule 'nonsense': must be"),
        (("cluster8", "--root", "cifar10"), "--root: must be NAME=PATH"),
    ],
)
def test_wrong_use_is_told(
    call: Call, finished_run: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = call("explain", finished_run, *arguments)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


def test_rows_mark_what_may_be_chance() -> None:
    row = Loss("cat", 0.3, 0.1, 0.2, 0.05, 0.35, 0.4, is_shown=False, share=0.5)
    line = "class       cat                    10.0 %   30.0 %   +20.0 (+5.0, +35.0) ?  50 %"
    assert _row("class", row) == line
    assert len(_row("corruption", row)) <= 80
    assert _short("a" * 30) == "aaaaaaaa...aaaaaaaa"
