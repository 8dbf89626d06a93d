"""Similarity of heat maps: cases by hand, invariances, and what is undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shrinkproof.errors import DataError, UsageError
from shrinkproof.metrics.similarity import (
    MEASURES,
    cosine,
    fisher_mean,
    pearson,
    spearman,
    ssim,
    top_overlap,
    varies,
    window_of,
)

PAIRS = arrays(
    np.float64,
    (2, 3, 6, 5),
    elements=st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3)),
)


def stack(*rows: list[float]) -> np.ndarray:
    """One 2x2 map per row."""
    return np.array(rows, dtype=np.float32).reshape(-1, 2, 2)


def test_correlation_by_hand() -> None:
    a, b = stack([1, 2, 3, 4], [1, 2, 3, 4]), stack([2, 4, 6, 8], [1, 3, 2, 4])
    assert pearson(a, b) == pytest.approx([1.0, 0.8])
    assert spearman(a, b) == pytest.approx([1.0, 0.8])


def test_rank_correlation_shares_the_mean_rank_among_ties() -> None:
    scipy = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (2, 20, 4, 4)).astype(float)
    expected = [scipy.spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    assert spearman(a, b) == pytest.approx(expected, abs=1e-12)


def test_correlation_equals_numpy() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 50, 7, 9))
    expected = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    assert pearson(a, b) == pytest.approx(expected, abs=1e-12)


def test_cosine_by_hand() -> None:
    assert cosine(stack([1, 0, 0, 0]), stack([1, 1, 0, 0])) == pytest.approx([0.5**0.5])
    assert cosine(stack([1, 0, 0, 0]), stack([0, 1, 0, 0])) == pytest.approx([0.0])


def test_hottest_pixels_by_hand() -> None:
    a = np.arange(20, dtype=float).reshape(1, 4, 5)
    assert top_overlap(a, a) == pytest.approx([1.0])
    # The two hottest are 19 and 18; with 18 and 0 exchanged one of them is left.
    b = a.copy()
    b.flat[[0, 18]] = b.flat[[18, 0]]
    assert top_overlap(a, b) == pytest.approx([0.5])
    assert top_overlap(a, -a) == pytest.approx([0.0])


def test_tied_pixels_share_the_places_that_are_left() -> None:
    # Two places, four pixels tied for them: each counts half.
    a = np.zeros((1, 4, 5))
    a.flat[:4] = 1
    assert top_overlap(a, a) == pytest.approx([1.0])
    b = np.zeros((1, 4, 5))
    b.flat[2:6] = 1
    assert top_overlap(a, b) == pytest.approx([0.5])


def test_the_order_of_pixels_plays_no_part_in_ties() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 3, (2, 10, 5, 4)).astype(float)
    order = rng.permutation(20)

    def mixed(maps: np.ndarray) -> np.ndarray:
        return maps.reshape(10, -1)[:, order].reshape(maps.shape)

    assert top_overlap(a, b) == pytest.approx(top_overlap(mixed(a), mixed(b)))


def test_hottest_pixels_overlap_by_chance_as_often_as_their_share_says() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 4000, 10, 10))
    assert top_overlap(a, b, 0.2).mean() == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize(
    ("size", "side"),
    [((4, 4), 3), ((7, 7), 5), ((8, 8), 7), ((11, 11), 9), ((12, 12), 11), ((3, 9), 1)],
)
def test_window_fits_into_small_maps(size: tuple[int, int], side: int) -> None:
    assert window_of(size) == side


def test_structural_similarity_equals_a_plain_loop_on_small_maps() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 5, 8, 6))
    side = window_of((8, 6))
    offset = np.arange(side) - side // 2
    weight = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    expected = []
    for x, y in zip(a, b, strict=True):
        x, y = ((m - m.min()) / (m.max() - m.min()) for m in (x, y))
        values = []
        for top in range(8 - side + 1):
            for left in range(6 - side + 1):
                p, q = (m[top : top + side, left : left + side] for m in (x, y))
                mx, my = (weight * p).sum(), (weight * q).sum()
                vx, vy = (weight * (p - mx) ** 2).sum(), (weight * (q - my) ** 2).sum()
                cov = (weight * (p - mx) * (q - my)).sum()
                values.append(
                    (2 * mx * my + 1e-4)
                    * (2 * cov + 9e-4)
                    / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
                )
        expected.append(np.mean(values))
    assert ssim(a, b) == pytest.approx(expected, abs=1e-12)


def test_structural_similarity_needs_four_rows_and_columns() -> None:
    a = np.arange(18, dtype=float).reshape(2, 3, 3)
    assert np.isnan(ssim(a, a)).all()


@pytest.mark.parametrize("name", MEASURES)
def test_constant_maps_are_undefined_and_others_beside_them_are_not(name: str) -> None:
    rng = np.random.default_rng(5)
    a = rng.random((3, 8, 8)).astype(np.float32)
    b = rng.random((3, 8, 8)).astype(np.float32)
    a[1] = 0
    found = MEASURES[name](a, b)
    assert np.isnan(found).tolist() == [False, True, False]


def test_a_constant_map_that_is_not_zero_has_a_cosine() -> None:
    assert cosine(stack([2, 2, 2, 2]), stack([1, 1, 1, 1])) == pytest.approx([1.0])
    assert np.isnan(pearson(stack([2, 2, 2, 2]), stack([1, 2, 3, 4]))).all()


def test_rounding_of_float32_does_not_make_a_constant_map_vary() -> None:
    value = np.float32(0.1)
    maps = np.full((1, 4, 4), value)
    maps[0, 0, 0] = np.nextafter(value, np.float32(1))
    assert not varies(maps).any()
    maps[0, 0, 0] *= np.float32(1.001)
    assert varies(maps).all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_maps_keep_their_correlation(scale: float) -> None:
    rng = np.random.default_rng(6)
    a, b = rng.random((2, 4, 5, 5))
    assert pearson(a * scale, b) == pytest.approx(pearson(a, b), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_and_shift_change_neither_correlation(pair, scale: float, shift: float) -> None:
    a, b = np.round(pair, 2)
    for measure in (pearson, ssim):
        before, after = measure(a, b), measure(a * scale + shift, b)
        both = ~(np.isnan(before) | np.isnan(after))
        assert np.allclose(before[both], after[both], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_every_measure_is_symmetric_and_in_its_range(pair) -> None:
    a, b = pair
    for name, measure in MEASURES.items():
        forth, back = measure(a, b), measure(b, a)
        assert np.allclose(forth, back, equal_nan=True)
        defined = forth[~np.isnan(forth)]
        assert (defined >= (0 if name == "topk" else -1 - 1e-12)).all()
        assert (defined <= 1 + 1e-12).all()


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_a_map_is_wholly_alike_itself(pair) -> None:
    for measure in MEASURES.values():
        found = measure(pair[0], pair[0])
        assert np.allclose(found[~np.isnan(found)], 1)


def test_mean_on_fishers_scale_by_hand() -> None:
    assert fisher_mean(np.array([0.5, 0.5])) == pytest.approx(0.5)
    expected = np.tanh((np.arctanh(0.9) + np.arctanh(0.1)) / 2)
    assert fisher_mean(np.array([0.9, 0.1])) == pytest.approx(expected)
    assert fisher_mean(np.array([1.0])) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="at least one correlation"):
        fisher_mean(np.array([]))


def test_no_images_give_no_numbers() -> None:
    empty = np.zeros((0, 8, 8))
    assert all(len(measure(empty, empty)) == 0 for measure in MEASURES.values())


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="same resolution"):
        pearson(np.zeros((2, 8, 8)), np.zeros((2, 4, 4)))


def test_maps_that_are_not_finite_are_refused() -> None:
    a = np.ones((2, 4, 4))
    a[1, 0, 0] = np.nan
    with pytest.raises(DataError, match="finite, got NaN or infinity for 1 of 2 images"):
        pearson(np.ones((2, 4, 4)), a)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="share"):
        top_overlap(np.ones((1, 4, 4)), np.ones((1, 4, 4)), 0)
