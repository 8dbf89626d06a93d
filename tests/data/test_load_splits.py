from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.data import DATA
from shrinkproof.data.arrays import Arrays
from shrinkproof.data.splits import DataSpec, load_images, load_splits
from shrinkproof.errors import DataError, PluginError, UnknownNameError

COUNT = 60


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "set.npz",
        images=rng.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8),
        target=np.arange(COUNT) % 3,
        classes=["cat", "dog", "fox"],
        night=np.arange(COUNT) % 2,
    )
    np.savez(
        tmp_path / "other.npz",
        images=rng.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8),
        target=np.arange(9) % 3,
    )
    np.savez(
        tmp_path / "small.npz",
        images=rng.integers(0, 256, (9, 6, 8, 3), dtype=np.uint8),
        target=np.arange(9) % 3,
        classes=["cat", "dog", "fox"],
    )
    rows = [f"{i},drive{i // 10},{'tunnel' if i < 5 else 'road'}" for i in range(COUNT)]
    (tmp_path / "meta.csv").write_text("index,drive,place\n" + "\n".join(reversed(rows)) + "\n")
    return {"study": tmp_path}


def spec(**fields: object) -> DataSpec:
    return DataSpec(**fields)


def test_one_source_divided(roots: dict[str, Path]) -> None:
    given = spec(split={"from": "arrays:set.npz", "train": 20, "select": 15, "report": "rest"})
    splits = load_splits(given, roots=roots)
    assert {n: len(s) for n, s in splits.sets.items()} == {"train": 20, "select": 15, "report": 25}
    assert splits.notes == ()


def test_limit_shortens_only_what_is_measured_on(roots: dict[str, Path]) -> None:
    given = spec(
        train="arrays:set.npz",
        split={"from": "arrays:set.npz", "select": 6, "certify": 14, "report": "rest"},
    )
    splits = load_splits(given, roots=roots, limit=9)
    assert {n: len(s) for n, s in splits.sets.items()} == {
        "train": 60,
        "select": 6,
        "certify": 9,
        "report": 9,
    }
    assert splits.notes == (
        "certify: stratified subset of 9 of 14 images",
        "report: stratified subset of 9 of 40 images",
    )


def test_count_and_its_note(roots: dict[str, Path]) -> None:
    splits = load_splits(spec(calibrate={"use": "arrays:set.npz", "count": 6}), roots=roots)
    assert np.bincount(splits.sets["calibrate"].target).tolist() == [2, 2, 2]
    assert splits.notes == ("calibrate: stratified subset of 6 of 60 images",)
    whole = load_splits(spec(calibrate={"use": "arrays:set.npz", "count": 60}), roots=roots)
    assert whole.notes == ()
    with pytest.raises(DataError, match=r"data\.calibrate: count must be at most the 60 images"):
        load_splits(spec(calibrate={"use": "arrays:set.npz", "count": 61}), roots=roots)


def test_unused_images_are_stated(roots: dict[str, Path]) -> None:
    splits = load_splits(spec(split={"from": "arrays:set.npz", "select": 20}), roots=roots)
    assert splits.notes == ("split: 40 of 60 images of arrays:set.npz are in no split",)


def test_groups_from_metadata_stay_whole(roots: dict[str, Path]) -> None:
    source = {
        "use": "arrays:set.npz",
        "metadata": "meta.csv",
        "group": "drive",
        "slices": ["place", "night"],
    }
    splits = load_splits(spec(split={"from": source, "select": 17, "report": "rest"}), roots=roots)
    select, report = splits.sets["select"], splits.sets["report"]
    assert len(select) == 20
    assert not set(select.groups) & set(report.groups)
    assert splits.notes == (
        "select: 20 images instead of 17, because groups and identical images are kept whole",
    )
    for images in (select, report):
        assert images.groups.tolist() == [f"drive{i // 10}" for i in images.index]
        place = ["tunnel" if i < 5 else "road" for i in images.index]
        assert images.slices["place"].tolist() == place
        assert images.slices["night"].tolist() == [str(i % 2) for i in images.index]


def test_metadata_by_file(tmp_path: Path) -> None:
    for number, name in enumerate(["cat/a.png", "cat/b.png", "dog/a.png"]):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / name)
    text = "file,drive\ncat/b.png,two\ncat/a.png,one\ndog/a.png,three\nunused.png,four\n"
    (tmp_path / "meta.csv").write_text(text)
    ref = {"use": "imagefolder:set", "metadata": "meta.csv", "group": "drive"}
    splits = load_splits(spec(report=ref), roots={"study": tmp_path})
    assert splits.sets["report"].groups.tolist() == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,drive\n0,a\n", r"one row per image .* 59 of 60 have none, the first is index 1"),
        ("number,drive\n0,a\n", "must have a column 'index' or 'file', got number, drive"),
        ("", "must have a column 'index' or 'file', got none"),
        ("index,drive\n0,a\n0,b\n", "each index may appear once, got 2 rows for 1"),
        ("index,drive\n0,a\n1\n", "row 3: must have 2 cells as the header, got 1"),
        ("index,a,a\n", "column names must differ"),
        ("file,drive\nx,a\n", "have no file names"),
    ],
)
def test_wrong_metadata(roots: dict[str, Path], text: str, message: str) -> None:
    (roots["study"] / "meta.csv").write_text(text)
    ref = {"use": "arrays:set.npz", "metadata": "meta.csv", "group": "drive"}
    with pytest.raises(DataError, match=rf"meta\.csv.*{message}"):
        load_splits(spec(report=ref), roots=roots)


def test_missing_columns_and_files(roots: dict[str, Path]) -> None:
    ref = {"use": "arrays:set.npz", "group": "drive"}
    with pytest.raises(DataError, match=r"no column 'drive'; it has night; name a CSV file"):
        load_splits(spec(report=ref), roots=roots)
    with pytest.raises(DataError, match=r"meta\.csv: no column 'rain'; it has drive, night, place"):
        load_splits(
            spec(report={"use": "arrays:set.npz", "metadata": "meta.csv", "slices": ["rain"]}),
            roots=roots,
        )
    with pytest.raises(DataError, match=r"absent\.csv: cannot be read as CSV"):
        load_splits(spec(report={**ref, "metadata": "absent.csv"}), roots=roots)


def test_a_source_column_can_be_the_group(roots: dict[str, Path]) -> None:
    splits = load_splits(spec(report={"use": "arrays:set.npz", "group": "night"}), roots=roots)
    assert set(splits.sets["report"].groups) == {"0", "1"}


def test_wanted(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Arrays.load

    def counting(self: Arrays, rest: str, places: dict[str, Path]):
        read.append(rest)
        return original(self, rest, places)

    monkeypatch.setattr(Arrays, "load", counting)
    given = spec(
        train="arrays:other.npz",
        calibrate={"use": "arrays:set.npz", "count": 6},
        split={"from": "arrays:set.npz", "select": 20, "report": "rest"},
    )
    assert list(load_splits(given, roots=roots, wanted=["report", "select"]).sets) == [
        "select",
        "report",
    ]
    load_splits(given, roots=roots, wanted={"calibrate", "report"})
    assert read == ["set.npz", "set.npz"]
    with pytest.raises(DataError, match=r"data\.certify is needed but the study does not give it"):
        load_splits(given, roots=roots, wanted=["certify"])
    with pytest.raises(DataError, match=r"splits are train, .*; got test"):
        load_splits(given, roots=roots, wanted=["test"])
    with pytest.raises(DataError, match="limit must be at least 1 image, got 0"):
        load_splits(given, roots=roots, limit=0)


def test_splits_must_agree(roots: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"same classes .*data\.train has 3 \(cat, dog, fox\)"):
        load_splits(spec(train="arrays:set.npz", report="arrays:other.npz"), roots=roots)
    with pytest.raises(DataError, match=r"one image size; data\.train has 8 x 8 .* 6 x 8"):
        load_splits(spec(train="arrays:set.npz", report="arrays:small.npz"), roots=roots)


def test_unknown_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="unknown data source 'digts'; did you mean"):
        load_images("digts", {})
    with pytest.raises(DataError, match="write 'imagefolder:data/train'"):
        load_images("data/train", {})
    monkeypatch.setitem(DATA.builtin, "digits", f"{__name__}:Wrong")
    monkeypatch.setattr(DATA, "get", lambda name: Wrong)
    with pytest.raises(PluginError, match=r"must return an ImageSet, got list"):
        load_images("digits", {})


class Wrong:
    def load(self, rest: str, roots: dict[str, Path]) -> list[int]:
        return [1]


def test_registered_names_and_classes_agree() -> None:
    expected = "arrays cifar10 cifar100 coco digit-scenes digits foreign imagefolder voc"
    assert DATA.names() == tuple(expected.split())
    for name in DATA:
        assert DATA.get(name).name == name
