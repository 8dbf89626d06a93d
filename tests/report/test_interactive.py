"""What the script reads are the page's own numbers, and both drawings agree on the marks."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import polars as pl
import pytest
from synthetic_page import PLANTS, synthetic_page

from shrinkproof.report import figures
from shrinkproof.report.interactive import MARK, _short, front_spec
from shrinkproof.report.page import render


@pytest.fixture(scope="module")
def data(html):
    return read(html)


def read(html):
    found = re.search(r'id="page-data">(.*?)</script>', html, re.DOTALL).group(1)
    return json.loads(found)


def column(data, name):
    return next(one for one in data["columns"] if one["name"] == name)


def test_numbers_are_those_of_the_records(data):
    names = [one["name"] for one in data["candidates"]]
    size = column(data, "File size")
    accuracy = column(data, "Top-1 accuracy, clean images")
    for plant in PLANTS:
        at = names.index(plant.recipe)
        assert size["cells"][at]["value"] == (plant.size or None)
        cell = accuracy["cells"][at]
        assert (cell["value"], cell["low"]) == (plant.top1, pytest.approx(plant.top1 - 0.007))
        assert cell["text"].startswith(f"{100 * plant.top1:.1f}")


def test_counts_keep_all_their_digits_and_measures_enough():
    assert _short(4_089_284_608.0) == 4_089_284_608
    assert _short(0.1234567891234) == 0.123456789
    assert _short(None) is None


def test_numbers_that_must_not_be_trusted_are_marked_where_readers_point(empty_charts):
    page = synthetic_page()
    dirty = pl.when(pl.col("metric") == "accuracy.top1").then(pl.lit("contaminated"))
    records = page.records.with_columns(status=dirty.otherwise("status"))
    shown = read(render(replace(page, records=records)))
    texts = [cell["text"] for cell in column(shown, "Top-1 accuracy, clean images")["cells"]]
    assert all(text.endswith(MARK) for text in texts)
    assert not any(cell["text"].endswith(MARK) for cell in column(shown, "File size")["cells"])


def test_the_first_axes_are_the_objectives_of_the_study(data):
    x, y = (data["columns"][place]["name"] for place in data["axes"])
    assert (x, y) == ("File size", "Mean corrupted error, all corruptions")


def test_the_columns_of_the_table_come_first(data, html):
    table = html[html.index('<table class="candidates">') :]
    titles = re.findall(r'<th scope="col" class="num">([^<]*)<', table[: table.index("</thead>")])
    wanted = [one["name"] for one in data["columns"][: data["headline"]]]
    assert [name.split(",")[0] for name in wanted] == [t.strip().split(",")[0] for t in titles]


def test_costs_that_no_table_column_shows_can_be_an_axis(data):
    names = [one["name"] for one in data["columns"][data["headline"] :]]
    assert "Parameters" in names


def test_every_kind_of_mark_is_drawn_and_can_be_pointed_at():
    spec = front_spec()
    assert "$schema" not in spec
    told = json.dumps(spec)
    for kind in figures.SYMBOLS:
        assert f"datum.kind === '{kind}'" in told
    assert spec["layer"][-1]["name"] == "target"


def test_static_marks_carry_the_number_of_their_candidate(html):
    static = re.search(r'<svg id="front0-wide".*?</svg>', html, re.DOTALL).group()
    numbers = set(map(int, re.findall(r'data-c="(\d+)"', static)))
    drawn = {place for place, plant in enumerate(PLANTS) if plant.size}
    assert numbers == drawn
    assert "candidate-" not in static
