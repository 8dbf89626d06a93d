"""Two launchers at once on one directory: work may be done twice, but nothing counts twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shrinkproof.errors import StoreError
from shrinkproof.records import Failure
from shrinkproof.store import Store
from shrinkproof.study import Study
from shrinkproof.study.work.preparing import Preparation, prepare
from shrinkproof.study.work.workplace import forget_workplace

from ..study_builder import STUDY, rewrite_study
from .runs import (
    Running,
    Told,
    again,
    assert_repaired,
    command,
    file_of,
    finished,
    forget,
    needs_proc,
    shards_of,
    study_of,
)


@pytest.mark.slow
@pytest.mark.long
@needs_proc
@pytest.mark.parametrize("second", [["--only", "*/cluster8"], []])
def test_two_at_once_make_one_run(finished_run: Path, tmp_path: Path, second: list[str]) -> None:
    study, run = file_of(finished_run), tmp_path / "run"
    running = [
        Running.start(command(study, run, *(["--only", "*/prune*"] if second else []))),
        Running.start(command(study, run, *second, workers=0)),
    ]
    assert [each.end() for each in running] == [0, 0], [each.text for each in running]
    kept = finished(run)
    told = again(run)
    assert told.stages == {}
    assert_repaired(run, finished_run, kept)


@pytest.mark.parametrize("stage", ["measure", pytest.param("latency", marks=pytest.mark.slow)])
def test_one_that_overtakes_another_does_no_harm(
    finished_run: Path, run_copy: Path, stage: str
) -> None:
    forget(run_copy, [*shards_of(run_copy)[::4], *shards_of(run_copy, "latency")[:2]])
    kept = finished(run_copy)

    class Overtaken(Told):
        def begin(self, name: str, total: int) -> None:
            super().begin(name, total)
            if name == stage:
                assert again(run_copy).stages

    study_of(run_copy).run(run_copy, progress=Overtaken())
    assert_repaired(run_copy, finished_run, kept)


def test_a_failure_that_the_other_repairs_meanwhile_is_none(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(run_copy)
    for key in ("aa", "bb"):
        store.write_failure(key, Failure("ValueError", "no"), label="x")
    read_text = Path.read_text

    def repaired(self: Path, *values: str, **named: str) -> str:
        if self.name == "aa.failed.json":
            self.unlink(missing_ok=True)
        return read_text(self, *values, **named)

    monkeypatch.setattr(Path, "read_text", repaired)
    assert store.failures().keys() == {"bb"}


@pytest.mark.parametrize("stage", ["prepare", "measure"])
def test_another_study_in_the_directory_ends_the_first_one(
    finished_run: Path, run_copy: Path, stage: str
) -> None:
    forget(run_copy, shards_of(run_copy)[:3])
    store = Store(run_copy)
    if stage == "prepare":
        shutil.rmtree(store.candidate(store.read_plan()[0][1].key))
    kept = finished(run_copy)
    other = rewrite_study(
        Path(shutil.copytree(finished_run.parent / "study", run_copy.parent / "study"))
        / "study.yaml",
        STUDY.replace("batch: 32\nrecipes", "batch: 16\nrecipes"),
    )

    class Usurped(Told):
        def begin(self, name: str, total: int) -> None:
            super().begin(name, total)
            if name == stage:
                store.write_json("inputs.json", Study.load(other).inputs.as_json())

    with pytest.raises(StoreError, match="must be of one study at a time"):
        study_of(run_copy).run(run_copy, progress=Usurped())
    now = finished(run_copy)
    new = [name for name in now.keys() - kept.keys() if not name.startswith("candidates/")]
    assert kept.items() <= now.items()
    assert not new, "a number is kept that may be the other study's"
    Study.load(file_of(finished_run)).run(run_copy)
    assert_repaired(run_copy, finished_run, kept)


def test_a_candidate_that_the_other_study_does_not_want_is_not_kept(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker may have read the other study's data; keys hold everything that decides."""
    store = Store(run_copy)
    candidates = store.read_candidates()
    made = next(candidate for candidate in candidates if candidate.label.endswith("/cluster8"))
    shutil.rmtree(store.candidate(made.key))
    monkeypatch.setattr(
        Store, "read_candidates", lambda self: tuple(c for c in candidates if c != made)
    )
    with pytest.raises(StoreError, match="another study has been run in that directory meanwhile"):
        prepare(Preparation(str(run_copy), made))
    forget_workplace()
    assert not store.has_candidate(made.key)
