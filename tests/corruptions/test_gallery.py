"""The picture of all corruptions: every cell is what it says, and the words below are true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions import gallery as showing
from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.gallery import gallery, read_fitted, save
from shrinkproof.corruptions.presets import SETS
from shrinkproof.errors import DataError, UnknownNameError, UsageError
from shrinkproof.records import CLEAN, Condition

IMAGE = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
TWO = ("contrast", "gaussian_noise")


def text_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what is written onto a picture."""
    found: list[str] = []
    real = showing.ImageDraw.ImageDraw.text

    def text(self, place, words, *rest, **settings):
        found.append(words)
        return real(self, place, words, *rest, **settings)

    monkeypatch.setattr(showing.ImageDraw.ImageDraw, "text", text)
    return found


def contains(page: np.ndarray, cell: np.ndarray) -> bool:
    """Return whether a picture stands somewhere on the page, pixel for pixel."""
    height, width = cell.shape[:2]
    corners = np.argwhere((page[: -height + 1, : -width + 1] == cell[0, 0]).all(-1))
    return any(np.array_equal(page[y : y + height, x : x + width], cell) for y, x in corners)


def expected(name: str, severity: int, seed: int) -> np.ndarray:
    condition = Condition(name, severity) if severity else CLEAN
    index = np.zeros(1, dtype=np.int64)
    return corrupt_batch(IMAGE[None], condition, preset="cifar", seed=seed, index=index)[0]


@pytest.mark.parametrize(("cell", "up"), [(None, 4), (128, 4), (100, 3), (64, 2), (32, 1)])
def test_every_condition_is_shown_with_whole_pixels(cell: int | None, up: int) -> None:
    page = np.asarray(gallery(IMAGE, preset="cifar", seed=8, cell=cell, names=TWO))
    for name in TWO:
        for severity in range(6):
            shown = expected(name, severity, 8).repeat(up, axis=0).repeat(up, axis=1)
            assert contains(page, shown), (name, severity)
    assert not contains(page, expected("gaussian_noise", 3, 9).repeat(up, axis=0).repeat(up, 1))


def test_large_images_can_be_reduced() -> None:
    image = np.repeat(np.repeat(IMAGE, 3, axis=0), 3, axis=1)
    page = np.asarray(gallery(image, preset="imagecorruptions", cell=32, names=("contrast",)))
    assert contains(page, IMAGE), "the mean of 3 x 3 equal pixels is that pixel"


def test_rows_of_all_19_in_their_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def corrupted(images, condition, **settings):
        calls.append(condition)
        return images

    monkeypatch.setattr(showing, "corrupt_batch", corrupted)
    written = text_of(monkeypatch)
    gallery(IMAGE, preset="cifar", account="somewhere, 32 x 32 pixels")
    assert len(calls) == 19 * 6
    assert len({c for c in calls if not c.is_clean}) == 95
    assert written[:6] == ["clean", *(f"severity {s}" for s in range(1, 6))]
    groups = [words for words in written if words.isupper()]
    assert groups == ["NOISE", "BLUR", "WEATHER", "DIGITAL", "EXTRA"]
    labels = [words.lower().replace(" ", "_") for words in written]
    assert [name for name in labels if name in SETS["all-corruptions"]] == list(
        SETS["all-corruptions"]
    )
    assert "JPEG compression" in written
    notes = " ".join(written[written.index("saturate") + 1 :])
    assert notes.startswith("somewhere, 32 x 32 pixels. Preset cifar, seed 0. Procedural frost (ve")
    assert "Each pixel is shown as 4 x 4." in notes
    assert "comparable" not in notes


def test_a_preset_for_another_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    written = text_of(monkeypatch)
    gallery(IMAGE, preset="imagenet", names=("contrast",))
    notes = " ".join(written)
    assert "made for 224 x 224 pixels, the images have 32 x 32" in notes
    assert "frost" not in notes


def test_frost_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    frost = pytest.importorskip("shrinkproof.corruptions.frost")
    written = text_of(monkeypatch)
    gallery(IMAGE, preset="cifar", names=("frost",))
    assert "Procedural frost (version 1), not the published photos." in " ".join(written)
    monkeypatch.setattr(frost, "frost_source", lambda folder: f"photos:{folder}")
    monkeypatch.setattr(showing, "corrupt_batch", lambda images, *rest, **settings: images)
    gallery(IMAGE, preset="cifar", names=("frost",), frost_dir=Path("abc"))
    assert "Frost from the original photos (abc)." in " ".join(written)


def test_non_square_images() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 150, 3), dtype=np.uint8)
    page = np.asarray(gallery(image, preset="imagecorruptions", cell=40, names=("contrast",)))
    assert contains(page, image)


@pytest.mark.parametrize(
    ("size", "preset", "fitted", "account"),
    [
        ((451, 300), "imagenet", (224, 224), "resized to 384 x 256, the middle 224 x 224"),
        ((451, 300), "inception", (299, 299), "resized to 512 x 341, the middle 299 x 299"),
        ((300, 451), "cifar", (32, 32), "resized to 32 x 48, the middle 32 x 32"),
        ((20, 20), "tiny", (64, 64), "resized to 64 x 64, the middle 64 x 64"),
        ((224, 224), "imagenet", (224, 224), "224 x 224 pixels, as it is"),
        ((256, 256), "imagenet", (224, 224), "resized to 256 x 256, the middle 224 x 224"),
        ((640, 480), "imagecorruptions", (240, 320), "resized to 320 x 240"),
        ((100, 50), "imagecorruptions", (50, 100), "100 x 50 pixels, as it is"),
    ],
)
def test_images_are_fitted_to_the_preset(
    tmp_path: Path, size: tuple[int, int], preset: str, fitted: tuple[int, int], account: str
) -> None:
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "x.png")
    found = read_fitted(tmp_path / "x.png", preset)
    assert found.pixels.shape == (*fitted, 3)
    assert (found.pixels == (10, 20, 30)).all()
    assert found.account.startswith(f"x.png, {size[0]} x {size[1]} pixels")
    assert found.account.endswith(account)


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[:, 16:48] = IMAGE
    Image.fromarray(pixels).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_fitted(tmp_path / "x.png", "cifar").pixels, IMAGE)


def test_files_are_made_rgb_and_turned_upright(tmp_path: Path) -> None:
    Image.new("L", (32, 32), 7).save(tmp_path / "gray.png")
    assert (read_fitted(tmp_path / "gray.png", "cifar").pixels == 7).all()
    image = Image.fromarray(IMAGE)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    found = read_fitted(tmp_path / "turned.png", "cifar").pixels
    np.testing.assert_array_equal(found, np.rot90(IMAGE, -1))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png: there is no such image"):
        read_fitted(tmp_path / "absent.png", "cifar")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png: must be an image that Pillow can read"):
        read_fitted(tmp_path / "text.png", "cifar")
    Image.fromarray(IMAGE).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    with pytest.raises(DataError, match=r"cut\.png: must be an image"):
        read_fitted(tmp_path / "cut.png", "cifar")
    with pytest.raises(DataError, match="must be an image"):
        read_fitted(tmp_path, "cifar")
    with pytest.raises(UnknownNameError, match="did you mean 'imagenet'"):
        read_fitted(tmp_path / "absent.png", "imagnet")


def test_wrong_settings() -> None:
    with pytest.raises(UsageError, match="cell must be at least 16 pixels, got 15"):
        gallery(IMAGE, preset="cifar", cell=15)
    with pytest.raises(DataError, match=r"must be \(H, W, 3\) uint8, got \(1, 32, 32, 3\)"):
        gallery(IMAGE[None], preset="cifar")
    with pytest.raises(UnknownNameError, match="unknown preset"):
        gallery(IMAGE, preset="cfar", names=TWO)
    with pytest.raises(UnknownNameError, match="did you mean 'fog'"):
        gallery(IMAGE, preset="cifar", names=("fogg",))


def test_formats(tmp_path: Path) -> None:
    picture = gallery(IMAGE, preset="cifar", names=("contrast",), cell=32)
    for suffix in (".png", ".jpg", ".JPEG", ".webp"):
        save(picture, tmp_path / f"x{suffix}")
        with Image.open(tmp_path / f"x{suffix}") as found:
            assert found.size == picture.size
    for name in ("x", "x.txt"):
        with pytest.raises(UsageError, match="must end in the suffix of a picture format"):
            save(picture, tmp_path / name)
        assert not (tmp_path / name).exists()
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        save(picture, tmp_path / "absent" / "x.png")
