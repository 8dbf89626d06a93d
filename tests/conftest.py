"""Fixtures that several areas share: the tiny study and one finished run of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .study_builder import write_study


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is known of large data is forgotten with the session, and never in the home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHRINKPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny study without any disturbance; tests must not write into it."""
    from shrinkproof.study import Study

    folder = tmp_path_factory.mktemp("finished")
    Study.load(write_study(folder / "study")).run(folder / "run")
    return folder / "run"


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A private copy of the finished run; its study lies where the original's does."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse parameters without an order: two test workers would collect different tests."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        values = mark.kwargs.get("argvalues", mark.args[-1])
        if isinstance(values, set | frozenset):
            raise pytest.UsageError(f"{metafunc.definition.nodeid}: sort the set of parameters")
