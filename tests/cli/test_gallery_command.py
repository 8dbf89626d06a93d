"""The command that draws all corruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions import gallery as showing

from .conftest import Call


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_it_writes_a_picture_and_prints_where(call: Call, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.png"
    done = call("gallery", photo, "-o", out, "--preset", "cifar", "--cell", "32")
    assert (done.code, done.err, done.out) == (0, "", f"{out}\n")
    with Image.open(out) as picture:
        assert picture.width > 6 * 32
        assert picture.height > 19 * 32
    again = tmp_path / "again.png"
    assert call("gallery", photo, "-o", again, "--preset", "cifar", "--cell", "32").code == 0
    assert again.read_bytes() == out.read_bytes()


def test_what_it_passes_on(
    call: Call, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def gallery(image, **settings):
        calls.append((image.shape, settings))
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(showing, "gallery", gallery)
    monkeypatch.chdir(tmp_path)
    assert call("gallery", photo).out == "gallery.png\n"
    assert call("gallery", photo, "--seed", "5", "--frost-dir", tmp_path).code == 0
    monkeypatch.setenv("SHRINKPROOF_FROST_DIR", "frosty")
    assert call("gallery", photo, "--preset", "tiny").code == 0
    account = "photo.png, 60 x 40 pixels, resized to 384 x 256, the middle 224 x 224"
    settings = {"preset": "imagenet", "seed": 0, "frost_dir": None, "cell": None}
    assert calls[0] == ((224, 224, 3), {**settings, "account": account})
    assert calls[1][1] == {**settings, "seed": 5, "frost_dir": tmp_path, "account": account}
    assert calls[2][0] == (64, 64, 3)
    assert calls[2][1]["frost_dir"] == Path("frosty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.png",), "absent.png: there is no such image"),
        (("photo.png", "--preset", "imagnet"), "unknown preset 'imagnet'; did you mean 'imagenet'"),
        (("photo.png", "--cell", "3"), "cell must be at least 16 pixels, got 3"),
        (("photo.png", "--seed", "x"), "--seed"),
        (("photo.png", "--frost-dir", "absent"), "absent"),
    ],
)
def test_wrong_use(
    call: Call, photo: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str], message: str
) -> None:
    monkeypatch.chdir(photo.parent)
    done = call("gallery", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_the_format_is_checked_before_the_work(
    call: Call, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(showing, "gallery", None)
    done = call("gallery", photo, "-o", "picture.txt")
    assert done.code == 2
    assert "picture.txt: must end in the suffix of a picture format" in done.err
