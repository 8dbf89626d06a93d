"""Ranges of activations: percentiles, least squares, relative entropy; by hand and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.compressors.observers import (
    BINS,
    CUTS,
    Extremes,
    Histogram,
    entropy_bins,
    entropy_range,
    grid_of,
    histogram_for,
    least_error_range,
    quantization_error,
    range_of,
)


def counted(values, rule):
    seen = Extremes()
    seen.see(values)
    histogram = histogram_for(rule, seen)
    histogram.see(values)
    return seen, histogram


def normal(count=100_000, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def fake_quantized(values, low, high):
    step, zero = grid_of(low, high)
    return ((values / step).round() + zero).clamp(0, 255).sub(zero) * step


def test_grid_by_hand():
    assert grid_of(0.0, 2.55) == (pytest.approx(0.01), 0)
    assert grid_of(-1.0, 4.1) == (pytest.approx(0.02), 50)
    assert grid_of(-5.1, -1.0) == (pytest.approx(0.02), 255)
    assert grid_of(0.0, 0.0) == (1 / 255, 0)


def test_values_on_a_grid_have_no_error():
    values = np.array([-1.0, 0.0, 0.02, 4.1])
    assert quantization_error(values, np.ones(4), -1.0, 4.1) == pytest.approx(0, abs=1e-20)
    # 10 is cut to 4.1, and 0.03 lies between two steps.
    error = quantization_error(np.array([10.0, 0.03]), np.array([2.0, 3.0]), -1.0, 4.1)
    assert error == pytest.approx(2 * 5.9**2 + 3 * 0.01**2)


def test_far_value_is_cut_off_where_that_lowers_the_error():
    values = torch.cat([normal(1_000_000), torch.tensor([60.0])])
    seen, histogram = counted(values, "mse")
    low, high = least_error_range(histogram)
    # (60 - h)**2 + 1e6 * ((h + 5) / 255)**2 / 12 is least at h = 23.5.
    assert high == pytest.approx(23.5, abs=1.0)
    assert -6 < low < -3
    before = (fake_quantized(values, seen.low, seen.high) - values).square().mean()
    assert (fake_quantized(values, low, high) - values).square().mean() < before


@pytest.mark.parametrize("sign", [1, -1])
def test_one_sided_values_keep_their_side(sign):
    values = sign * normal().abs()
    low, high = least_error_range(counted(values, "mse")[1])
    assert (low == 0.0) == (sign > 0)
    assert (high == 0.0) == (sign < 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_least_error_is_near_that_of_all_pairs_of_ends(seed):
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.standard_t(2, 4000).clip(-40, 15))
    _, histogram = counted(values, "mse")
    edges = np.linspace(histogram.low, histogram.high, BINS + 1)
    centers, counts = (edges[:-1] + edges[1:]) / 2, histogram.counts.numpy()
    got = quantization_error(centers, counts, *least_error_range(histogram))
    shares = np.arange(1, CUTS + 1) / CUTS
    best = min(
        quantization_error(centers, counts, a * histogram.low, b * histogram.high)
        for a in shares[::2]
        for b in shares[::2]
    )
    assert got <= 1.02 * best


def brute_force_entropy(counts, levels):
    """Return the divergence of each number of bins, as pytorch-quantization computes it.

    Ours leaves out those that put more than half of the values beyond the range.
    """
    bins = counts.astype(float).copy()
    bins[0] = bins[1]
    found = {}
    for kept in range(levels, len(bins) + 1):
        inside = bins[:kept]
        if bins[kept:].sum() > inside.sum():
            continue
        group = np.digitize(range(kept), np.linspace(0, kept, levels + 1)) - 1
        q = np.zeros(kept)
        for g in range(levels):
            members = (group == g) & (inside > 0)
            if members.any():
                q[members] = inside[members].mean()
        p = inside.copy()
        p[-1] += bins[kept:].sum()
        found[kept] = scipy.stats.entropy(p, q) if q.sum() else np.inf
    return found


@given(st.integers(0, 10_000), st.sampled_from([4, 8, 16]))
@settings(max_examples=60, deadline=None)
def test_entropy_agrees_with_the_published_procedure(seed, levels):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.uniform(0.2, 40) * np.exp(-np.arange(64) / rng.uniform(3, 60)))
    counts = counts.astype(float)
    counts[rng.integers(8, 64)] += rng.integers(0, 5)
    if counts[1:].sum() == 0:
        return
    expected = brute_force_entropy(counts, levels)
    got = entropy_bins(counts, levels)
    least = min(expected.values())
    assert expected[got] <= least + 1e-9
    assert all(value > least + 1e-13 for kept, value in expected.items() if kept > got)


def test_entropy_by_hand():
    # Two levels: pairs of equal counts lose nothing, so all four bins stay.
    assert entropy_bins(np.array([9.0, 4, 1, 1]), 2) == 4
    # Two bins: p = (10, 12) / 22, q = (10, 10) / 20, so 0.004. Three bins: p = (10, 10, 2) / 22,
    # q = (10, 10, 1) / 21, so 0.016. All eight average 10 and 1 and lose more.
    assert entropy_bins(np.array([0.0, 10, 1, 0, 0, 0, 0, 1]), 2) == 2
    assert entropy_bins(np.zeros(8), 2) == 8


def test_entropy_cuts_a_long_tail_and_keeps_short_sides():
    values = torch.cat([normal(), torch.tensor([50.0, -2.0])])
    values = values.clamp(min=-2.0)
    seen, histogram = counted(values, "entropy")
    low, high = entropy_range(histogram, seen)
    assert low == pytest.approx(-2.0)
    assert 2.0 < high < 20.0


@pytest.mark.parametrize("rule", ["percentile", "mse", "entropy"])
def test_ranges_lie_inside_the_extremes(rule):
    for values in (normal(), normal().relu(), normal().abs() + 3, -normal().abs() - 1):
        seen, histogram = counted(values, rule)
        low, high = range_of(rule, seen, histogram)
        # Zero is always covered, so a side without values may reach to it.
        assert min(seen.low, 0) - 1e-6 <= low < high <= max(seen.high, 0) + 1e-6


def test_extremes_are_the_range_of_minmax_and_of_constants():
    seen = Extremes()
    seen.see(torch.full((3,), 2.0))
    assert histogram_for("mse", seen) is None
    assert range_of("mse", seen, None) == (2.0, 2.0)
    seen.see(torch.zeros(1))
    assert histogram_for("minmax", seen) is None
    assert range_of("minmax", seen, None) == (0.0, 2.0)


def test_histogram_counts_every_value_once():
    values = normal(10_000)
    histogram = Histogram(float(values.min()), float(values.max()))
    for part in values.split(3000):
        histogram.see(part)
    assert histogram.counts.sum() == 10_000


def test_histogram_counts_beyond_what_float32_can():
    histogram = Histogram(0.0, 1.0)
    histogram.see(torch.zeros(1).expand(2**24 + 5))
    assert histogram.counts[0] == 2**24 + 5


@pytest.mark.parametrize("sign", [1, -1])
def test_entropy_keeps_values_that_lie_far_from_zero(sign):
    values = sign * (normal() / 10 + 10)
    low, high = entropy_range(*reversed(counted(values, "entropy")))
    error = (fake_quantized(values, low, high) - values).square().mean()
    # Half a step of the grid from zero to the far end.
    assert error < (10.5 / 255 / 2) ** 2
