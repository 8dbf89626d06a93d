"""The command certify: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shrinkproof.study import certifying

from ..certify_builder import CERTIFY, Planted, add_certify_images, write_promises
from .conftest import Call

PROMISES = """
certify:
  promises:
    - {error: 0.2, over: every}
    - {excess_error: 0.1, over: mean, up_to_severity: 3}
  candidates: all
"""


@pytest.fixture
def run(run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_certify_images(run_copy, tmp_path)
    planted = Planted({"baseline": 0.05, "cluster8": 0.1, "prune0.5": 0.3, "prune0.8": 0.05})
    monkeypatch.setattr(certifying, "measure", planted)
    return run_copy


def certify(call: Call, run: Path, block: str, *options: str):
    write_promises(run, block)
    ledger = run.parent / "ledger.jsonl"
    return call("certify", run, "--engine", "inline", "--ledger", ledger, *options)


def test_promises_candidates_and_scope_fit_80_columns(call: Call, run: Path) -> None:
    done = certify(call, run, PROMISES)
    assert done.code == 0
    assert max(len(line) for line in done.lines) <= 80
    assert "…" not in done.out
    words = " ".join(done.out.split())
    assert "certificate valid: 2 of 3 tested candidates are shown to keep all 2 promises" in words
    assert "1. error at most 20 % on clean images and under each of 3 corrupted" in words
    assert "2. error minus the baseline's at most 10 points in the mean over" in words
    assert "200 images, look 1 of 1, confidence 95 %, method holm" in words
    assert "smallest certified file (>): net/" in words
    assert "not certified net/prune0.5: error@every: not shown, 0.3 under" in words
    assert "scope: Certified is the exported file with this SHA-256" in words
    (row,) = [line for line in done.lines if line.strip().startswith("prune0.5 ")]
    assert row.split()[2:] == ["1", "clean", "0.300", "0.358", "1", "1"]


def test_json_is_the_certificate_of_the_run(call: Call, run: Path) -> None:
    done = certify(call, run, PROMISES, "--json")
    (file,) = (run / "certificates").glob("*/certificate.json")
    assert json.loads(done.out) == {"version": 1, "certificate": json.loads(file.read_text())}


def test_an_invalid_certificate_is_exploration_and_exits_1(call: Call, run: Path) -> None:
    assert certify(call, run, PROMISES).code == 0
    second = certify(call, run, CERTIFY)
    assert second.code == 1
    assert second.lines[0].startswith("certificate invalid: look 2 at these images")
    assert "Nothing is certified. The numbers below are exploration." in second.lines
    assert "none of the" not in second.out


def test_nobody_certified_exits_1(call: Call, run: Path) -> None:
    done = certify(call, run, CERTIFY.replace("0.2", "0.01"))
    assert done.code == 1
    assert done.lines[0].startswith("certificate valid: 0 of 3 tested candidates are shown")


def test_a_study_without_promises_is_wrong_usage(call: Call, run: Path) -> None:
    done = certify(call, run, "")
    assert (done.code, done.out) == (2, "")
    assert "the study has no 'certify' section" in done.err
