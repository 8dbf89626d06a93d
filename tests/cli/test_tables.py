"""The closing lines of a run: which errors are chance, and what the report has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from shrinkproof.cli import columns, tables
from shrinkproof.selectors import Selector


class Numbers:
    """Stands for the numbers of a run: one p-value."""

    def __init__(self, p: float | None) -> None:
        self.p = p
        self.asked: list[Selector] = []

    def find(self, label: str, split: str, selector: Selector) -> SimpleNamespace:
        self.asked.append(selector)
        return SimpleNamespace(value=self.p)


def results(p=None, metrics=("accuracy.top1", "calibration.ece"), **changes):
    values = {
        "numbers": Numbers(p),
        "metrics": metrics,
        "printing": "report",
        "cells": [SimpleNamespace(evaluator="scores"), SimpleNamespace(evaluator="size")],
        "summary": SimpleNamespace(exhibits=()),
        "spec": SimpleNamespace(
            task="classification",
            conditions_list=lambda: (SimpleNamespace(is_clean=True),),
            measure=SimpleNamespace(margins={}),
        ),
    }
    return SimpleNamespace(**{**values, **changes})


@pytest.mark.parametrize(("p", "sign"), [(None, ""), (0.049, ""), (0.05, "~"), (0.7, "~")])
def test_an_error_of_a_calibrated_model_gets_a_sign(p, sign):
    assert tables._chance(results(p), "net/int8", "calibration.ece") == sign


def test_the_sign_is_about_the_error_that_the_study_scores():
    found = results(0.5, metrics=("calibration.ece[bins=10]",))
    assert columns.calibration_error(found) == "calibration.ece[bins=10]"
    tables._chance(found, "net/int8", columns.calibration_error(found))
    assert found.numbers.asked == [Selector("null_p.calibration.ece[bins=10]", "clean")]


def test_the_last_line_names_what_the_report_has():
    assert tables._contents(results()) == "trade-off, calibration beside chance and costs"


def test_heat_maps_and_tests_are_named_where_they_are():
    found = results(
        metrics=("accuracy.top1",),
        cells=[SimpleNamespace(evaluator="saliency")],
        spec=SimpleNamespace(
            conditions_list=lambda: (SimpleNamespace(is_clean=False),),
            measure=SimpleNamespace(margins={"accuracy.top1": 0.01}),
        ),
    )
    assert tables._contents(found) == (
        "trade-off, errors by corruption and severity, tests against margins and heat maps"
    )
