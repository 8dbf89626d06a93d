"""A real probe of the tiny study."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from shrinkproof.study import Study
from shrinkproof.study.estimate import estimate_study, work_of
from shrinkproof.study.estimate.making import OutOfTimeError, within

from ..study_builder import STUDY, rewrite_study

EXPLAINED = STUDY.replace("measure:\n", "measure:\n  saliency: {images: 8}\n")


def wait_for_ever(limit: AbstractContextManager[None]) -> None:
    with limit:
        while True:
            pass


@pytest.mark.slow
@pytest.mark.long
def test_a_probe_measures_everything_that_the_study_has(study_file: Path) -> None:
    rewrite_study(study_file, EXPLAINED)
    study = Study.load(study_file)
    work = work_of(study.spec, study.plan())
    found, rates = estimate_study(study.inputs, work, workers=2, seconds=120.0)
    names = [stage.name for stage in found.stages]
    assert names == ["prepare", "measure", "explain", "latency", "summary"]
    assert all(0 < stage.seconds <= stage.work for stage in found.stages)
    assert rates.made.keys() == {c.key for c in work.candidates}
    trained = {m.candidate.key for m in work.making if m.epochs}
    assert {key for key, made in rates.made.items() if made.epoch} == trained
    assert rates.shown.keys() == {"clean", "gaussian_noise:1", "gaussian_noise:5", "contrast:3"}
    assert rates.scored.keys() == {"select", "report"}
    assert rates.skipped == ()
    assert set(found.disk) == {"candidates", "predictions", "heat maps", "tables"}
    assert found.memory > 1e8
    json.dumps({"probe": rates.as_json(), "estimate": found.as_json()}, allow_nan=False)


@pytest.mark.slow
def test_a_probe_without_time_says_what_it_left_out(study_file: Path) -> None:
    rewrite_study(study_file, STUDY)
    study = Study.load(study_file)
    work = work_of(study.spec, study.plan())
    found, rates = estimate_study(study.inputs, work, workers=1, seconds=0.01)
    assert rates.made == {}
    assert len(rates.skipped) > 3
    assert found.notes[0] == "training is left out: there was no time to measure it"
    assert found.notes[1].startswith("there was no time to measure net/baseline, ")


def test_a_piece_that_never_ends_is_given_up() -> None:
    with pytest.raises(OutOfTimeError, match="not done after 0 s"):
        wait_for_ever(within(0.05))
    with within(60.0):
        pass
