"""Images that are gone, cut off or others than when the study was planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.study import Study
from shrinkproof.study.work.workplace import workplace

from ..study_builder import STUDY, comparable, write_study
from .runs import Told, finished, forget, shards_of

pytestmark = pytest.mark.slow

TEXT = (
    STUDY.partition("recipes:")[0].replace(
        "split: {from: arrays:test.npz, select: 60, report: 60}", "report: imagefolder:report"
    )
    + "conditions: {fog: [1], contrast: [3]}\n"
    + "measure: {form: twin, intervals: {replicates: 200}}\n"
)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one network on 12 image files."""
    folder = tmp_path_factory.mktemp("images")
    study = write_study(folder / "study", TEXT)
    rng = np.random.default_rng(0)
    for label in range(4):
        (place := folder / "study" / "report" / f"{label}").mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
    results = Study.load(study).run(folder / "run")
    assert results.failures == ()
    return folder / "run"


@pytest.fixture
def image(calm: Path) -> Path:
    return calm.parent / "study" / "report" / "2" / "1.png"


class Meddling(Told):
    """Damages an image when the passes begin: before a worker lists the files, or afterwards."""

    def __init__(self, damage: Callable[[], object], run: Path, *, is_listed: bool) -> None:
        super().__init__()
        self.damage = damage
        self.run = run
        self.is_listed = is_listed

    def begin(self, stage: str, total: int) -> None:
        super().begin(stage, total)
        if stage == "measure":
            if self.is_listed:
                workplace(str(self.run)).images(["report"])
            self.damage()


def _replace(image: Path) -> None:
    pixels = np.asarray(Image.open(image)) ^ 255
    Image.fromarray(pixels.astype(np.uint8)).save(image)


@pytest.mark.parametrize("is_listed", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(Path.unlink, id="removed"),
        pytest.param(lambda p: p.write_bytes(p.read_bytes()[:-40]), id="cut off"),
        pytest.param(lambda p: p.write_bytes(b""), id="emptied"),
        pytest.param(lambda p: p.write_text("<html>quota</html>"), id="no image"),
        pytest.param(_replace, id="replaced"),
    ],
)
def test_an_image_that_changes_after_planning_fails_the_passes_that_show_it(
    calm: Path, image: Path, damage: Callable[[Path], object], *, is_listed: bool
) -> None:
    study = Study.load(calm.parent / "study" / "study.yaml")
    records, content = comparable(calm), image.read_bytes()
    forget(calm, shards_of(calm)[:2])
    kept = finished(calm)
    try:
        meddling = Meddling(lambda: damage(image), calm, is_listed=is_listed)
        results = study.run(calm, progress=meddling)
    finally:
        image.write_bytes(content)
    assert [f["type"] for f in results.failures] == ["DataError"] * 2
    named = "1.png" if is_listed else "report"
    assert all(named in failure["message"] for failure in results.failures)
    assert study.run(calm).failures == ()
    assert finished(calm).items() >= kept.items()
    assert comparable(calm) == records
