"""Two runs with four kinds of candidates, and what was exported of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..study_builder import STUDY, write_study

RECIPES = """
recipes:
  channels0.5:
    steps:
      - prune.channels: {ratio: 0.5, round_to: 1}
  int8:
    steps:
      - quantize.static
conditions:
  contrast: [3]
measure:
  intervals: {replicates: 100}
select:
  minimize: [robustness.mean_error, cost.bytes_zip]
  require: ["accuracy.top1@clean >= 0.05"]
"""

KINDS = {
    "prune0.5": "finished_run",
    "cluster8": "finished_run",
    "channels0.5": "small_run",
    "int8": "small_run",
}
"""Recipe -> fixture of its run."""


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a channel-pruned and an int8 candidate; read only."""
    from shrinkproof.study import Study

    folder = tmp_path_factory.mktemp("small")
    text = STUDY[: STUDY.index("recipes:")] + RECIPES.lstrip()
    Study.load(write_study(folder / "study", text)).run(folder / "run")
    return folder / "run"


@dataclass(frozen=True)
class Sample:
    """A candidate, its run, and the folder it was exported to; read only."""

    run: Path
    kind: str
    folder: Path

    @property
    def stored(self) -> Path:
        """The folder of the candidate in its run."""
        return stored(self.run, self.kind)


def stored(run: Path, recipe: str) -> Path:
    """Return the folder of a candidate in its run."""
    from shrinkproof.results import Results

    (key,) = [c.key for c in Results.load(run).candidates if c.recipe == recipe]
    return run / "candidates" / key


@pytest.fixture(scope="session", params=sorted(KINDS))
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """One kind of candidate after the other."""
    from shrinkproof.export import export_candidate

    kind = request.param
    run = request.getfixturevalue(KINDS[kind])
    folder = tmp_path_factory.mktemp("exported") / kind
    export_candidate(run, kind, folder, images=40)
    return Sample(run, kind, folder)


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A private copy of the run; its study lies where the original's does."""
    return Path(shutil.copytree(small_run, tmp_path / "run"))
