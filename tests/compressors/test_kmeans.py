import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans

from shrinkproof.compressors import kmeans
from shrinkproof.compressors.kmeans import distortion, kmeans_1d, nearest
from shrinkproof.errors import CompressionError

STARTS = ("density", "linear", "kmeans++")


def best_distortion(values, k):
    """Try every division of the sorted values into k ranges."""
    values = np.sort(values)
    best = np.inf
    for cuts in combinations(range(1, len(values)), k - 1):
        parts = np.split(values, cuts)
        best = min(best, sum(((p - p.mean()) ** 2).sum() for p in parts))
    return best / len(values)


def test_two_obvious_clusters():
    values = np.array([[10.0, 0.0], [12.0, 2.0]], dtype=np.float32)
    centers, index = kmeans_1d(values, 2)
    assert centers.tolist() == [1.0, 11.0]
    assert centers.dtype == np.float32
    assert index.tolist() == [[1, 0], [1, 0]]
    assert distortion(values, centers, index) == 1.0


@pytest.mark.parametrize("start", STARTS)
def test_close_to_brute_force_on_tiny_inputs(start):
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(30):
        values = rng.normal(size=12)
        centers, index = kmeans_1d(values, 3, start, rng)
        ratios.append(distortion(values, centers, index) / best_distortion(values, 3))
    assert min(ratios) > 1 - 1e-6
    assert np.median(ratios) < 1.001
    assert max(ratios) < 1.8


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("levels", [4, 16, 64])
def test_not_worse_than_scikit_learn(start, levels):
    rng = np.random.default_rng(2)
    values = rng.laplace(0, 0.05, 4000).astype(np.float32)
    centers, index = kmeans_1d(values, levels, start, rng)
    fit = KMeans(levels, n_init=1, random_state=0).fit(values[:, None].astype(np.float64))
    # Both end in local optima; ours has been the better one but for rounding.
    assert distortion(values, centers, index) * len(values) <= 1.03 * fit.inertia_


def test_few_distinct_values_are_kept_exactly():
    values = np.array([0.1, -0.3, 0.1, 0.7], dtype=np.float32)
    centers, index = kmeans_1d(values, 16)
    assert len(centers) == 3
    assert np.array_equal(centers[index], values)


@pytest.mark.parametrize("start", STARTS)
def test_pinned_zero_is_exact_and_zeros_stay(start):
    rng = np.random.default_rng(3)
    values = rng.normal(0.2, 1, 2000).astype(np.float32)
    values[::3] = 0
    centers, index = kmeans_1d(values, 8, start, rng, pin_zero=True)
    assert len(centers) <= 8
    assert (centers == 0).sum() == 1
    assert not np.signbit(centers[centers == 0]).any()
    assert (centers[index][::3] == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    values=hnp.arrays(
        np.float32,
        st.integers(1, 80),
        elements=st.floats(-1000, 1000, width=32, allow_subnormal=False),
    ),
    levels=st.integers(2, 20),
    start=st.sampled_from(STARTS),
    pin_zero=st.booleans(),
)
def test_every_value_has_its_nearest_center(values, levels, start, pin_zero):
    rng = np.random.default_rng(0)
    centers, index = kmeans_1d(values, levels, start, rng, pin_zero=pin_zero)
    assert 1 <= len(centers) <= levels
    assert (np.diff(centers) > 0).all()
    assert not pin_zero or 0 in centers
    gap = np.abs(values[:, None].astype(np.float64) - centers)
    chosen = np.take_along_axis(gap, index[:, None], 1)[:, 0]
    assert (chosen <= gap.min(axis=1) + 1e-9).all()


def optimum(values, levels):
    """Return the least possible distortion: dynamic programming over all last ranges."""
    values = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0], np.cumsum(values)])
    squares = np.concatenate([[0], np.cumsum(values**2)])
    ends = np.arange(len(values) + 1)
    count = np.maximum(ends[None] - ends[:, None], 1)
    cost = squares[None] - squares[:, None] - (sums[None] - sums[:, None]) ** 2 / count
    cost[ends[None] < ends[:, None]] = np.inf
    best = cost[0]
    for _ in range(levels - 1):
        best = (best[:, None] + cost).min(axis=0)
    return best[-1] / len(values)


@pytest.mark.parametrize(("levels", "excess"), [(4, 0.005), (16, 0.02), (32, 0.08)])
@pytest.mark.parametrize("shape", ["normal", "laplace", "mixture"])
def test_close_to_the_optimum(shape, levels, excess):
    rng = np.random.default_rng(5)
    values = {
        "normal": rng.normal(0, 0.05, 1500),
        "laplace": rng.laplace(0, 0.05, 1500),
        "mixture": np.concatenate([rng.normal(m, s, 500) for m, s in ((0, 1), (0, 5), (4, 1))]),
    }[shape].astype(np.float32)
    centers, index = kmeans_1d(values, levels)
    best = optimum(values, levels)
    assert best * (1 - 1e-6) <= distortion(values, centers, index) <= best * (1 + excess)


@pytest.mark.parametrize("levels", [2, 16, 256, 300])
@pytest.mark.parametrize("outlier", [0.0, 1.0, 1e6, 3e38])
def test_table_finds_what_the_search_finds(levels, outlier):
    rng = np.random.default_rng(6)
    values = rng.normal(0, 0.05, kmeans.CELLS + kmeans.CHUNK + 7).astype(np.float32)
    values[17] = outlier
    centers = np.unique(rng.choice(values, levels))
    # Values on a border, and their neighbors.
    borders = ((centers[1:].astype(np.float64) + centers[:-1]) / 2).astype(np.float32)
    for k, near in enumerate((borders, np.nextafter(borders, -1), np.nextafter(borders, 1))):
        values[1000 * (k + 1) :][: len(near)] = near
    index = nearest(values.reshape(-1, 1), centers)
    expected = np.searchsorted((centers[1:].astype(np.float64) + centers[:-1]) / 2, values)
    assert index.shape == (len(values), 1)
    assert index.dtype == (np.uint8 if len(centers) <= 256 else np.uint16)
    np.testing.assert_array_equal(index[:, 0], expected)


@pytest.mark.parametrize("constant", [0.0, 0.3])
def test_equal_values_have_one_center(constant):
    values = np.full(kmeans.CELLS + 5, constant, np.float32)
    centers, index = kmeans_1d(values, 4)
    assert centers.tolist() == [np.float32(constant)]
    assert not index.any()


@pytest.mark.parametrize("pin_zero", [False, True])
@pytest.mark.parametrize("size", [40_000, 40_003])
def test_sums_over_blocks_change_nothing(monkeypatch, size, pin_zero):
    values = np.random.default_rng(7).normal(0.02, 0.05, size).astype(np.float32)
    centers, index = kmeans_1d(values, 24, pin_zero=pin_zero)
    monkeypatch.setattr(kmeans, "FEW", 0)
    other, index_too = kmeans_1d(values, 24, pin_zero=pin_zero)
    np.testing.assert_allclose(other, centers, rtol=1e-6)
    assert (index_too != index).mean() < 1e-4


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_floating_point_types_work(dtype):
    values = np.random.default_rng(8).normal(size=100_000).astype(dtype)
    centers, index = kmeans_1d(values, 16)
    assert len(centers) == 16
    gap = np.abs(values[:, None].astype(np.float64) - centers)
    assert np.array_equal(index, gap.argmin(axis=1))


@pytest.mark.slow
def test_memory_is_that_of_a_sorted_copy():
    script = (
        "import resource, numpy as np\n"
        "from shrinkproof.compressors.kmeans import kmeans_1d\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "values = np.random.default_rng(0).standard_normal(10_000_000, np.float32)\n"
        "kmeans_1d(values[:100_000], 16)\n"
        "before = peak()\n"
        "kmeans_1d(values, 16)\n"
        "print(peak() - before)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    # Sorted copy 40 MB, indices 10 MB, sums 10 MB.
    assert int(run.stdout) < 100e6


def test_deterministic():
    values = np.random.default_rng(4).normal(size=3000)
    one = kmeans_1d(values, 16)[0]
    assert np.array_equal(one, kmeans_1d(values, 16)[0])


@pytest.mark.parametrize(
    ("values", "levels", "start", "message"),
    [
        ([1.0, np.nan], 2, "density", "1 of them NaN"),
        ([], 2, "density", "at least one"),
        ([1.0], 0, "density", "at least 1, got 0"),
        ([1.0], 2, "kmeans++", "generator"),
    ],
    ids=["nan", "empty", "levels", "generator"],
)
def test_wrong_input_is_refused(values, levels, start, message):
    with pytest.raises(CompressionError, match=message):
        kmeans_1d(np.array(values), levels, start)
