from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import check_present
from shrinkproof.data.splits import load_images
from shrinkproof.errors import DataError


def element(name: str, box: tuple[float, ...], difficult: str = "") -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    edges = "".join(f"<{n}>{value}</{n}>" for n, value in zip(names, box, strict=True))
    mark = f"<difficult>{difficult}</difficult>" if difficult else ""
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name>{mark}<bndbox>{edges}</bndbox>{part}</object>"


def annotate(folder: Path, name: str, *objects: str, size: tuple[int, int] | None = None) -> Path:
    stated = "" if size is None else "<size><width>{1}</width><height>{0}</height></size>"
    path = folder / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = stated.format(*(size or ())) + "".join(objects)
    path.write_text(f"<annotation>{text}</annotation>")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "VOC2012"
    (place / "JPEGImages").mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(place / "JPEGImages" / "b.jpg")
    Image.new("RGB", (20, 50), "blue").save(place / "JPEGImages" / "a.png")
    dogs = (element("dog", (1, 1, 40, 30)), element("cat", (3, 4, 5.5, 9), "1"))
    annotate(place, "b", *dogs, size=(30, 40))
    annotate(place, "a", size=(50, 20))
    (place / "ImageSets" / "Main").mkdir(parents=True)
    (place / "ImageSets" / "Main" / "val.txt").write_text("b\na\n")
    (place / "ImageSets" / "Main" / "none.txt").write_text("a\n")
    return place


def load(folder: Path, settings: str = "") -> ImageSet:
    return load_images(f"voc:{folder.name}{settings}", {"study": folder.parent})


def test_pixels_are_counted_from_1_and_both_corners_lie_inside(folder: Path) -> None:
    images = load(folder)
    assert images.files is not None
    assert images.files.tolist() == ["a.png", "b.jpg"]
    assert images.shape is None
    assert images.classes == ("cat", "dog")
    found = images.objects
    assert found.offsets.tolist() == [0, 0, 2]
    # The first box spans the whole image of 40 x 30 pixels.
    assert found.boxes.tolist() == [[0, 0, 40, 30], [2, 3, 5.5, 9]]
    assert found.area.tolist() == [1200, 21]
    assert found.label.tolist() == [1, 0]
    assert images.images[np.array([0])].shape == (1, 50, 20, 3)
    assert images.preset == "imagecorruptions"


def test_edges_from_0_are_taken_as_they_are(folder: Path) -> None:
    assert load(folder, "?origin=0").objects.boxes.tolist() == [[1, 1, 40, 30], [3, 4, 5.5, 9]]


def test_difficult_objects_become_crowd_regions_unless_they_count(folder: Path) -> None:
    images = load(folder)
    assert images.objects.crowd.tolist() == [False, True]
    assert images.notes == ("1 objects marked as difficult count as crowd regions",)
    counted = load(folder, "?difficult=count")
    assert not counted.objects.crowd.any()
    assert counted.notes == ()


def test_sets_have_an_order_and_all_have_the_same_classes(folder: Path) -> None:
    assert load(folder, "?set=val").images.files == ("b.jpg", "a.png")
    assert load(folder, "?set=none").classes == ("cat", "dog")
    assert load(folder, "?classes=fox,dog,cat").objects.label.tolist() == [1, 2]


def test_boxes_are_clipped_to_the_image_or_left_out(folder: Path) -> None:
    annotate(folder, "a", element("dog", (0, 0, 30, 20)), element("dog", (9, 9, 5, 20)))
    images = load(folder, "?set=none")
    # A size that is not stated is that of the file.
    assert images.objects.sizes.tolist() == [[50, 20]]
    assert images.objects.boxes.tolist() == [[0, 0, 20, 20]]
    assert images.notes == (
        "1 of 2 boxes reach outside their image and are clipped",
        "1 of 2 boxes have no area in their image and are left out",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", r"a\.xml: must be a readable XML file"),
        ("<a><object><name>dog</name></object></a>", r"finite numbers .* got nothing, nothing"),
        (f"<a>{element('dog', (1, 1, float('nan'), 2))}</a>", "finite numbers .* got 1, 1, nan, 2"),
        (f"<a>{element('cow', (1, 1, 2, 2))}</a>", "must be one of cat, dog, got 'cow'"),
        (f"<a>{element('cat', (1, 1, 2, 2), '2')}</a>", "difficult must be 0 or 1, got '2'"),
        ("<a><size><width>0</width></size></a>", "height and a width .* got nothing and 0"),
        ("<a><size><width>50</width><height>20</height></size></a>", "got 50 x 20; turn the file"),
    ],
)
def test_wrong_annotations_are_named(folder: Path, content: str, message: str) -> None:
    whole = content.replace("<a>", "<annotation>").replace("</a>", "</annotation>")
    (folder / "Annotations" / "a.xml").write_text(whole)
    with pytest.raises(DataError, match=message):
        load(folder, "?classes=cat,dog")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_before_they_multiply(folder: Path, encoding: str) -> None:
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)
    )
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE bomb [{entities}]><a>&a11;</a>'
    (folder / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=r"a\.xml: .* document type must not be declared, got 'bom"):
        load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("?set=train", r"train\.txt: there is no such file"),
        ("?set=flags", r"flags\.txt: must hold different names .* got 'b 1', which has no"),
        ("?set=twice", "one per line, got repetitions"),
        ("?set=empty", "one per line, got none"),
        ("?difficult=drop", "difficult must be ignore or count, got 'drop'"),
        ("?origin=2", "origin must be 1 or 0, got '2'"),
        ("?classes=a,a", "classes must be different names, got 'a,a'"),
        ("?split=val", "settings must be of set, classes, difficult, origin, got 'split'"),
    ],
)
def test_wrong_settings(folder: Path, settings: str, message: str) -> None:
    for name, text in {"flags": "b 1\n", "twice": "a\na\n", "empty": "\n"}.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load(folder, settings)


def test_every_annotation_needs_one_image_file(folder: Path) -> None:
    annotate(folder, "c")
    with pytest.raises(DataError, match="1 of 3 have none, the first is c"):
        load(folder)
    for suffix in ("jpg", "png"):
        Image.new("RGB", (9, 9)).save(folder / "JPEGImages" / f"c.{suffix}")
    with pytest.raises(DataError, match=r"one image file, got c\.jpg and c\.png; remove one"):
        load(folder)


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got no path"):
        load_images("voc:", {})
    with pytest.raises(DataError, match="absent: there is no such file or folder"):
        check_present("voc:absent", {"study": tmp_path})
    (tmp_path / "VOC" / "Annotations").mkdir(parents=True)
    with pytest.raises(DataError, match="must hold at least 1 annotation, got none"):
        load(tmp_path / "VOC")
    annotate(tmp_path / "VOC", "a")
    (tmp_path / "VOC" / "JPEGImages").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "VOC" / "JPEGImages" / "a.png")
    with pytest.raises(DataError, match="must name at least 1 class, got none"):
        load(tmp_path / "VOC")
    assert len(load(tmp_path / "VOC", "?classes=dog")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html><object/></html>", "must be an <annotation> as Pascal VOC writes it, got <html>"),
        ('<annotation xmlns="http://x"><object/></annotation>', "got <{http://x}annotation>"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "must be a readable XML file"),
    ],
)
def test_files_without_readable_objects_are_no_empty_images(
    folder: Path, content: str, message: str
) -> None:
    (folder / "Annotations" / "a.xml").write_text(content)
    with pytest.raises(DataError) as caught:
        load(folder, "?classes=cat,dog")
    assert message in str(caught.value)
