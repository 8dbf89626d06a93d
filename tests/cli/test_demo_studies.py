"""The demos: their study files are sound, and nobody else's is overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from shrinkproof.demo import classification, detection, run_demo
from shrinkproof.errors import UsageError
from shrinkproof.spec import load_study_spec
from shrinkproof.study.progress import Silence


@pytest.mark.parametrize("demo", [classification, detection], ids=["classification", "detection"])
def test_study_files_are_sound(demo: object) -> None:
    text = demo.STUDY  # type: ignore[attr-defined]
    assert load_study_spec(text).task in text


@pytest.mark.parametrize("task", ["classification", "detection"])
@pytest.mark.parametrize("change", [("study: demo", "study: mine-"), ("", "")])
def test_another_study_stays_as_it_is(
    tmp_path: Path, task: Literal["classification", "detection"], change: tuple[str, str]
) -> None:
    other = classification if task == "detection" else detection
    text = other.STUDY.replace(*change)
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UsageError, match=f"must be empty or hold a demo of task {task}, got"):
        run_demo(tmp_path, Silence(), task)
    assert (tmp_path / "study.yaml").read_text() == text
