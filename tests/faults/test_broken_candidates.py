"""Candidates that give NaN or no memory is left for: they fail visibly and cost nobody else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinkproof.artifacts.session import Session
from shrinkproof.records import Candidate
from shrinkproof.results import Results

from .runs import again, assert_repaired, finished, forget, shards_of

SLOW = pytest.mark.slow

Answer = Callable[[np.ndarray], np.ndarray]


def cluster8(run: Path) -> Candidate:
    return next(c for c in Results.load(run).candidates if c.recipe == "cluster8")


def break_candidate(
    patch: pytest.MonkeyPatch, candidate: Candidate, answer: Callable[[np.ndarray], Any]
) -> None:
    """Let the exported file of one candidate give something else from its second batch on."""
    call, calls = Session.__call__, iter(range(1_000_000))

    def broken(self: Session, inputs: np.ndarray) -> np.ndarray:
        logits = call(self, inputs)
        return logits if candidate.key not in str(self.path) or not next(calls) else answer(logits)

    patch.setattr(Session, "__call__", broken)


def no_memory(logits: np.ndarray) -> np.ndarray:
    raise MemoryError


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(lambda x: x * np.float32("nan"), "got NaN or infinity for ", id="nan"),
        pytest.param(
            lambda x: np.where(x > 0, np.inf, x), "got NaN or infinity for ", id="inf", marks=SLOW
        ),
        pytest.param(lambda x: x[:, :2], "logits must be ", id="classes", marks=SLOW),
        pytest.param(no_memory, "MemoryError", id="memory", marks=SLOW),
    ],
)
def test_a_candidate_that_breaks_under_one_condition_fails_there_only(
    finished_run: Path, run_copy: Path, answer: Answer, words: str
) -> None:
    forget(run_copy, shards_of(run_copy, condition="contrast:3"))
    kept = finished(run_copy)
    with pytest.MonkeyPatch.context() as patch:
        break_candidate(patch, cluster8(run_copy), answer)
        told = again(run_copy)
    results = Results.load(run_copy)
    assert {f["label"].partition(" ")[0] for f in results.failures} == {"net/cluster8"}
    assert all(words in f["message"] for f in results.failures)
    assert len(results.failures) == len(told.warnings) >= 1
    broken = [r for r in results.records if r.status == "failed"]
    assert broken
    assert all(r.recipe == "cluster8" and r.value is None for r in broken)
    assert again(run_copy).stages == {"measure": len(results.failures)}
    assert_repaired(run_copy, finished_run, kept)


@pytest.mark.slow
def test_weights_that_are_not_numbers_fail_the_candidate_only(
    finished_run: Path, run_copy: Path
) -> None:
    from shrinkproof.compressors.cluster import Clustering

    candidate = cluster8(run_copy)
    shutil.rmtree(run_copy / "candidates" / candidate.key)
    forget(run_copy, [s for s in shards_of(run_copy) if candidate.key in s.read_text()])
    kept, apply = finished(run_copy), Clustering.apply

    def poisoned(*values: Any, **named: Any) -> Any:
        found = apply(*values, **named)
        list(found[0].parameters())[-1].data.fill_(float("nan"))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Clustering, "apply", poisoned)
        again(run_copy)
    failures = Results.load(run_copy).failures
    assert failures
    assert {f["label"].partition(" ")[0] for f in failures} == {"net/cluster8"}
    shutil.rmtree(run_copy / "candidates" / candidate.key, ignore_errors=True)
    again(run_copy)
    assert_repaired(run_copy, finished_run, kept)
