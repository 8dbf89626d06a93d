"""A study in another precision, and one whose memory is too small for its batches."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.artifacts.session import Session
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.fidelity import FLOAT32
from shrinkproof.results import Results
from shrinkproof.results.caveats import caveats_of
from shrinkproof.study import Study
from shrinkproof.study.plan import recipe_of
from shrinkproof.study.work.preparing import training_key

from ..study_builder import STUDY, comparable, rewrite_study, write_study

LEFT_OUT = (
    "  cost: {latency: {repeats: 20, warmup: 1, processes: 1}}\n",
    STUDY[STUDY.index("  prune{ratio}") : STUDY.index("  cluster8")],
    "  contrast: [3]\n",
    "1, ",
)
SMALL = functools.reduce(lambda text, part: text.replace(part, ""), LEFT_OUT, STUDY)
"""Two candidates without training, under one corruption."""

TWIN = SMALL.replace("measure:\n", "measure:\n  form: twin\n")


def _cells(text: str, folder: Path) -> dict[tuple[str, str, str], str]:
    plan = Study.load(write_study(folder, text)).plan()
    return {(c.candidate + str(c.condition), c.form, c.split): c.key for c in plan.cells}


def test_precision_and_layout_are_in_the_keys_of_networks_alone(tmp_path: Path) -> None:
    plain = _cells(TWIN, tmp_path)
    for settings in ("{precision: bfloat16}", "{compile: true}", "{memory_format: contiguous}"):
        other = _cells(TWIN.replace("twin\n", f"twin\n  inference: {settings}\n"), tmp_path)
        changed = {place for place, key in plain.items() if other[place] != key}
        assert changed == {place for place in plain if place[1] == "twin"}


def test_a_gpu_is_in_every_key_of_predictions(tmp_path: Path) -> None:
    plain = _cells(SMALL, tmp_path)
    other = _cells(SMALL.replace("measure:\n", "measure:\n  inference: {device: cuda}\n"), tmp_path)
    same = {place for place, key in plain.items() if other.get(place) == key}
    assert {form for _, form, split in same if split} == set()


def test_the_batch_that_auto_stands_for_is_in_the_key_and_recorded(tmp_path: Path) -> None:
    auto = Study.load(write_study(tmp_path, SMALL.replace("batch: 32", "batch: auto"))).plan()
    named = Study.load(write_study(tmp_path, SMALL.replace("batch: 32", "batch: 256"))).plan()
    assert [cell.key for cell in auto.cells] == [cell.key for cell in named.cells]
    assert auto.splits["report"]["batch"] == 256


def test_plan_and_report_say_in_which_arithmetic_networks_run(tmp_path: Path) -> None:
    text = TWIN.replace("twin\n", "twin\n  inference: {precision: bfloat16}\n")
    told = "PyTorch networks run in bfloat16: numbers may differ from those of float32 on the CPU"
    assert told in Study.load(write_study(tmp_path, text)).plan().notes
    assert not any(
        "float32" in note for note in Study.load(write_study(tmp_path, TWIN)).plan().notes
    )


def test_training_on_another_device_does_not_go_on_from_this_ones(tmp_path: Path) -> None:
    text = STUDY.replace("epochs: 1", "epochs: 4") + "snapshots: 2\n"
    keys = []
    for device in ("cpu", "cuda"):
        changed = text.replace("measure:\n", f"measure:\n  inference: {{device: {device}}}\n")
        study = Study.load(write_study(tmp_path, changed))
        control = next(c for c in study.plan().candidates if c.role == "control")
        keys.append(training_key(study.inputs, control, recipe_of(control)))
    assert keys[0] != keys[1]


@pytest.mark.slow
def test_a_study_in_bfloat16_is_compared_with_float32(tmp_path: Path) -> None:
    Study.load(write_study(tmp_path, TWIN)).run(tmp_path / "plain")
    text = TWIN.replace("twin\n", "twin\n  inference: {precision: bfloat16}\n")
    rounded = Study.load(rewrite_study(tmp_path / "study.yaml", text))
    results = rounded.run(tmp_path / "rounded")
    assert results.failures == ()
    found = [r for r in results.records if r.metric in FLOAT32]
    assert len(found) == 2 * len(results.candidates)
    assert {(r.evaluator, r.form, r.split, r.count) for r in found} == {
        ("fidelity", "twin", "report", 60)
    }
    assert min(r.value or 0 for r in found if r.metric == FLOAT32[0]) > 0.9
    assert all(0 < (r.value or 0) < 0.05 for r in found if r.metric == FLOAT32[1])

    before, after = (comparable(tmp_path / name) for name in ("plain", "rounded"))
    assert not [row for row in before if row["metric"] in FLOAT32]
    assert _of_files(before)
    assert _of_files(before) == _of_files(after)
    rounded.run(tmp_path / "rounded")
    assert comparable(tmp_path / "rounded") == after


def _of_files(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [row for row in rows if row["evaluator"] == "scores" and row["form"] == "artifact"]


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Session.__call__

    def short(session: Session, inputs: np.ndarray) -> np.ndarray:
        if len(inputs) > 8:
            raise MemoryError
        return run(session, inputs)

    monkeypatch.setattr(Session, "__call__", short)
    halved = Study.load(write_study(tmp_path, SMALL)).run(tmp_path / "run")
    assert halved.failures == ()
    notes = {n for shard in halved.shards.values() for n in shard.notes}
    assert notes == {
        f"{c.label}: batch halved to 8 after out of memory; differs in the last bits from batches "
        "of 32"
        for c in halved.candidates
    }
    assert notes <= set(caveats_of(halved))


def test_a_gpu_that_is_not_there_fails_with_what_is_seen(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    text = TWIN.replace("twin\n", "twin\n  inference: {device: cuda}\n")
    results: Results = Study.load(write_study(tmp_path, text)).run(tmp_path / "run")
    told = {failure["message"] for failure in results.failures}
    assert any("device: cuda must be a GPU that PyTorch sees" in text for text in told)
    assert not results.shards or all(s.cell.evaluator == "size" for s in results.shards.values())
    assert {failure["type"] for failure in results.failures} <= {
        ModelError.__name__,
        "MissingExtraError",
    }
