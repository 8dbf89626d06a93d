"""Passes in parts: the same records as undivided ones, whatever happens in between."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinkproof.engines.inline import Inline
from shrinkproof.engines.processes import Processes
from shrinkproof.evaluators.scores import Scores
from shrinkproof.predictions import half
from shrinkproof.protocols import Engine
from shrinkproof.records import Failure
from shrinkproof.results import Results
from shrinkproof.store import Store, parts
from shrinkproof.study import Study
from shrinkproof.study import plan as planning
from shrinkproof.study.progress import Silence
from shrinkproof.study.work.measuring import Pass
from shrinkproof.study.work.parts import parts_of

from ..detection_run import detection_run
from ..study_builder import comparable

PIXELS = 16 * 16 * 32
"""One batch of the tiny study, so that its splits of 60 images have two parts."""


@dataclass
class Watched:
    """An engine that notes its passes, and may be interrupted after some of them."""

    limit: int = 1000
    inner: Engine = field(default_factory=Inline)
    passes: list[Pass] = field(default_factory=list)
    before_scores: Callable[[], object] = lambda: None
    beside: int = 1

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        listed = list(items)
        if listed and work.__name__ == "finish":
            self.before_scores()
        for item, outcome in self.inner.map(work, listed):
            if isinstance(item, Pass):
                self.passes.append(item)
                if len(self.passes) > self.limit:
                    raise KeyboardInterrupt
            yield item, outcome


@dataclass
class Told(Silence):
    warnings: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide passes of runs that this test starts."""
    monkeypatch.setattr(planning, "parts_of", partial(parts_of, pixels=PIXELS))


@pytest.fixture
def unmeasured(run_copy: Path) -> Path:
    """A run whose candidates are prepared, without scores of corrupted images."""
    results = Results.load(run_copy)
    for cell in results.cells:
        if cell.evaluator == "scores" and not cell.condition.is_clean:
            (run_copy / "cells" / f"{cell.key}.jsonl").unlink()
            shutil.rmtree(run_copy / "predictions" / cell.key)
    return run_copy


def run(folder: Path, origin: Path, engine: Engine, **more: Any) -> None:
    Study.load(origin.parent / "study" / "study.yaml").run(folder, engine=engine, **more)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("*/logits.npy"))}


@pytest.mark.usefixtures("divided")
def test_parts_give_the_records_and_files_of_an_undivided_run(
    unmeasured: Path, finished_run: Path
) -> None:
    engine = Watched()
    run(unmeasured, finished_run, engine)
    assert comparable(unmeasured) == comparable(finished_run)
    assert files(unmeasured / "predictions") == files(finished_run / "predictions")
    assert [str(work) for work in engine.passes][:2] == [
        "gaussian_noise:1 on select, part 1/2",
        "gaussian_noise:1 on select, part 2/2",
    ]
    assert list((unmeasured / "parts").iterdir()) == []


@pytest.mark.usefixtures("divided")
def test_a_killed_run_goes_on_with_the_missing_and_damaged_parts(
    unmeasured: Path, finished_run: Path
) -> None:
    first = Watched(limit=5)
    with pytest.raises(KeyboardInterrupt):
        run(unmeasured, finished_run, first)
    folder = unmeasured / "parts"
    stored = {str(p.relative_to(folder)) for p in folder.glob("*/*.npz")}
    assert len(stored) == sum(len(work.cells) for work in first.passes)
    lost, damaged = first.passes[0], first.passes[3]
    for work, change in ((lost, Path.unlink), (damaged, lambda p: p.write_bytes(b"PK half"))):
        assert work.part is not None
        change(folder / work.cells[0].key / f"{work.part.start}-{work.part.stop}.npz")
    second = Watched()
    run(unmeasured, finished_run, second)
    again = {(cell.key, w.part) for w in first.passes for cell in w.cells} & {
        (cell.key, w.part) for w in second.passes for cell in w.cells
    }
    assert again == {(work.cells[0].key, work.part) for work in (lost, damaged)}
    assert comparable(unmeasured) == comparable(finished_run)


@pytest.mark.slow
@pytest.mark.usefixtures("divided")
def test_a_part_that_is_damaged_inside_is_told_and_predicted_again(
    unmeasured: Path, finished_run: Path
) -> None:
    def damage() -> None:
        part = sorted((unmeasured / "parts").glob("*/*.npz"))[0]
        content = bytearray(part.read_bytes())
        content[200:260] = bytes(60)
        part.write_bytes(content)

    told = Told()
    run(unmeasured, finished_run, Watched(before_scores=damage), progress=told)
    assert len(told.warnings) == 1
    assert "damaged and is removed; run the same command again" in told.warnings[0]
    again = Watched()
    run(unmeasured, finished_run, again)
    assert [len(work.cells) for work in again.passes] == [1]
    assert comparable(unmeasured) == comparable(finished_run)


@pytest.mark.slow
def test_parts_of_another_division_are_not_mixed_in(
    unmeasured: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "parts_of", partial(parts_of, pixels=PIXELS))
    with pytest.raises(KeyboardInterrupt):
        run(unmeasured, finished_run, Watched(limit=3))
    monkeypatch.undo()
    engine = Watched()
    run(unmeasured, finished_run, engine)
    assert {work.part for work in engine.passes} == {None}
    assert comparable(unmeasured) == comparable(finished_run)
    run(unmeasured, finished_run, Watched())
    assert list((unmeasured / "parts").iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("divided")
def test_a_candidate_that_fails_in_two_parts_fails_with_the_first_one_and_costs_no_others(
    unmeasured: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Scores.predict
    broken = next(c for c in Results.load(finished_run).cells if str(c.condition) == "contrast:3")

    def failing(self: Scores, subjects: Any) -> Iterator[tuple[Any, Any]]:
        for subject, found in predict(self, subjects):
            is_broken = subject.key == broken.key
            where = subject.scene.images.index[0]
            yield subject, Failure("DataError", f"NaN at {where}") if is_broken else found

    class Backwards(Watched):
        def map(self, work: Any, items: Any) -> Iterator[tuple[Any, Any]]:
            return super().map(work, list(items)[::-1])

    monkeypatch.setattr(Scores, "predict", failing)
    run(unmeasured, finished_run, Backwards())
    study = Study.load(finished_run.parent / "study" / "study.yaml")
    index = study.inputs.splits([broken.split]).sets[broken.split].index
    failures = Store(unmeasured).failures()
    assert {key: value["message"] for key, value in failures.items()} == {
        broken.key: f"NaN at {index[0]}"
    }
    monkeypatch.setattr(Scores, "predict", predict)
    kept = Watched()
    run(unmeasured, finished_run, kept, retry=False)
    assert kept.passes == []
    run(unmeasured, finished_run, Watched())
    assert comparable(unmeasured) == comparable(finished_run)
    assert Store(unmeasured).failures() == {}


@pytest.mark.slow
@pytest.mark.usefixtures("divided")
def test_of_two_launchers_the_slower_one_finds_the_work_done(
    unmeasured: Path, finished_run: Path
) -> None:
    told = Told()
    faster = partial(run, unmeasured, finished_run, Watched())
    run(unmeasured, finished_run, Watched(before_scores=faster), progress=told)
    assert told.warnings == []
    assert comparable(unmeasured) == comparable(finished_run)
    assert Store(unmeasured).failures() == {}


@pytest.mark.slow
@pytest.mark.usefixtures("divided")
def test_a_part_that_is_written_while_another_launcher_ends_its_cell_is_no_failure(
    unmeasured: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = parts.write_columns

    def late(path: Path, columns: Any) -> None:
        monkeypatch.setattr(parts, "write_columns", write)
        run(unmeasured, finished_run, Watched())
        write(path, columns)

    monkeypatch.setattr(parts, "write_columns", late)
    told = Told()
    run(unmeasured, finished_run, Watched(), progress=told)
    assert told.warnings == []
    assert Store(unmeasured).failures() == {}
    assert comparable(unmeasured) == comparable(finished_run)
    assert list((unmeasured / "parts").iterdir()) == []


@pytest.mark.slow
def test_undivided_predictions_that_are_rounded_say_so(
    unmeasured: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half, "LARGE", 10)
    run(unmeasured, finished_run, Watched())
    measured = [
        shard
        for shard in Results.load(unmeasured).shards.values()
        if shard.cell.evaluator == "scores" and str(shard.cell.condition) == "contrast:3"
    ]
    assert measured
    assert all(half.NOTE in shard.notes for shard in measured)


@pytest.mark.slow
@pytest.mark.usefixtures("divided")
def test_parts_of_several_machines_name_all_of_them(unmeasured: Path, finished_run: Path) -> None:
    def move() -> None:
        store = Store(unmeasured)
        for key in store.in_parts():
            file = sorted((unmeasured / "parts" / key).iterdir())[-1]
            with np.load(file) as found:
                columns = dict(found)
            other = str(columns["made"]).replace('"logical_cores": ', '"logical_cores": 10')
            np.savez(file, **{**columns, "made": np.array(other)})

    run(unmeasured, finished_run, Watched(before_scores=move))
    shard = next(
        s for s in Results.load(unmeasured).shards.values() if str(s.cell.condition) == "contrast:3"
    )
    assert any("parts were measured on 2 machines" in note for note in shard.notes)
    assert shard.environment in Store(unmeasured).environments()


@pytest.mark.slow
@pytest.mark.usefixtures("divided")
def test_processes_put_parts_together_alike(unmeasured: Path, finished_run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(unmeasured, finished_run, Watched(5, Processes(workers=2), beside=2))
    run(unmeasured, finished_run, Processes(workers=2))
    assert comparable(unmeasured) == comparable(finished_run)
    assert files(unmeasured / "predictions") == files(finished_run / "predictions")


@pytest.mark.slow
@pytest.mark.usefixtures("divided")
def test_shares_of_parts_are_put_together_by_the_last_one(
    unmeasured: Path, finished_run: Path
) -> None:
    shares = [Watched() for _ in range(3)]
    for k, engine in enumerate(shares):
        run(unmeasured, finished_run, engine, stage="measure", share=f"{k + 1}/3")
    taken = [{(w.split, w.condition, w.part) for w in engine.passes} for engine in shares]
    assert all(taken)
    assert len(set.union(*taken)) == sum(map(len, taken))
    last = Watched()
    run(unmeasured, finished_run, last)
    assert last.passes == []
    assert comparable(unmeasured) == comparable(finished_run)
    assert list((unmeasured / "parts").iterdir()) == []


@pytest.mark.slow
def test_parts_of_a_detection_study_give_equal_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = detection_run()
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    for cell in Results.load(folder).cells:
        if cell.evaluator == "scores":
            (folder / "cells" / f"{cell.key}.jsonl").unlink()
            shutil.rmtree(folder / "predictions" / cell.key)
    monkeypatch.setattr(planning, "parts_of", partial(parts_of, pixels=20_000))
    engine = Watched()
    run(folder, finished, engine)
    assert {work.part.parts for work in engine.passes if work.part} == {2, 6}
    assert comparable(folder) == comparable(finished)


DIVIDED_RUN = f"""
import functools, sys
from shrinkproof.study import plan
plan.parts_of = functools.partial(plan.parts_of, pixels={PIXELS})
from shrinkproof.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_sigkill_among_parts_loses_none_of_them(
    unmeasured: Path, finished_run: Path, seed: int
) -> None:
    study = finished_run.parent / "study" / "study.yaml"
    command = [sys.executable, "-c", DIVIDED_RUN, "run", str(study), "--out", str(unmeasured)]
    stored: set[str] = set()
    begun = unmeasured / "parts"
    for wait in np.random.default_rng(seed).uniform(0.0, 0.6, 3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        before = len(list(begun.glob("*/*.npz")))
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(begun.glob("*/*.npz"))) > before:
                break
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait()
        now = {str(p.relative_to(begun)) for p in begun.glob("*/*.npz")}
        done = {p.stem for p in (unmeasured / "cells").glob("*.jsonl")}
        assert {p for p in stored - now if p.partition("/")[0] not in done} == set()
        stored = now
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert comparable(unmeasured) == comparable(finished_run)
    assert files(unmeasured / "predictions") == files(finished_run / "predictions")
    assert list(begun.iterdir()) == []
