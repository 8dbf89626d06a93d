"""Figures are well-formed SVG with unique names and escaped text, and reach for nothing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from synthetic_page import synthetic_page

from shrinkproof.report.figures import CHOSEN, DIM, FRONT, Mark, reliability, tradeoff
from shrinkproof.report.page import render

EVIL = '<script>alert("x")</script> & more'


class Bins:
    low = np.array([0.0, 0.5])
    high = np.array([0.5, 1.0])
    count = np.array([0, 40])
    confidence = np.array([np.nan, 0.9])
    accuracy = np.array([np.nan, 0.8])


def draw(marks, name="front0"):
    return tradeoff(marks, x_title="size", y_title=EVIL, name=name, width=300, height=200)


def test_text_is_escaped_and_nothing_is_referenced():
    text = draw([Mark(EVIL, "front", 1.0, 2.0)])
    root = ET.fromstring(text)
    tags = {element.tag.rsplit("}")[-1] for element in root.iter()}
    assert tags <= {"svg", "g", "path", "text", "line", "rect", "defs", "clipPath"}
    assert "".join(root.itertext()).count(EVIL) == 2
    assert root.get("aria-label").startswith(EVIL)
    assert "<script" not in text
    assert "href" not in text


def test_every_identifier_starts_with_the_name():
    root = ET.fromstring(draw([Mark("a", "front", 1.0, 2.0)], name="fig7"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids[0] == "fig7"
    assert all(i.startswith("fig7") for i in ids)


@pytest.mark.parametrize("kind", ["baseline", "control", "front", "dominated", "excluded"])
def test_every_kind_of_candidate_is_drawn(kind):
    with_mark = draw([Mark("a", kind, 1.0, 2.0), Mark("b", "front", 2.0, 3.0)])
    assert with_mark.count("<path") > draw([Mark("b", "front", 2.0, 3.0)]).count("<path") - 1


def test_intervals_and_choice_are_drawn():
    plain = draw([Mark("a", "front", 1.0, 2.0)])
    full = draw([Mark("a", "front", 1.0, 2.0, 0.5, 1.5, 1.0, 3.0, is_chosen=True)])
    assert full.count(DIM) == plain.count(DIM) + 2
    assert CHOSEN in full
    assert CHOSEN not in plain


def test_costs_over_decades_get_a_logarithmic_axis():
    text = draw([Mark("a", "front", 0.1, 2.0), Mark("b", "front", 100.0, 3.0)])
    assert {"0.1", "1", "10", "100"} <= set(ET.fromstring(text).itertext())


def test_equal_values_still_make_a_chart():
    assert "<svg" in draw([Mark("a", "front", 0.0, 0.0), Mark("b", "control", 0.0, 0.0)])


def test_labels_do_not_cover_each_other():
    marks = [Mark(f"candidate-{i}", "front", 1.0 + 0.01 * i, 2.0) for i in range(4)]
    spots = re.findall(r'translate\(([\d.]+),([\d.]+)\)"[^>]*>candidate-', draw(marks))
    assert len({(round(float(x)), round(float(y))) for x, y in spots}) == 4


def test_a_name_without_a_free_place_is_left_out_but_never_the_choice():
    marks = [Mark(f"candidate-{i}", "dominated", 1.0, 2.0 + i / 1000) for i in range(30)]
    text = draw(
        [*marks, Mark("the choice", "front", 1.0, 2.0, is_chosen=True), Mark("", "front", 2.0, 3.0)]
    )
    assert "the choice" in text
    assert 2 < text.count(">candidate-") < 12


def test_empty_bins_are_not_drawn():
    text = reliability(Bins(), name="r", description="d")
    assert text.count(f'fill="{FRONT}"') == 1
    assert "NaN" not in text


def test_a_diagram_without_images_is_only_the_diagonal():
    class Empty(Bins):
        count = np.array([0, 0])

    assert f'fill="{FRONT}"' not in reliability(Empty(), name="r", description="d")


@pytest.mark.slow
def test_a_page_is_drawn_the_same_every_time(html):
    assert render(synthetic_page()) == html
