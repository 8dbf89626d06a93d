"""Files that are cut off, empty or gone: they count as missing, and running again repairs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import Candidate, Cell, Condition, Failure
from shrinkproof.results import Results
from shrinkproof.store import Shard, Store

from .runs import again, assert_repaired, finished, forget, shards_of

SHARD = Shard(
    Cell("00ff", "aa", "scores", "artifact", "report", Condition("fog", 3)),
    (
        Measurement("accuracy.top1", 0.1 + 0.2, "fraction", "higher", 0.25, 0.35, "x", 10),
        Measurement("calibration.ece", None, "fraction", "lower", reason="no images"),
    ),
    "env",
    {"accuracy.top1": 1},
    ("a note",),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "run")


def test_a_cell_cut_off_anywhere_is_missing_or_whole(store: Store) -> None:
    store.write_cell(SHARD)
    path = store.path / "cells" / "00ff.jsonl"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        found = store.read_cell("00ff")
        assert found is None or (found == SHARD and length == len(content) - 1)  # the line's end


@settings(max_examples=60, deadline=None)
@given(content=st.one_of(st.binary(max_size=60), st.from_type(type(None)) | st.just(b"[]\n{}")))
def test_a_cell_of_anything_is_missing(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | None
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "anything")
    (store.path / "cells").mkdir(parents=True, exist_ok=True)
    (store.path / "cells" / "00ff.jsonl").write_bytes(content or b"null\n")
    assert store.read_cell("00ff") is None


@pytest.mark.parametrize("file", ["logits.npy", "samples.parquet"])
def test_predictions_cut_off_anywhere_are_missing(store: Store, file: str) -> None:
    rng = np.random.default_rng(0)
    store.write_predictions(
        "00ff",
        ClassificationPredictions(
            rng.normal(size=(9, 3)).astype(np.float32), rng.integers(0, 3, 9), np.arange(9)
        ),
    )
    path = store.path / "predictions" / "00ff" / file
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert store.read_predictions("00ff") is None, length
    path.write_bytes(content)
    assert store.read_predictions("00ff") is not None


@pytest.mark.parametrize("content", ["", '{"label": "x"', "[]", "null"])
def test_a_damaged_failure_stays_a_failure(store: Store, content: str) -> None:
    store.write_failure("00ff", Failure("ValueError", "no"), label="x")
    (store.path / "cells" / "00ff.failed.json").write_text(content)
    assert "damaged" in store.failures()["00ff"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plan.jsonl", "study.yaml", "data.json", "inputs.json"])
@pytest.mark.parametrize("part", [0.0, 0.5])
def test_what_a_run_is_about_is_written_again(
    finished_run: Path, run_copy: Path, name: str, part: float
) -> None:
    from .runs import study_of

    study, kept = study_of(run_copy), finished(run_copy)
    content = (run_copy / name).read_bytes()
    (run_copy / name).write_bytes(content[: int(part * len(content))])
    study.run(run_copy)
    assert_repaired(run_copy, finished_run, kept)


def test_cells_and_predictions_cut_off_are_made_again(finished_run: Path, run_copy: Path) -> None:
    shards = shards_of(run_copy)
    for shard, share in zip(shards[::6], (0.0, 0.4, 0.99, 1.0), strict=False):
        content = shard.read_bytes()
        shard.write_bytes(content[: int(share * (len(content) - 2))])
    told = again(run_copy)
    assert sum("is damaged and is measured again" in text for text in told.warnings) == 4
    assert_repaired(run_copy, finished_run)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["complete.json", "model.onnx", "weights.safetensors"])
def test_a_damaged_candidate_is_made_again(finished_run: Path, run_copy: Path, name: str) -> None:
    """Its cells that are finished stay; those that lack it are measured on what is made again."""
    candidate = _cluster8(run_copy)
    forget(run_copy, [s for s in shards_of(run_copy) if _is_of(s, candidate)][:2])
    file = run_copy / "candidates" / candidate.key / name
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    kept = finished(run_copy)
    del kept[f"candidates/{candidate.key}/complete.json"]
    told = again(run_copy)
    assert any("net/cluster8" in text and name in text for text in told.warnings), told.warnings
    assert file.read_bytes() == content
    assert_repaired(run_copy, finished_run, kept)


@pytest.mark.slow
def test_an_exported_file_with_other_bytes_is_noticed(finished_run: Path, run_copy: Path) -> None:
    candidate = _cluster8(run_copy)
    forget(run_copy, [s for s in shards_of(run_copy) if _is_of(s, candidate)][:1])
    file = run_copy / "candidates" / candidate.key / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    again(run_copy)
    (failure,) = Results.load(run_copy).failures
    assert "model.onnx" in failure["message"]
    assert "other bytes than when it was made" in failure["message"]
    file.write_bytes((finished_run / "candidates" / candidate.key / "model.onnx").read_bytes())
    again(run_copy)
    assert_repaired(run_copy, finished_run)


def _cluster8(run: Path) -> Candidate:
    return next(c for c in Results.load(run).candidates if c.recipe == "cluster8")


def _is_of(shard: Path, candidate: Candidate) -> bool:
    found = json.loads(shard.read_text().splitlines()[-1])["end"]["cell"]
    return bool(found["candidate"] == candidate.key and found["form"] == "artifact")
