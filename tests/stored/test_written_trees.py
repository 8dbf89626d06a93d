"""Folders of JPEG files as ImageNet-C has them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.jpeg import recompress
from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import load_images
from shrinkproof.engines.processes import Processes
from shrinkproof.errors import DataError
from shrinkproof.records import Condition
from shrinkproof.stored import open_stored, writing
from shrinkproof.stored.writing import write_corrupted_set

from .conftest import content
from .test_written_arrays import Stopping

TWO = ("gaussian_noise", "contrast")
SOME = (1, 4)


def expected(images: ImageSet, condition: Condition) -> np.ndarray:
    clean = images.images[np.arange(len(images))]
    return corrupt_batch(clean, condition, preset="imagenet", seed=0, index=images.index)


def test_what_is_written_is_what_is_read(photos: ImageSet, tmp_path: Path) -> None:
    out = tmp_path / "set"
    written = write_corrupted_set(photos, out, corruptions=TWO, severities=SOME, preset="imagenet")
    assert (written.format, written.failures) == ("imagenet-c", {})
    assert sorted(written.files) == [f"{name}/{s}" for name in sorted(TWO) for s in SOME]
    stored = open_stored("imagenet-c:set", {"study": tmp_path})
    assert stored.conditions() == tuple(Condition(n, s) for n in sorted(TWO) for s in SOME)
    stored.check(photos, stored.conditions())
    for condition in stored.conditions():
        pixels = stored.read(photos, condition, np.array([4, 0, 2]))
        np.testing.assert_array_equal(
            pixels, recompress(expected(photos, condition), 85)[[4, 0, 2]]
        )


def test_the_folders_are_those_that_published_readers_expect(
    photos: ImageSet, tmp_path: Path
) -> None:
    """Class folders under corruption and severity; names kept, all files .JPEG."""
    out = tmp_path / "set"
    write_corrupted_set(photos, out, corruptions=("contrast",), severities=(3,), preset="imagenet")
    assert sorted(content(out)) == [
        *(f"contrast/3/{name}" for name in (
            "cat/a.JPEG", "cat/a.b.JPEG", "cat/z.JPEG", "dog/10.JPEG", "dog/2.JPEG",
        )),
        "manifest.json",
    ]  # fmt: skip
    # What is left of a tree is an ordinary folder of class folders.
    again = load_images("imagefolder:set/contrast/3", {"study": tmp_path})
    assert again.classes == photos.classes
    clean = expected(photos, Condition("contrast", 3))
    for position, name in enumerate(["cat/a.b", "cat/a", "cat/z", "dog/10", "dog/2"]):
        with Image.open(out / f"contrast/3/{name}.JPEG") as image:
            assert image.format == "JPEG"
            pillow = io.BytesIO()
            Image.fromarray(clean[position]).save(pillow, "JPEG", quality=85)
            with Image.open(pillow) as ours:
                assert image.quantization == ours.quantization
                assert image.layer == ours.layer  # 4:2:0 as Pillow has it
                np.testing.assert_array_equal(np.asarray(image), np.asarray(ours))


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_an_interrupted_set_is_completed(
    photos: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(writing, "_VALUES", 2 * 20 * 24 * 3)  # three units per condition
    settings = {"corruptions": TWO, "severities": SOME, "preset": "imagenet"}
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    write_corrupted_set(photos, calm, **settings)
    with pytest.raises(KeyboardInterrupt):
        write_corrupted_set(photos, disturbed, **settings, engine=Stopping(after))
    visible = {p.parent.name + "/" + p.name for p in disturbed.glob("[!.]*/*")}
    assert len(visible) == after // 3
    write_corrupted_set(photos, disturbed, **settings, engine=Processes(workers=2))
    assert content(disturbed) == content(calm)


def test_severities_can_be_added(photos: ImageSet, tmp_path: Path) -> None:
    for severities in ((2,), (2, 5)):
        write_corrupted_set(
            photos, tmp_path / "a", corruptions=TWO, severities=severities, preset="imagenet"
        )
    write_corrupted_set(
        photos, tmp_path / "b", corruptions=TWO, severities=(2, 5), preset="imagenet"
    )
    assert content(tmp_path / "a") == content(tmp_path / "b")
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    assert manifest["severities"] == [2, 5]
    assert manifest["jpeg_quality"] == 85


def test_files_that_would_become_one(photos: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "photos/cat/a.bmp").write_bytes((tmp_path / "photos/cat/a.png").read_bytes())
    again = load_images("imagefolder:photos", {"study": tmp_path})
    with pytest.raises(DataError, match=r"must differ without their suffixes, .* cat/a is there"):
        write_corrupted_set(again, tmp_path / "set", corruptions=TWO, preset="imagenet")


def test_a_damaged_file_is_found_by_the_manifest(photos: ImageSet, tmp_path: Path) -> None:
    out = tmp_path / "set"
    write_corrupted_set(photos, out, corruptions=TWO, severities=SOME, preset="imagenet")
    stored = open_stored(f"imagenet-c:{out}", {})
    before = stored.identity(Condition("contrast", 4))
    path = out / "contrast/4/dog/2.JPEG"
    path.write_bytes((out / "contrast/4/dog/10.JPEG").read_bytes())
    assert stored.identity(Condition("contrast", 4)) != before
    stored.check(photos, [Condition("contrast", 1), Condition("gaussian_noise", 4)])
    with pytest.raises(
        DataError, match=r"contrast/4: its sha256 must be .* as manifest\.json says"
    ):
        stored.check(photos, [Condition("contrast", 4)])
