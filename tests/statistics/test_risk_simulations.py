"""Certificates in worlds whose risk is known: rarely false, and as often given as planned."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "certificate.py"

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def worlds():
    """Return the simulations."""
    spec = importlib.util.spec_from_file_location("certificate_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def keeps(rate, runs, promised=0.05):
    """Return whether a rate is no larger than promised, but for once in 1,000 times."""
    return rate <= promised + 3.1 * math.sqrt(promised * (1 - promised) / runs)


def test_pairs_of_image_and_condition_as_trials_break_the_promise_in_40_percent(worlds):
    found = worlds.pooled(0.55, 1_000)
    assert found["pooled pairs"] == pytest.approx(0.4, abs=0.06)
    assert keeps(found["hoeffding-bentkus"], 1_000)
    assert keeps(found["betting"], 1_000)


def test_at_the_correlation_of_real_networks_pairs_break_it_in_a_third(worlds):
    found = worlds.pooled(worlds.MEASURED, 1_000)
    assert found["pooled pairs"] > 0.3
    assert keeps(max(found["hoeffding-bentkus"], found["betting"]), 1_000)


@pytest.mark.parametrize("at_limit", [1, 75])
def test_every_condition_needs_no_correction(worlds, at_limit):
    found = worlds.every_condition(at_limit, 300)
    assert keeps(found["every condition"], 300)
    if at_limit == 1:
        assert found["every condition"] == found["one condition"] > 0


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_correlated_candidates_at_the_limit_keep_the_error_of_the_family(worlds, correlation):
    found = worlds.candidates(1_000, correlation=correlation)
    assert found["uncorrected, any false"] > 0.2
    assert keeps(found["holm, any false"], 1_000)
    assert keeps(found["chains, any false"], 1_000)


def test_good_candidates_are_certified_among_bad_ones(worlds):
    found = worlds.candidates(500, good=8)
    assert keeps(found["holm, any false"], 500)
    assert keeps(found["chains, any false"], 500)
    assert min(found["holm, power"], found["chains, power"]) > 0.85


def test_groups_of_very_different_sizes_are_the_units(worlds):
    found = worlds.grouped(1_000)
    assert found["images"] > 0.2
    assert keeps(found["hoeffding-bentkus"], 1_000)
    assert keeps(found["betting"], 1_000)


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        ("right or wrong", 0.2),
        ("right or wrong", 0.01),
        ("mean of 75 conditions", 0.2),
        ("excess, 3 % changed", 0.02),
        ("excess, 15 % changed", 0.02),
    ],
)
@pytest.mark.parametrize("count", [50, 1_000])
def test_every_kind_of_loss_at_its_limit_is_rarely_certified(worlds, kind, limit, count):
    found = worlds.certified(kind, limit, limit, 1_000, count=count)
    assert all(keeps(rate, 1_000) for rate in found.values()), found


def test_only_betting_certifies_a_small_excess_error(worlds):
    found = worlds.certified("excess, 3 % changed", 0.0, 0.02, 200, count=3_000)
    assert found["betting"] > 0.95
    assert found["hoeffding-bentkus"] < 0.05


@pytest.mark.parametrize("number", range(8))
def test_the_planned_units_have_the_planned_power(worlds, number):
    needed, power = worlds.planned(*worlds.PLANS[number], 1_000)
    assert power == pytest.approx(0.8, abs=0.05), needed
