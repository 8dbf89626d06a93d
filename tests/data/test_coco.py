from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import check_present
from shrinkproof.data.splits import DataRef, DataSpec, load_images, load_splits
from shrinkproof.errors import DataError

FOUND: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.png", "width": 40, "height": 30, "split": "val", "night": True},
        {"id": 3, "file_name": "a.png", "width": 20, "height": 50, "split": "train", "tags": []},
        {"id": 5, "file_name": "in/c.png", "width": 40, "height": 30, "split": "val", "license": 1},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1, 2.5, 3, 4], "area": 6, "iscrowd": 1},
        {"id": 2, "image_id": 7, "category_id": 2, "bbox": [10, 10, 5, 6]},
        {"id": 3, "image_id": 3, "category_id": 2, "bbox": [0, 0, 20, 50], "area": 900.5},
    ],
    "categories": [{"id": 9, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 4, "name": "fox"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, image in enumerate(FOUND["images"]):
        path = tmp_path / "images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (image["height"], image["width"], 3)
        pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path


def load(folder: Path, settings: str = "", **changes: Any) -> ImageSet:
    (folder / "boxes.json").write_text(json.dumps({**copy.deepcopy(FOUND), **changes}))
    return load_images(f"coco:boxes.json{settings}", {"study": folder})


def with_first(part: str, **changes: Any) -> list[dict[str, Any]]:
    """The entries of a part with the first one changed; None removes a key."""
    first, *others = copy.deepcopy(FOUND[part])
    first.update(changes)
    return [{name: value for name, value in first.items() if value is not None}, *others]


def test_images_and_boxes_are_those_of_the_file(folder: Path) -> None:
    images = load(folder)
    # Images as listed, classes by category id, boxes by image in the order of the annotations.
    assert images.classes == ("dog", "fox", "cat")
    assert images.shape is None
    assert images.files.tolist() == ["b.png", "a.png", "in/c.png"]
    found = images.objects
    assert found.sizes.tolist() == [[30, 40], [50, 20], [30, 40]]
    assert found.offsets.tolist() == [0, 1, 3, 3]
    assert found.boxes.tolist() == [[10, 10, 15, 16], [1, 2.5, 4, 6.5], [0, 0, 20, 50]]
    assert found.label.tolist() == [0, 2, 0]
    assert found.crowd.tolist() == [False, True, False]
    # The area is the annotated one, of the box where there is none.
    assert found.area.tolist() == [30, 6, 900.5]
    assert images.notes == ()
    assert images.preset == "imagecorruptions"


def test_pixels_are_those_of_the_files(folder: Path) -> None:
    images = load(folder)
    content = (folder / "images/a.png").read_bytes()
    assert images.hashes[1] == hashlib.sha256(content).hexdigest()[:16]
    expected = np.asarray(Image.open(folder / "images/in/c.png"))
    np.testing.assert_array_equal(images.images[np.array([2, 0])][0], expected)
    assert [positions.tolist() for positions, _ in images.batches(8)] == [[0], [1], [2]]
    with pytest.raises(DataError, match="read together must have one size, got 30 x 40 and others"):
        images.images[np.array([0, 1])]
    Image.new("RGB", (9, 9)).save(folder / "images/a.png")
    with pytest.raises(DataError, match=r"a\.png: must be 50 x 20 pixels as when .* got 9 x 9"):
        images.images[np.array([1])]


def test_where_takes_some_of_the_images(folder: Path) -> None:
    images = load(folder, "?where=split=val")
    assert images.files.tolist() == ["b.png", "in/c.png"]
    assert images.index.tolist() == [0, 1]
    assert images.total == 2
    assert images.shape == (30, 40)
    assert images.objects.offsets.tolist() == [0, 1, 1]
    assert len(load(folder, "?where=split=val,train")) == 3
    assert load(folder, "?where=split=val&where=night=true").files.tolist() == ["b.png"]
    assert images.fingerprint != load(folder, "?where=split=train").fingerprint


def test_columns_are_measured_by_only_where_a_reference_names_them(folder: Path) -> None:
    images = load(folder)
    assert {name: values.tolist() for name, values in images.columns.items()} == {
        "split": ["val", "train", "val"],
        "night": ["true", "", ""],
    }
    assert images.slices == {}
    assert images.take(np.array([1])).columns["split"].tolist() == ["train"]
    named = DataRef(use="coco:boxes.json", slices=("night",), group="split")
    spec = DataSpec(report=named)
    taken = load_splits(spec, roots={"study": folder}).sets["report"]
    assert taken.slices["night"].tolist() == ["true", "", ""]
    assert taken.groups is not None
    assert taken.groups.tolist() == ["val", "train", "val"]


def test_images_stand_in_the_named_folder_or_beside_the_annotations(folder: Path) -> None:
    (folder / "images").rename(folder / "photos")
    assert len(load(folder, "?images=photos")) == 3
    check_present("coco:boxes.json?images=photos", {"study": folder})
    with pytest.raises(DataError, match="images: there is no such file or folder"):
        check_present("coco:boxes.json?images=images", {"study": folder})
    for path in (folder / "photos").iterdir():
        path.rename(folder / path.name)
    assert len(load(folder)) == 3


def test_boxes_outside_the_image_are_clipped_and_those_without_area_left_out(folder: Path) -> None:
    boxes = ([-5, -5, 10, 10], [35, 25, 10, 10], [40, 0, 5, 5], [3, 3, 0, 5], [3, 3, 5, -1])
    entries = [
        {"id": i, "image_id": 7, "category_id": 4, "bbox": box} for i, box in enumerate(boxes)
    ]
    images = load(folder, annotations=entries)
    assert images.objects.boxes.tolist() == [[0, 0, 5, 5], [35, 25, 40, 30]]
    assert images.objects.area.tolist() == [25, 25]
    assert images.notes == (
        "2 of 5 boxes reach outside their image and are clipped",
        "3 of 5 boxes have no area in their image and are left out",
    )
    notes = load_splits(DataSpec(report="coco:boxes.json"), roots={"study": folder}).notes
    assert notes == tuple(f"coco:boxes.json: {note}" for note in images.notes)


def test_edges_outside_by_rounding_alone_are_not_counted(folder: Path) -> None:
    images = load(folder, annotations=with_first("annotations", bbox=[1.08, 2, 18.93, 3]))
    assert images.objects.boxes[1].tolist() == [1.08, 2, 20, 5]
    assert images.notes == ()


def test_a_set_without_any_box_is_one(folder: Path) -> None:
    images = load(folder, annotations=[])
    assert images.objects.offsets.tolist() == [0, 0, 0, 0]
    assert images.notes == ()


def test_a_size_that_is_not_stated_is_that_of_the_file(folder: Path) -> None:
    images = load(folder, images=with_first("images", width=None, height=None))
    assert images.objects.sizes[0].tolist() == [30, 40]


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("annotations", {"category_id": 8}, r"annotation 1: category_id .* \(2, 4, 9\), got 8"),
        ("annotations", {"category_id": [9]}, r"category_id must be one of .* got \[9\]"),
        ("annotations", {"image_id": 4}, r"annotation 1: image_id .* \(7, 3, 5\), got 4"),
        ("annotations", {"bbox": [1, float("nan"), 3, 4]}, "annotation 1: bbox must be 4 finite"),
        ("annotations", {"bbox": [1, 2, 3]}, "annotation 1: bbox must be 4 finite numbers"),
        ("annotations", {"bbox": ["1", 2, 3, 4]}, "annotation 1: bbox must be 4 finite numbers"),
        ("annotations", {"bbox": None}, "bbox must be 4 finite numbers, .* got None"),
        ("annotations", {"area": -1}, "annotation 1: area must be square pixels .* got -1"),
        ("annotations", {"iscrowd": 2}, "annotation 1: iscrowd must be 0 or 1, got 2"),
        ("annotations", {"id": 2}, "ids of annotations must differ, got 2 at positions 0 and 1"),
        ("annotations", {"id": None}, "annotations must each have an id, .* got None"),
        ("images", {"id": 3}, "ids of images must differ, got 3 at positions 0 and 1"),
        ("images", {"file_name": 1}, "image 7: file_name must be a text, got 1"),
        ("images", {"width": 0}, "image 7: height and width must be whole numbers .* 30 and 0"),
        ("images", {"width": 41}, r"b\.png: must be 30 x 41 .* annotated, got 30 x 40; take"),
        ("images", {"width": 30, "height": 40}, r"must be 40 x 30 .* got 30 x 40; turn the file"),
        ("images", {"file_name": "no.png"}, r"1 of 3 are missing, the first is no\.png"),
        ("categories", {"id": 2}, "ids of categories must differ"),
        ("categories", {"id": "9"}, "categories must have ids of one type, got int and str"),
        ("categories", {"name": "dog"}, r"different names, got \['dog', 'fox', 'dog'\]"),
    ],
)
def test_wrong_entries_are_named(
    folder: Path, part: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(folder, **{part: with_first(part, **changes)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"boxes\.json: must be a readable JSON file"),
        ("[]", "must be a mapping with images, annotations, categories, got a list"),
        ('{"images": []}', "'annotations' must be a list of mappings, got nothing"),
        ('{"images": [1]}', "'images' must be a list of mappings, got list"),
        ('{"images": [], "annotations": [], "categories": []}', "at least 1 image, got none"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "got no categories"),
    ],
)
def test_files_that_are_no_annotations(folder: Path, content: str, message: str) -> None:
    (folder / "boxes.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_images("coco:boxes.json", {"study": folder})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("?size=3", "settings must be of images, where, got 'size'"),
        ("?images=", "images must have one value, once, got ''"),
        ("?images=a&images=b", "images must have one value, once, got 'b'"),
        ("?where=split", "where must be COLUMN=VALUE, .* got 'split'"),
        ("?where=fold=1", "column of 'images', which has night, split, got 'fold'"),
        ("?where=split=test", "values of 'split' must be of train, val, got test"),
        ("?where=split=train&where=night=true", "where must leave at least 1 image, got none"),
    ],
)
def test_wrong_settings(folder: Path, settings: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(folder, settings)


def test_absent_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got no path"):
        load_images("coco:", {})
    with pytest.raises(DataError, match=r"absent\.json: there is no such file"):
        load_images("coco:absent.json", {"study": tmp_path})


@pytest.mark.parametrize(
    ("reference", "images", "boxes"),
    [
        ("bccd/instances.json?where=split=train", 205, 2804),
        ("bccd/instances.json", 364, 4886),
        ("coco128/instances.json", 128, 929),
    ],
)
def test_published_sets(detection_folder: Path, reference: str, images: int, boxes: int) -> None:
    found = load_images(f"coco:{reference}", {"study": detection_folder})
    assert (len(found), len(found.objects.label)) == (images, boxes)
    assert found.notes == ()


def test_a_file_is_listed_once_because_each_entry_would_lack_the_boxes_of_the_other(
    folder: Path,
) -> None:
    twice = [*FOUND["images"], {**FOUND["images"][0], "id": 8}]
    with pytest.raises(DataError, match=r"1 are listed several times, the first is b\.png"):
        load(folder, images=twice)


@pytest.mark.parametrize("changes", [{"bbox": [1, 2, 10**400, 4]}, {"area": 10**400}])
def test_whole_numbers_beyond_every_float_are_refused(
    folder: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"annotation 1: (bbox|area) must be"):
        load(folder, annotations=with_first("annotations", **changes))


@pytest.mark.parametrize(("orientation", "notes"), [(1, 0), (3, 1), (6, 1), (0, 0)])
def test_photos_that_exif_turns_are_read_as_stored_and_counted(
    folder: Path, orientation: int, notes: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "b.jpg", exif=exif)
    images = load(folder, images=with_first("images", file_name="b.jpg"))
    assert images.images[np.array([0])].shape == (1, 30, 40, 3)
    told = [note for note in images.notes if "EXIF turns or mirrors 1 of 3 images" in note]
    assert len(told) == notes
