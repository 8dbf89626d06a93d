"""Charts of the evidence are well-formed, escaped, and show what they are given."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from shrinkproof.report.plots import (
    PALETTE,
    Curve,
    Damage,
    Point,
    Ranking,
    class_damage,
    critical_difference,
    severity_curves,
)

EVIL = '<script>alert("x")</script> & more'


def curve(label, *points, dashed=False):
    return Curve(label, PALETTE[0], dashed, False, points)


def drawn(*curves):
    return severity_curves(curves, title="fog", name="c", size=(200, 100), top=50.0)


def test_curves_have_a_line_each_and_their_intervals():
    plain = drawn(curve("a", Point(1, 10.0), Point(3, 20.0)))
    with_ends = drawn(curve("a", Point(1, 10.0, 8.0, 12.0), Point(3, 20.0, 18.0, 22.0)))
    assert ET.fromstring(with_ends).get("aria-label").endswith("At severity 3: a 20.0 %")
    assert with_ends.count("<line") == plain.count("<line") + 2


def test_the_baseline_is_dashed():
    points = (Point(1, 10.0), Point(2, 20.0))
    assert "stroke-dasharray" in drawn(curve("a", *points, dashed=True))
    assert "stroke-dasharray" not in drawn(curve("a", *points))


def test_one_severity_still_makes_a_chart():
    assert "NaN" not in drawn(curve("a", Point(5, 10.0)))


@pytest.mark.parametrize("name", ["cat", EVIL, "a class with a very long name"])
def test_classes_are_named_and_escaped(name):
    text = class_damage(
        [Damage(name, (-3.0, -5.0, -1.0), (2.0, None, None))],
        title=EVIL,
        name="d",
        width=100,
        span=(-5.0, 5.0),
    )
    root = ET.fromstring(text)
    assert any(name[:15] in (part or "") for part in root.itertext())
    assert "<script" not in text
    assert EVIL in root.get("aria-label")


def test_a_class_without_clean_images_keeps_its_corrupted_change():
    text = class_damage(
        [Damage("cat", None, (2.0, 1.0, 3.0))], title="t", name="d", width=100, span=(-5.0, 5.0)
    )
    assert "NaN" not in text


def test_ranks_are_drawn_in_order_with_their_bars():
    ranking = Ranking(("a", "b", EVIL), (1.0, 1.5, 3.0), 0.8, (("a", "b"),))
    text = critical_difference(ranking, name="r", description=EVIL, width=400)
    root = ET.fromstring(text)
    words = [part for part in root.itertext() if part]
    assert "critical difference 0.80" in words
    assert "a 1.00" in words
    assert text.count('stroke-width="4"') == 1
    assert "<script" not in text
