"""The page of detectors: every section has its numbers, and boxes are drawn on images."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import MappingProxyType

import pytest
from synthetic_boxes import (
    OBJECTS,
    PIXEL,
    PROTOCOL,
    box,
    hit_exhibit,
    page_of_boxes,
    scene_exhibit,
)

from shrinkproof.report.page import render
from shrinkproof.report.scenes import KINDS, scenes, wanted_shots
from shrinkproof.report.wording import MINUS


class Words(HTMLParser):
    """The visible text of a page, by section."""

    def __init__(self, html):
        super().__init__()
        self.texts, self._section, self._inside = {}, "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        self._section = dict(attrs).get("id", self._section) if tag == "section" else self._section

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.texts.setdefault(self._section, []).append(data)

    def handle_endtag(self, tag):
        self._inside = ""

    def __getitem__(self, section):
        joined = re.sub(r"\s+", " ", " ".join(self.texts[section]).replace("\xa0", " "))
        return joined.replace("\xad", "")


@pytest.fixture(scope="module")
def charts_are_empty():
    from shrinkproof.report import figures, severity

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (figures, "reliability"),
            (figures, "tradeoff"),
            (severity, "severity_curves"),
        ):
            patch.setattr(module, name, lambda *_, **__: '<svg viewBox="0 0 1 1"></svg>')
        yield


@pytest.fixture(scope="module")
def html(charts_are_empty):
    return render(page_of_boxes())


@pytest.fixture(scope="module")
def words(html):
    return Words(html)


def column_titles(html, section):
    part = html.split(f'<section id="{section}">')[1].split("</section>")[0]
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', part)
    return [re.sub(r"<[^>]+>", " ", head).strip() for head in heads]


def test_mpc_stands_beside_rpc_and_relative_to_the_baseline(html):
    titles = column_titles(html, "candidates")
    assert titles[:5] == [
        "Candidate",
        "AP clean images",
        "mPC all corruptions",
        "rPC all corruptions",
        "mPC over the baseline&#39;s AP all corruptions",
    ]


def test_calibration_errors_of_the_table_have_their_level_of_chance(words):
    assert "14.00 % 12.00 to 16.00 chance 3.00 %" in words["candidates"]


def test_what_is_relative_to_the_baseline_has_no_change_of_its_own(words):
    assert "mPC over the baseline's AP" not in words["answer"].split("Numbers of the")[0]
    assert "50.0 %" in words["answer"]


def test_robustness_shows_precision_not_errors(words):
    text = words["robustness"]
    assert "error" not in text
    assert f"Lost most: fog, severity 1: {MINUS}1.80 pp" in text
    assert "rPC 60.0 %" in text, "groups have their rPC as well"
    assert "P is AP; mean over fog, gaussian noise." in text
    assert "boxes stay where they were annotated" in text


def test_better_precision_is_blue_and_worse_is_orange(html):
    tiles = re.findall(rf'<td class="([bwz]\d?)[^"]*">([+{MINUS}][\d.]+|0\.0)</td>', html)
    assert {style[0] for style, text in tiles if text.startswith(MINUS)} == {"w"}
    assert all(style == "z" for style, text in tiles if text == "0.0")


def test_calibration_states_protocols_and_what_corrections_leave(words):
    text = words["calibration"]
    for name in ("D-ECE", "LaECE", "LaACE"):
        assert name in text
    assert text.count(f"Protocol: {PROTOCOL.replace('>=', '≥')}.") == 3
    assert "those of baseline on 350 right and 60 wrong detections with scores ≥ 0.3" in text
    assert "No level of chance is known for this error." in text
    assert "int8 0.80 11.00 % chance 3.00 % 5.50 % 3.67 % 2.75 % 11.00 % 5.50 %" in text


def test_boxes_have_their_operating_point_and_protocol(words):
    text = words["samples"]
    assert "Boxes count from a score of 0.500: there F1 is highest (79.0 %; precision" in text
    assert "Protocol: score ≥ 0.5, IoU ≥ 0.5; COCO matching" in text
    assert "Lost boxes clean images" in text
    assert re.search(r"dog 12\.0 % 14\.5 %", text), "by class"
    assert re.search(r"large 14\.0 % 16\.5 %", text), "by size"


def test_sections_about_images_of_one_class_are_not_there(words):
    for text in ("Churn", "Which classes lost", "Top-1", "McNemar"):
        assert text not in " ".join(words[section] for section in ("samples", "calibration"))
    assert "What changed, box by box" in words["samples"]


def test_each_picture_is_in_the_page_once(html):
    assert html.count(PIXEL) == 2, "clean and fog"
    assert html.count('href="#shot-') == 2 * 3 * (4 + 2) / 2, "both networks of three candidates"


def test_panels_tell_in_words_what_they_show(html, words):
    assert 'aria-label="Image 7, fog, severity 3, candidate: 1 of 2 objects found, 1 lost, ' in html
    text = words["samples"]
    assert "lost dog at 50, 10 to 70, 40" in text
    assert "wrong cat 0.91 at 110, 10 to 130, 40" in text
    assert "crowd of cat at 0, 50 to 100, 60" in text
    assert "Image #7, fog, severity 3; 1 lost, 1 wrong ones added" in text


def test_without_boxes_the_section_says_so(charts_are_empty):
    page = page_of_boxes()
    bare = page.records.filter(~page.records["metric"].str.contains("boxes[.]"))
    html = render(page_of_boxes(records=bare, exhibits={}, pictures={}))
    assert "Not measured: nothing was compared with a baseline box by box." in html


def test_without_an_operating_point_the_reason_is_told(charts_are_empty):
    gap = {"model": "net", "baseline": "net/baseline", "split": "report", "reason": "no images"}
    html = render(page_of_boxes(exhibits={"operating-point": [gap]}))
    assert "No operating point: no images." in html


class FakeView:
    chosen = "net/int8"
    front = frozenset({"net/int8"})
    short = MappingProxyType({})


def drawn(image, links=()):
    exhibit = {**scene_exhibit("net/int8"), "images": [image]}
    return scenes(FakeView(), {"detected-scenes": [exhibit]}, dict(links))


def test_boxes_are_placed_in_units_of_the_page():
    [seen] = drawn(scene_exhibit("net/int8")["images"][0]).candidates
    clean, _, _, candidate = seen.scenes[0].panels
    assert (clean.width, clean.height) == (320.0, 160.0)
    assert clean.paths["right"] == "M20 20H60V80H20ZM100 20H140V80H100Z"
    assert set(candidate.paths) == {"truth", "right", "wrong", "lost", "crowd"}
    assert candidate.paths["lost"] == "M100 20H140V80H100Z"
    assert [label.text for label in candidate.labels] == ["dog", "cat 0.91", "cat 0.75"]


def test_images_without_objects_and_without_boxes_can_be_drawn():
    nothing = {"index": 1, "size": [40, 40], "objects": [], "condition": "",
               "baseline_clean": [], "candidate_clean": []}  # fmt: skip
    [seen] = drawn(nothing).candidates
    assert [panel.counts for panel in seen.scenes[0].panels] == ["0 of 0 objects found"] * 2
    assert all(not panel.paths and not panel.words for panel in seen.scenes[0].panels)


def test_pictures_that_are_missing_are_counted_and_their_boxes_drawn():
    image = scene_exhibit("net/int8")["images"][0]
    found = drawn(image, {(7, "clean"): "data:,"}.items())
    assert found.unseen == 2
    assert [panel.shot for panel in found.candidates[0].scenes[0].panels] == [0, 0, None, None]


def test_labels_stay_inside_and_never_lie_on_each_other():
    boxes = [box(7 * n, "a very long name of a class", score=0.9 - n / 50) for n in range(20)]
    image = {"index": 1, "size": [50, 160], "objects": OBJECTS, "condition": "",
             "baseline_clean": boxes, "candidate_clean": boxes}  # fmt: skip
    [seen] = drawn(image).candidates
    panel = seen.scenes[0].panels[0]
    assert 0 < len(panel.labels) < 20
    assert len(panel.words) == len(boxes) + len(OBJECTS)
    places = [(label.x, label.y, 6.1 * len(label.text)) for label in panel.labels]
    for at, (x, y, length) in enumerate(places):
        assert x >= 0
        assert x + length <= panel.width
        assert 0 < y <= panel.height
        for other_x, other_y, other in places[:at]:
            apart = max(x - other_x - other, other_x - x - length) > -0.1
            assert apart or abs(y - other_y) > 10.9


def test_kinds_differ_in_more_than_color():
    from shrinkproof.report.scripts import asset

    rules = dict(re.findall(r"\.box-(\w+) \{([^}]*)\}", asset("boxes.css")))
    looks = {}
    for kind in KINDS:
        dashes = re.search(r"stroke-dasharray: ([^;]+)", rules[kind])
        width = re.search(r"stroke-width: ([^;]+)", rules[kind]).group(1)
        looks[kind] = (dashes.group(1) if dashes else "solid", width)
    assert len(set(looks.values())) == len(KINDS)


def test_the_choice_comes_first_and_most_pictures_are_its_own():
    def images(count):
        image = scene_exhibit("x")["images"][0]
        return [{**image, "index": n} for n in range(count)]

    exhibits = {
        "detected-scenes": [
            {**scene_exhibit(label), "images": images(5)} for label in ("net/a", "net/int8")
        ],
        "detected-images": [hit_exhibit("net/a")],
    }
    shots = wanted_shots(exhibits, "net/int8", ("net/int8",))
    scene = [(n, at) for n in range(4) for at in ("clean", "fog:3")]
    assert shots == [*scene, (7, "fog:3")], "the others' images are among those of the choice"
