"""Reading published folders of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import load_images
from shrinkproof.errors import DataError
from shrinkproof.records import CLEAN, Condition
from shrinkproof.stored import open_stored

from .conftest import NAMES

FOG = Condition("fog", 2)


def level(name: str, severity: int) -> int:
    """What all pixels of a file are."""
    return 40 * severity + NAMES.index(name)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A set in groups, as the published archives unpack; files of one gray level each."""
    root = tmp_path / "published"
    for group, corruption in (("weather", "fog"), ("noise", "shot_noise")):
        for severity in (2, 3):
            for name in NAMES:
                place = root / group / corruption / str(severity) / name
                place.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((20, 24, 3), level(name, severity), np.uint8)
                Image.fromarray(pixels).save(place.with_suffix(".JPEG"), quality=95)
    return root


def test_groups_and_pairing_by_name(published: Path, photos: ImageSet) -> None:
    stored = open_stored("imagenet-c:there", {"there": published})
    assert [str(c) for c in stored.conditions()] == [
        "fog:2", "fog:3", "shot_noise:2", "shot_noise:3",
    ]  # fmt: skip
    (note,) = stored.check(photos, [CLEAN, *stored.conditions()])
    assert "no checksum file" in note
    some = photos.take(np.array([4, 0, 2]))
    for condition in stored.conditions():
        found = stored.read(some, condition, np.array([2, 0]))
        expected = [level(NAMES[i], condition.severity) for i in (2, 4)]
        assert found.shape == (2, 20, 24, 3)
        assert found.mean(axis=(1, 2, 3)).tolist() == expected
    np.testing.assert_array_equal(
        stored.read(some, CLEAN, np.array([1])), photos.images[np.array([0])]
    )


def test_without_groups_and_classes_with_names_of_severities(tmp_path: Path) -> None:
    """Classes 1 and 2 must not be taken for severities, nor severities for corruptions."""
    for label in ("1", "2"):
        for root in ("clean", "set/fog/3"):
            place = tmp_path / root / label / "x.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16, 3), int(label), np.uint8)).save(place)
    images = load_images("imagefolder:clean", {"study": tmp_path})
    stored = open_stored("imagenet-c:set", {"study": tmp_path})
    assert stored.conditions() == (Condition("fog", 3),)
    found = stored.read(images, Condition("fog", 3), np.array([1, 0]))
    assert found[:, 0, 0, 0].tolist() == [2, 1]


def test_missing_conditions_and_files(published: Path, photos: ImageSet) -> None:
    stored = open_stored(f"imagenet-c:{published}", {})
    with pytest.raises(DataError, match=r"has no folder frog in .*; did you mean fog"):
        stored.check(photos, [Condition("frog", 1)])
    with pytest.raises(DataError, match=r"has no severity 1 of fog: .* is missing"):
        stored.check(photos, [Condition("fog", 1)])
    for name in ("cat/a", "cat/a.b", "dog/2", "dog/10"):
        (published / f"weather/fog/2/{name}.JPEG").unlink()
    stored = open_stored(f"imagenet-c:{published}", {})
    message = r"each of the 5 images of imagefolder:photos, but 4 are missing: cat/a\.b, cat/a, dog"
    with pytest.raises(DataError, match=message):
        stored.check(photos, [FOG])
    with pytest.raises(DataError, match="must have a file dog/2, but it is missing"):
        stored.read(photos, FOG, np.array([4]))
    stored.check(photos.take(np.array([2])), [FOG])


def test_images_of_another_size(published: Path, photos: ImageSet) -> None:
    stored = open_stored(f"imagenet-c:{published}", {})
    path = published / "weather/fog/2/dog/2.JPEG"
    Image.fromarray(np.zeros((24, 20, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"2\.JPEG: must be 20 x 24 pixels .* got 24 x 20"):
        stored.read(photos, FOG, np.array([4]))
    with pytest.raises(DataError, match="must be 20 x 24 pixels"):
        stored.check(photos.take(np.array([4])), [FOG])


def test_damaged_images(published: Path, photos: ImageSet) -> None:
    path = published / "weather/fog/2/cat/z.JPEG"
    path.write_bytes(path.read_bytes()[:-200])
    stored = open_stored(f"imagenet-c:{published}", {})
    with pytest.raises(DataError, match=r"z\.JPEG: cannot be read as an image"):
        stored.read(photos, FOG, np.array([2]))


def test_names_that_are_there_twice(published: Path, photos: ImageSet) -> None:
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(published / "weather/fog/2/cat/a.png")
    with pytest.raises(DataError, match="cat/a is there twice"):
        open_stored(f"imagenet-c:{published}", {}).check(photos, [FOG])
    (published / "extra/fog/2").mkdir(parents=True)
    with pytest.raises(DataError, match="fog is in extra/fog and in weather/fog"):
        open_stored(f"imagenet-c:{published}", {})


def test_clean_images_without_names(published: Path, toys: ImageSet) -> None:
    with pytest.raises(
        DataError, match="names of their files, but toys has none; use 'imagefolder"
    ):
        open_stored(f"imagenet-c:{published}", {}).check(toys, [FOG])


def test_checksums_of_single_files(published: Path, photos: ImageSet) -> None:
    (published / "MD5SUMS").write_text(f"{'1' * 32}  weather/fog/3/dog/2.JPEG\n")
    stored = open_stored(f"imagenet-c:{published}", {})
    assert stored.check(photos, [FOG]) == ()
    with pytest.raises(DataError, match=r"fog/3/dog/2\.JPEG: its md5 must be 1111"):
        stored.check(photos, [Condition("fog", 3)])


def test_the_identity_knows_names_and_content(published: Path) -> None:
    stored = open_stored(f"imagenet-c:{published}", {})
    first = stored.identity(FOG)
    assert first == stored.identity(FOG)
    assert first.startswith("sha256:")
    assert first != stored.identity(Condition("fog", 3))
    place = published / "weather/fog/2/cat"
    (place / "z.JPEG").rename(place / "y.JPEG")
    second = stored.identity(FOG)
    (place / "a.JPEG").write_bytes((place / "y.JPEG").read_bytes())
    assert len({first, second, stored.identity(FOG)}) == 3
