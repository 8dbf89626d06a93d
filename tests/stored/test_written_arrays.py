"""Arrays as CIFAR-10-C has them: what is written is what is read, whatever happens in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.data.imageset import ImageSet
from shrinkproof.engines.processes import Processes
from shrinkproof.errors import DataError, StoreError, UnknownNameError, UsageError
from shrinkproof.records import CLEAN, Condition
from shrinkproof.stored import open_stored, work, writing
from shrinkproof.stored.writing import write_corrupted_set

from .conftest import array_images, content

TWO = ("gaussian_noise", "contrast")


def expected(images: ImageSet, condition: Condition, seed: int = 0) -> np.ndarray:
    return corrupt_batch(
        images.images[np.arange(len(images))],
        condition,
        preset="cifar",
        seed=seed,
        index=images.index,
    )


class Stopping:
    """An engine that is interrupted after some units."""

    name: ClassVar[str] = "stopping"

    def __init__(self, after: int) -> None:
        self.after = after

    beside: int = 1

    def map(self, make: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for number, item in enumerate(items):
            if number == self.after:
                raise KeyboardInterrupt
            yield item, make(item)


def test_what_is_written_is_what_is_read(toys: ImageSet, tmp_path: Path) -> None:
    written = write_corrupted_set(toys, tmp_path / "set", corruptions=TWO, seed=4)
    assert (written.format, written.failures) == ("cifar-c", {})
    assert sorted(content(tmp_path / "set")) == [
        "contrast.npy", "gaussian_noise.npy", "labels.npy", "manifest.json",
    ]  # fmt: skip
    stored = open_stored("cifar-c:set", {"study": tmp_path})
    assert stored.conditions() == tuple(
        Condition(name, s) for name in sorted(TWO) for s in range(1, 6)
    )
    stored.check(toys, stored.conditions())
    some = np.array([6, 0, 3])
    for condition in stored.conditions():
        pixels = stored.read(toys, condition, some)
        np.testing.assert_array_equal(pixels, expected(toys, condition, seed=4)[some])
        assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(stored.read(toys, CLEAN, some), toys.images[some])


def test_the_files_are_those_that_published_readers_expect(toys: ImageSet, tmp_path: Path) -> None:
    """Numpy alone, in the way of the readers of CIFAR-10-C."""
    write_corrupted_set(toys, tmp_path, corruptions=TWO)
    count = len(toys)
    labels = np.load(tmp_path / "labels.npy")
    assert labels.tolist() == toys.target.tolist() * 5
    for name in TWO:
        images = np.load(tmp_path / f"{name}.npy")
        assert (images.shape, images.dtype) == ((5 * count, *toys.shape, 3), np.uint8)
        assert images.flags.c_contiguous
        for severity in range(1, 6):
            part = images[(severity - 1) * count : severity * count]
            np.testing.assert_array_equal(part, expected(toys, Condition(name, severity)))


def test_a_subset_finds_its_images(toys: ImageSet, tmp_path: Path) -> None:
    write_corrupted_set(toys, tmp_path, corruptions=("contrast",))
    some = toys.take(np.array([5, 1])).take(np.array([1, 0]))
    stored = open_stored(f"cifar-c:{tmp_path}", {})
    condition = Condition("contrast", 3)
    stored.check(some, [condition])
    found = stored.read(some, condition, np.array([0, 1]))
    np.testing.assert_array_equal(found, expected(toys, condition)[[1, 5]])


@pytest.mark.parametrize("after", [0, 1, 4, 5, 11, 19])
def test_an_interrupted_set_is_completed_without_doing_things_twice(
    toys: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(writing, "_VALUES", 4 * toys.images[:1].size)  # two units per condition
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    write_corrupted_set(toys, calm, corruptions=TWO)
    with pytest.raises(KeyboardInterrupt):
        write_corrupted_set(toys, disturbed, corruptions=TWO, engine=Stopping(after))
    complete = [name for name in content(disturbed) if name.endswith(".npy") and "/" not in name]
    assert len(complete) == 1 + after // 10  # the labels, and an array after its ten units
    done: list[Condition] = []

    def counted(images: np.ndarray, condition: Condition, **settings: Any) -> np.ndarray:
        done.append(condition)
        return corrupt_batch(images, condition, **settings)

    monkeypatch.setattr(work, "corrupt_batch", counted)
    write_corrupted_set(toys, disturbed, corruptions=TWO)
    assert len(done) == 20 - after
    assert content(disturbed) == content(calm)
    assert not (disturbed / ".partial").exists()


def test_damage_of_the_unfinished_part_is_repaired(
    toys: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power failure the journal may know more than the disk."""
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    write_corrupted_set(toys, calm, corruptions=TWO)
    with pytest.raises(KeyboardInterrupt):
        write_corrupted_set(toys, disturbed, corruptions=TWO, engine=Stopping(3))
    (disturbed / ".tmp-12-ab").touch()
    partial = disturbed / ".partial" / "gaussian_noise.npy"
    partial.write_bytes(partial.read_bytes()[:3000])
    with (disturbed / ".partial" / "done.jsonl").open("a") as journal:
        journal.write('["gaussian_noise:4", 0, "tor')
    write_corrupted_set(toys, disturbed, corruptions=TWO)
    assert content(disturbed) == content(calm)


def test_a_file_that_the_manifest_knows_but_that_is_gone_is_made_again(
    toys: ImageSet, tmp_path: Path
) -> None:
    write_corrupted_set(toys, tmp_path, corruptions=TWO)
    before = content(tmp_path)
    (tmp_path / "contrast.npy").unlink()
    write_corrupted_set(toys, tmp_path, corruptions=TWO)
    assert content(tmp_path) == before


def test_processes_write_the_same_bytes(toys: ImageSet, tmp_path: Path) -> None:
    write_corrupted_set(toys, tmp_path / "one", corruptions=TWO)
    write_corrupted_set(toys, tmp_path / "two", corruptions=TWO, engine=Processes(workers=2))
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_corruptions_can_be_added(toys: ImageSet, tmp_path: Path) -> None:
    write_corrupted_set(toys, tmp_path / "a", corruptions=("contrast",))
    before = (tmp_path / "a" / "contrast.npy").stat().st_mtime_ns
    write_corrupted_set(toys, tmp_path / "a", corruptions=("gaussian_noise",))
    assert (tmp_path / "a" / "contrast.npy").stat().st_mtime_ns == before
    write_corrupted_set(toys, tmp_path / "b", corruptions=TWO)
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "holds a set with seed 0, this command asks for 1"),
        ({"preset": "imagenet"}, "with preset 'cifar', this command asks for 'imagenet'"),
        ({"images": array_images(seed=9)}, "with toys of fingerprint '.*', this command asks for"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_request_is_refused_by_name(
    toys: ImageSet, tmp_path: Path, changed: dict[str, Any], message: str, *, finished: bool
) -> None:
    if finished:
        write_corrupted_set(toys, tmp_path, corruptions=TWO)
    else:
        with pytest.raises(KeyboardInterrupt):
            write_corrupted_set(toys, tmp_path, corruptions=TWO, engine=Stopping(2))
    before = content(tmp_path)
    asked = {"images": toys, "folder": tmp_path, "corruptions": TWO, **changed}
    with pytest.raises(UsageError, match=message):
        write_corrupted_set(**asked)
    assert content(tmp_path) == before


def test_another_version_of_a_corruption_is_refused(toys: ImageSet, tmp_path: Path) -> None:
    write_corrupted_set(toys, tmp_path, corruptions=TWO)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["corruptions"]["contrast"] = 99
    path.write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="with contrast of version 99, this command asks for"):
        write_corrupted_set(toys, tmp_path, corruptions=TWO)


def test_foreign_files_are_never_replaced(toys: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "fog.npy").write_text("mine")
    with pytest.raises(UsageError, match=r"must be empty or hold a set .* it has 'fog\.npy'"):
        write_corrupted_set(toys, tmp_path, corruptions=("fog",))
    (tmp_path / "fog.npy").unlink()
    write_corrupted_set(toys, tmp_path, corruptions=("contrast",))
    (tmp_path / "fog.npy").write_text("mine")
    with pytest.raises(UsageError, match=r"fog\.npy must not exist"):
        write_corrupted_set(toys, tmp_path, corruptions=("fog",))
    assert (tmp_path / "fog.npy").read_text() == "mine"


def test_wrong_requests(toys: ImageSet, tmp_path: Path) -> None:
    def write(images: ImageSet = toys, **settings: Any) -> None:
        write_corrupted_set(images, tmp_path / "set", **settings)

    with pytest.raises(
        UsageError, match=r"severities must be 1 to 5, since the arrays .* got 1, 3"
    ):
        write(severities=(1, 3), corruptions=TWO)
    for severities in ((), (0, 1), (1, 1), (6,)):
        with pytest.raises(UsageError, match="severities must be of 1 to 5, each once"):
            write(severities=severities, corruptions=TWO)
    with pytest.raises(UnknownNameError, match="did you mean 'contrast'"):
        write(corruptions=("contrasts",))
    with pytest.raises(UnknownNameError, match="unknown preset 'cifar11'; did you mean 'cifar'"):
        write(preset="cifar11", corruptions=TWO)
    with pytest.raises(UsageError, match="at least 1 corruption"):
        write(corruptions=())
    with pytest.raises(DataError, match="does not say which corruption constants fit"):
        write(replace(toys, preset=""), corruptions=TWO)
    with pytest.raises(DataError, match=r"all 7 images of a source in their order, .* got 3"):
        write(toys.take(np.arange(3)), corruptions=TWO)
    with pytest.raises(DataError, match="in their order"):
        write(toys.take(np.arange(7)[::-1]), corruptions=TWO)
    assert not (tmp_path / "set").exists()


def test_names_of_sets_of_corruptions(toys: ImageSet, tmp_path: Path) -> None:
    written = write_corrupted_set(toys, tmp_path, corruptions=("quick-five", "contrast"))
    assert len(written.files) == 6


def test_a_failing_corruption_costs_the_others_nothing(
    toys: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(images: np.ndarray, condition: Condition, **settings: Any) -> np.ndarray:
        if condition == Condition("contrast", 2):
            raise ValueError("the lamp is broken")
        return corrupt_batch(images, condition, **settings)

    monkeypatch.setattr(work, "corrupt_batch", failing)
    written = write_corrupted_set(toys, tmp_path / "a", corruptions=("contrast", "gaussian_noise"))
    assert sorted(written.files) == ["gaussian_noise.npy", "labels.npy"]
    assert list(written.failures) == ["contrast:2"]
    assert "lamp" in written.failures["contrast:2"].message
    monkeypatch.undo()
    assert not write_corrupted_set(toys, tmp_path / "a", corruptions=TWO).failures
    write_corrupted_set(toys, tmp_path / "b", corruptions=TWO)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_disk_that_is_too_small_is_told_before_the_work(
    toys: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(StoreError, match=r"needs 0\.00 GB more, but the disk has 0\.00 GB free"):
        write_corrupted_set(toys, tmp_path, corruptions=TWO)


def test_a_disk_that_fills_up_is_told_and_finished_work_is_kept(
    toys: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(work.ArrayFormat, "_offset", full)
    with pytest.raises(
        StoreError, match=r"noise\.npy cannot be written: the disk is full; .* kept"
    ):
        write_corrupted_set(toys, tmp_path, corruptions=TWO)


def test_a_folder_that_is_a_file(toys: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "set").touch()
    with pytest.raises(StoreError, match="a file stands where a directory must be"):
        write_corrupted_set(toys, tmp_path / "set", corruptions=TWO)


def test_the_manifest_says_what_the_set_is_made_of(tmp_path: Path) -> None:
    images = array_images(height=24, width=30)
    write_corrupted_set(images, tmp_path, corruptions=TWO, seed=3)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 3
    assert manifest["preset"] == "cifar"
    assert manifest["source"]["reference"] == "toys"
    assert manifest["source"]["fingerprint"] == images.fingerprint
    assert set(manifest["corruptions"]) == set(TWO)
    assert set(manifest["files"]) == {"labels.npy", "contrast.npy", "gaussian_noise.npy"}
    assert manifest["frost"] == ""
    no_seed, size = manifest["caveats"]
    assert "no seed is known" in no_seed
    assert "made for 32 x 32 pixels, the images have 24 x 30" in size
    stored = open_stored(f"cifar-c:{tmp_path}", {})
    notes = stored.check(images, stored.conditions())
    assert "written by shrinkproof with preset 'cifar' and seed 3" in notes[0]
    assert len(notes) == 3


def test_the_source_of_frost_is_part_of_the_set(
    toys: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write_corrupted_set(toys, tmp_path, corruptions=("contrast", "frost"))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["frost"].startswith("procedural:")
    assert (
        written.caveats[-1] == "frost layers are procedural, not the photos of the published sets"
    )
    monkeypatch.setattr(writing, "frost_source", lambda folder: "photos:0123456789abcdef")
    with pytest.raises(UsageError, match=r"frost 'procedural:.*', this command asks for 'photos:"):
        write_corrupted_set(toys, tmp_path, corruptions=("frost",))
    again = write_corrupted_set(toys, tmp_path, corruptions=("contrast",))
    assert again.caveats == written.caveats
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
